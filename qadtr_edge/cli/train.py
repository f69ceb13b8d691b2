"""``train``: a checkpoint from images, for one or several widths."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .. import console, registry
from ..errors import BadInput, UnknownName
from ..files import explained
from ..runs import Run, new_run
from ..types import FLOAT_BITS, Json, QuantSpec
from . import options

Model = Annotated[str, typer.Option(help="Network: resnet8 … resnet56, vgg11, vgg16, mobilenetv2.")]
Recipe = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE.yaml",
        help="plain, plain-cycle, pbat, pbat-fp, dwq-pixel, dwq-patch, qadtr, triqdef, or a file.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one option of the recipe, e.g. gir.variant=off; may be repeated.",
    ),
]
Init = Annotated[
    Path | None,
    typer.Option(help="Start from these float weights (.safetensors, or a torch file of tensors)."),
]
Scales = Annotated[
    str, typer.Option(help="tied (residual sums never round), strict (and powers of two), free.")
]


def train(
    *,
    recipe: Recipe = "plain",
    settings: Settings = None,
    data: options.Data = "signs",
    model: Model = "resnet8",
    bits: options.Bits = "32,8,4,2",
    init: Init = None,
    epochs: Annotated[float, typer.Option(min=0, help="Epochs of quantized training.")] = 10,
    float_epochs: Annotated[
        float | None,
        typer.Option(min=0, help="Float epochs before; default: as --epochs, or 0 with --init."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first N images.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak rate; default 0.1, 0.02 with --init.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images a step.")] = 128,
    scales: Scales = "tied",
    seed: options.Seed = 0,
    threads: options.Threads = 2,
    run: options.RunPath = None,
    runs: options.RunsRoot = Path("runs"),
    data_root: options.DataRoot = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Train a network so that it classifies well at every width of --bits."""
    widths = options.widths(bits or "32,8,4,2")
    if Path(recipe).suffix not in (".yaml", ".yml"):
        registry.path_of("defence", recipe)
    registry.path_of("model", model)
    spec = spec_of(scales)
    if float_epochs is None:
        float_epochs = 0 if init else epochs
    if float_epochs and FLOAT_BITS not in widths:
        raise BadInput(
            f"Float epochs need the width {FLOAT_BITS}, which --bits {bits} leaves out.",
            f"Give --bits {FLOAT_BITS},{bits}, or float weights: --init FILE --float-epochs 0.",
        )

    import torch

    from ..data import load
    from ..defences import recipes
    from ..defences.options import as_json as options_json
    from ..models import checkpoint
    from ..models.prepare import prepare
    from ..models.weights import load_weights, public_pixels
    from ..runs import record
    from ..train import TrainOptions, evaluate
    from ..train import train as fit

    torch.set_num_threads(threads)
    defence, resolved_recipe = recipes.build(recipe, settings=settings or (), seed=seed)
    images = load(data, "train", root=data_root, limit=limit)
    held = load(data, "calibration", root=data_root)
    classes = len(images.class_names)
    size_px = images.images.shape[-1]
    torch.manual_seed(seed)  # of the first weights
    module = checkpoint.build_model(
        model, classes=classes, pixel_input=public_pixels() if init else None
    )
    if init:
        load_weights(module, init)
    net = prepare(module, spec, widths=widths, classes=classes, image_px=size_px)
    chosen = TrainOptions(
        epochs=epochs if any(width != FLOAT_BITS for width in widths) else 0,
        float_epochs=float_epochs,
        batch=batch,
        lr=lr if lr is not None else (0.02 if init else 0.1),
        seed=seed,
    )
    with fresh(run, runs) as target:
        console.say(
            f"Training {model} on {len(images)} images of {images.name} into {target.folder}"
        )
        fit(
            net, images, calibration=held, defence=defence, options=chosen, log=target.log
        )  # fmt: skip
        test = load(data, "test", root=data_root)
        accuracies = evaluate(net, test)
        resolved: dict[str, Json] = {
            "recipe": defence.name, "recipe_options": options_json(resolved_recipe),
            "data": data, "model": model, "bits": list(widths), "seed": seed,
            "epochs": chosen.epochs, "float_epochs": chosen.float_epochs, "limit": limit,
            "lr": chosen.lr, "batch": batch, "scales": scales, "init": init.name if init else None,
            "threads": threads,
        }  # fmt: skip
        trained = tuple(width for width in widths if width == FLOAT_BITS or chosen.epochs)
        facts = checkpoint.CheckpointFacts(
            model=model, data=data, classes=classes, image_px=size_px, widths=widths, spec=net.spec,
            class_names=images.class_names, trained_widths=trained, made_by=resolved,
        )  # fmt: skip
        checkpoint.save(net, target.checkpoint, facts=facts)
        record(target, "train", options=resolved, inputs=(target.checkpoint,))
    answer_accuracies(target.folder, accuracies, as_json=as_json, images=len(test))


@contextmanager
def fresh(folder: Path | None, root: Path) -> Iterator[Run]:
    """The run at ``folder``, or a new one under ``root``, into which a file can be written.

    A folder made here goes again when the block leaves no checkpoint in it, so that a broken run
    is never the newest. Raises ``BadInput`` where nothing can be written.
    """
    is_older = folder is not None and folder.is_dir()
    run = Run(folder) if folder is not None else new_run(root)
    try:
        with explained(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=run.folder) as probe:
                probe.write(b"probe")
        yield run
    finally:
        if not is_older and run.folder.is_dir() and not run.checkpoint.exists():
            shutil.rmtree(run.folder, ignore_errors=True)


def spec_of(scales: str) -> QuantSpec:
    """The ``QuantSpec`` of a scale profile; ``UnknownName`` for another word."""
    match scales:
        case "tied" | "strict" | "free":
            return QuantSpec(scales=scales)
    raise UnknownName("scale profile", scales, ("tied", "strict", "free"))


def answer_accuracies(
    folder: Path, accuracies: dict[int, float], *, as_json: bool, images: int
) -> None:
    """Print the simulated accuracy of each width: a table, or one JSON document."""
    if as_json:
        listed = [{"bits": bits, "accuracy": value} for bits, value in accuracies.items()]
        console.print_json({"run": str(folder), "n": images, "results": listed})
        return
    rows = [(str(bits), f"{100 * value:.2f} %") for bits, value in accuracies.items()]
    console.print_table(
        ("bits", "simulated accuracy"), rows, title=f"{folder}, {images} test images"
    )
