"""``quantize``: a checkpoint from a float model you already have, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console, registry
from ..errors import BadInput, UnknownName
from ..types import FLOAT_BITS, Json
from . import options
from .train import Model, Scales, answer_accuracies, fresh, spec_of


def quantize(
    *,
    weights: Annotated[Path, typer.Option(help="Float weights: .safetensors or a torch file.")],
    model: Model = "resnet20",
    data: options.Data = "cifar10",
    bits: options.Bits = "8",
    calibration: Annotated[
        str, typer.Option(help="Ranges by minmax, percentile (99.9 %) or mse (least squares).")
    ] = "mse",
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Shift each layer to the float mean output.")
    ] = False,
    raw_pixels: Annotated[
        bool,
        typer.Option(
            "--raw-pixels",
            help="The weights expect (pixel - 128) / 64; without it, ImageNet mean and deviation.",
        ),
    ] = False,
    mean: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Mean the weights expect, of pixels 0 to 255."),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Deviation the weights expect, of pixels 0 to 255."),
    ] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="The weights expect blue first; mean and std stay R,G,B.")
    ] = False,
    images: options.Images = 1000,
    scales: Scales = "tied",
    seed: options.Seed = 0,
    threads: options.Threads = 2,
    run: options.RunPath = None,
    runs: options.RunsRoot = Path("runs"),
    data_root: options.DataRoot = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Quantize a float model after training: scales from calibration images, weights untouched."""
    from ..quant.methods import METHODS

    widths = tuple(dict.fromkeys((FLOAT_BITS, *options.widths(bits or "8"))))
    registry.path_of("model", model)
    if calibration not in METHODS:
        raise UnknownName("calibration method", calibration, METHODS)
    if widths == (FLOAT_BITS,):
        raise BadInput("--bits 32 leaves nothing to quantize.", "Give widths from 2 to 8.")
    spec = spec_of(scales)
    own = _channels("--mean", mean), _channels("--std", std)
    if raw_pixels and any(own):
        raise BadInput("--raw-pixels is a mean and a deviation.", "Leave --mean and --std out.")

    import torch

    from ..data import load
    from ..models import checkpoint
    from ..models.calibrate import calibrate, correct_bias
    from ..models.layers import PixelInput
    from ..models.prepare import prepare
    from ..models.weights import IMAGENET_PIXELS, load_weights, reverse_channels
    from ..runs import record
    from ..train import evaluate

    torch.set_num_threads(threads)
    held = load(data, "calibration", root=data_root, limit=images)
    classes = len(held.class_names)
    pixels = (own[0] or IMAGENET_PIXELS[0], own[1] or IMAGENET_PIXELS[1])
    module = checkpoint.build_model(
        model, classes=classes, pixel_input=None if raw_pixels else PixelInput(*pixels)
    )
    load_weights(module, weights)
    if bgr:
        reverse_channels(module)
    size_px = held.images.shape[-1]
    net = prepare(module, spec, widths=widths, classes=classes, image_px=size_px)
    shown = torch.from_numpy(held.images)
    console.say(f"Calibrating {model} on {len(held)} images of {held.name}")
    with fresh(run, runs) as target:
        calibrate(net, shown, method=calibration, seed=seed)
        if bias_correction:
            correct_bias(net, shown)
        test = load(data, "test", root=data_root)
        accuracies = evaluate(net, test)
        resolved: dict[str, Json] = {
            "method": "post-training", "calibration": calibration,
            "bias_correction": bias_correction, "weights": weights.name, "model": model,
            "data": data, "bits": list(widths),
            "scales": scales, "images": len(held), "seed": seed, "raw_pixels": raw_pixels,
            "mean": mean, "std": std, "bgr": bgr,
        }  # fmt: skip
        facts = checkpoint.CheckpointFacts(
            model=model, data=data, classes=classes, image_px=size_px, widths=widths, spec=net.spec,
            class_names=held.class_names, trained_widths=(FLOAT_BITS,), made_by=resolved,
        )  # fmt: skip
        checkpoint.save(net, target.checkpoint, facts=facts)
        record(target, "quantize", options=resolved, inputs=(weights, target.checkpoint))
    answer_accuracies(target.folder, accuracies, as_json=as_json, images=len(test))


def _channels(option: str, text: str | None) -> tuple[float, ...] | None:
    """Three numbers of 0 to 255 as fractions of 255."""
    if text is None:
        return None
    try:
        found = tuple(float(word) / 255 for word in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3 or (option == "--std" and min(found) <= 0):
        raise BadInput(
            f"{option} {text!r} is not three numbers.", f"Give them: {option} 123.7,116.3,103.5."
        )
    return found
