"""``train``: a checkpoint from images, for one or several widths."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..errors import BadInput
from ..files import explained
from ..runs import Run, new_run, newest_unfinished, open_run
from ..types import Json
from . import completion, options, train_job
from .train_command import Command, spec_of

__all__ = ["Model", "Scales", "answer_accuracies", "fresh", "spec_of", "train"]

Model = Annotated[
    str,
    typer.Option(
        help="Network: resnet8 … resnet56, vgg11, vgg16, mobilenetv2, or your own module:function.",
        autocompletion=completion.names("model"),
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE.yaml",
        help="plain, plain-cycle, pbat, pbat-fp, dwq-pixel, dwq-patch, qadtr, triqdef, or a file.",
        autocompletion=completion.names("defence"),
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
Epochs = Annotated[
    float,
    typer.Option(min=0, help="Epochs of quantized training; of a defence at --bits 32 too."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Peak rate; default 0.1, 0.02 with --init. After float epochs a fifth of it (of the "
        "0.02 all), with --scales strict a tenth of that."
    ),
]
Scales = Annotated[
    str, typer.Option(help="tied (residual sums never round), strict (and powers of two), free.")
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="float32|bfloat16",
        help="Of the passes that make patches; bfloat16 is faster where the hardware has it.",
    ),
]
RunPath = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder, or a new one. What is unfinished there goes on."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the interrupted training of --run, or the newest, with its options.",
    ),
]


def train(
    context: typer.Context,
    *,
    recipe: Recipe = "plain",
    settings: Settings = None,
    data: options.Data = "signs",
    model: Model = "resnet8",
    bits: options.Bits = "32,8,4,2",
    init: Init = None,
    epochs: Epochs = 10,
    float_epochs: Annotated[
        float | None,
        typer.Option(min=0, help="Float epochs before; default: as --epochs, or 0 with --init."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on the first N images.")] = None,
    lr: Rate = None,
    batch: Annotated[int, typer.Option(min=2, help="Images a step, over all processes.")] = 128,
    scales: Scales = "tied",
    attack_precision: Precision = "float32",
    seed: options.Seed = 0,
    threads: options.Threads = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files into the run too.")
    ] = False,
    resume: Resume = False,
    run: RunPath = None,
    runs: options.RunsRoot = Path("runs"),
    data_root: options.DataRoot = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Train a network so that it classifies well at every width of --bits.

    An interrupted training goes on to the same weights: --resume. Several processes: torchrun
    --nproc-per-node N -m qadtr_edge train …
    """
    command = Command(
        recipe=recipe, settings=tuple(settings or ()), data=data, model=model, bits=bits or "",
        init=str(init) if init else None, epochs=epochs, float_epochs=float_epochs, limit=limit,
        lr=lr, batch=batch, scales=scales, attack_precision=attack_precision, seed=seed,
        threads=threads, device=device,
        data_root=str(data_root) if data_root else None, tensorboard=tensorboard,
    )  # fmt: skip
    if resume:
        run = _interrupted(run, runs)
        from ..train_state import command_in

        state = command_in(Run(run).train_state)
        command = command.resumed(state, given=_given(context))
    command.check()

    import torch

    from ..train_group import joined
    from ..train_state import alone

    torch.set_num_threads(command.threads)
    with joined(command.device) as group:
        job = train_job.prepared(command, group)
        if not group.is_first:  # the first process writes for all
            train_job.fit(job, Run(run or runs))
            return
        with fresh(run, runs) as target, alone(target.folder):
            console.say(
                f"Training {command.model} on {len(job.images)} images of {job.images.name} into "
                f"{target.folder}"
            )
            trained = train_job.fit(job, target)
            answer = train_job.keep(job, target, trained=trained)
    answer_accuracies(target.folder, answer.accuracies, as_json=as_json, images=answer.images,
                      more={"training": answer.measured})  # fmt: skip


@contextmanager
def fresh(folder: Path | None, root: Path) -> Iterator[Run]:
    """The run at ``folder``, or a new one under ``root``, into which a file can be written.

    A folder made here goes again when the block leaves neither checkpoint nor training state in it,
    so that a broken run is never the newest. Raises ``BadInput`` where nothing can be written.
    """
    is_older = folder is not None and folder.is_dir()
    run = Run(folder) if folder is not None else new_run(root)
    try:
        with explained(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=run.folder) as probe:
                probe.write(b"probe")
        yield run
    except KeyboardInterrupt:
        if run.train_state.exists():
            console.say(f"It goes on with: qadtr-edge train --resume --run {run.folder}")
        raise
    finally:
        if not (is_older or run.checkpoint.exists() or run.train_state.exists()):
            shutil.rmtree(run.folder, ignore_errors=True)


def _interrupted(folder: Path | None, root: Path) -> Path:
    """The folder of an unfinished training: ``folder``, or the newest under ``root``."""
    run = open_run(folder, root) if folder is not None else newest_unfinished(root)
    if run is None or not run.train_state.is_file():
        where = folder or f"any run of {root}"
        done = " It is finished." if run is not None and run.checkpoint.is_file() else ""
        raise BadInput(
            f"There is no interrupted training in {where}.{done}",
            "Leave --resume out to train from the start.",
        )
    return run.folder


def _given(context: typer.Context) -> list[str]:
    """The options on the command line or in the environment, by the names of their parameters."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in found.items() if source and source.name != "DEFAULT"]


def answer_accuracies(
    folder: Path,
    accuracies: dict[int, float],
    *,
    as_json: bool,
    images: int,
    more: Mapping[str, Json] | None = None,
) -> None:
    """Print the simulated accuracy of each width: a table, or one JSON document with ``more``."""
    if as_json:
        listed = [{"bits": bits, "accuracy": value} for bits, value in accuracies.items()]
        console.print_json({"run": str(folder), "n": images, "results": listed, **(more or {})})
        return
    rows = [(str(bits), f"{100 * value:.2f} %") for bits, value in accuracies.items()]
    console.print_table(
        ("bits", "simulated accuracy"), rows, title=f"{folder}, {images} test images"
    )
