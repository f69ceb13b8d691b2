"""A ``QuantNet`` as one ``.safetensors`` file: tensors, and a JSON header saying what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import cast, get_args, get_type_hints

import torch
from torch import nn

from .. import registry
from ..errors import BadInput
from ..files import replacing
from ..types import Json, QuantSpec
from .layers import PixelInput, WithPixels
from .prepare import prepare
from .quantnet import QuantNet

SCHEMA = 1
_HEADER = "qadtr_edge"
_REMEDY = "Train or quantize it again, or give another checkpoint."

ModelBuilder = Callable[[int, PixelInput | None], nn.Module]


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint is: model and data set by registry name, widths, classes, how it was made.

    ``trained_widths``: widths whose weights saw training at that width; the others were only
    calibrated. ``made_by``: recipe or method with its options.
    """

    model: str
    data: str
    classes: int
    image_px: int
    widths: tuple[int, ...]
    spec: QuantSpec
    class_names: tuple[str, ...] = ()
    trained_widths: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    made_by: Mapping[str, Json] = field(default_factory=dict)


def build_model(name: str, *, classes: int, pixel_input: PixelInput | None = None) -> nn.Module:
    """The torch module a registry name stands for, freshly initialised.

    ``module:function`` names a function of the user's own, from the number of classes to a
    classifier of normalised images. Raises ``BadInput`` when it is none.
    """
    builder = registry.resolve("model", name)
    if registry.is_own("model", name):
        return WithPixels(_made(builder, name, classes=classes), pixel_input or PixelInput())
    return cast(ModelBuilder, builder)(classes, pixel_input)


def _made(function: object, name: str, *, classes: int) -> nn.Module:
    remedy = "It is called with the number of classes and returns a torch module."
    if not callable(function):
        raise BadInput(f"{name} is no function.", remedy)
    try:
        signature(function).bind(classes)
    except (TypeError, ValueError) as error:  # ValueError: of one that tells no parameters
        raise BadInput(f"{name} cannot be called with a number: {error}.", remedy) from error
    try:
        module: object = function(classes)
    except Exception as error:  # the user's function, so the user's to mend
        raise BadInput(f"{name} raises {type(error).__name__}: {error}.", remedy) from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"{name} returns a {type(module).__name__}.", remedy)
    return module


def save(net: QuantNet, path: Path, *, facts: CheckpointFacts) -> None:
    """Write ``net`` to ``path``, whole or not at all; ``facts.notes`` gains the network's."""
    from safetensors.torch import save_file

    notes = dict.fromkeys((*facts.notes, *net.notes))
    header = {"schema": SCHEMA, **asdict(facts), "notes": list(notes)}
    tensors = {
        name: _positive(value).contiguous() if _is_scale(name) else value.contiguous()
        for name, value in net.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header, allow_nan=False)})


def read_facts(path: Path) -> CheckpointFacts:
    """The header of a checkpoint, without its weights. ``BadInput`` when it is not one of ours."""
    from safetensors import safe_open

    if not path.is_file():
        raise BadInput(
            f"There is no checkpoint {path}.",
            "Make one: `qadtr-edge train` or `qadtr-edge quantize`.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
        if header["schema"] != SCHEMA:
            raise BadInput(
                f"{path} has checkpoint schema {header['schema']}, this version reads {SCHEMA}.",
                "Update qadtr-edge.",
            )
        found = CheckpointFacts(
            model=header["model"],
            data=header["data"],
            classes=int(header["classes"]),
            image_px=int(header["image_px"]),
            widths=tuple(header["widths"]),
            spec=QuantSpec(**header["spec"]),
            class_names=tuple(header["class_names"]),
            trained_widths=tuple(header["trained_widths"]),
            notes=tuple(header["notes"]),
            made_by=dict(header["made_by"]),
        )
        _check(found)
        return found
    except BadInput:
        raise
    except Exception as error:  # safetensors raises its own untyped errors for damaged files
        reason = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"{path} is no readable qadtr-edge checkpoint ({reason}).", _REMEDY
        ) from error


def load(path: Path) -> tuple[QuantNet, CheckpointFacts]:
    """The network of a checkpoint, in evaluation mode, and its facts.

    Raises ``BadInput`` when the file is missing, damaged, or its tensors do not fit its model.
    """
    from safetensors.torch import load_file

    facts = read_facts(path)
    model = build_model(facts.model, classes=facts.classes)
    net = prepare(
        model, facts.spec, widths=facts.widths, classes=facts.classes, image_px=facts.image_px
    )
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{path} holds numbers that are not finite in {name}.", _REMEDY)
        if _is_scale(name) and not (tensor > 0).all():
            raise BadInput(f"{path} holds a scale that is not positive in {name}.", _REMEDY)
    try:
        for name, tensor in tensors.items():
            _make_room(net, name, tensor=tensor)
        net.load_state_dict(tensors)
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"{path} does not fit the model {facts.model}: {reason}.", _REMEDY
        ) from error
    net.notes = facts.notes
    return net.eval(), facts


def load_checkpoint(name: str | PathLike[str]) -> tuple[QuantNet, CheckpointFacts]:
    """``load`` of a file, or of a packaged model typed as ``zoo:NAME``.

    Raises ``UnknownName`` for a packaged model that is not there.
    """
    text = str(name)
    if not text.startswith(registry.ZOO):
        return load(Path(text))
    file = registry.path_of("packaged model", text.removeprefix(registry.ZOO))
    with as_file(files("qadtr_edge.zoo") / file) as path:
        return load(path)


def _check(facts: CheckpointFacts) -> None:
    """Raises ``ValueError`` for sizes and words that no network has."""
    if facts.image_px <= 0 or facts.classes <= 0:
        raise ValueError(f"{facts.classes} classes, images of {facts.image_px} pixels")
    for name, kind in get_type_hints(QuantSpec).items():
        word, words = getattr(facts.spec, name), get_args(kind)
        if words and isinstance(words[0], str) and word not in words:
            raise ValueError(f"{name} is {word!r}, not one of {', '.join(words)}")


def _is_scale(name: str) -> bool:
    return "scales" in name.split(".")


def _positive(scale: torch.Tensor) -> torch.Tensor:
    """The scale that the network computes with: training may have moved its parameter below 0."""
    return scale.abs().clamp_min(1e-8)


def _make_room(net: QuantNet, name: str, *, tensor: torch.Tensor) -> None:
    """Add the parameter ``name`` where folding or bias correction may have added it to a layer."""
    if not name.startswith("layers.") or ".norms." in name:
        return
    if name.endswith(".bias"):
        layer = net.get_submodule(name.removesuffix(".bias"))
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(tensor))
    elif ".shifts." in name:
        owner, _, key = name.rpartition(".")
        shifts = net.get_submodule(owner)
        assert isinstance(shifts, nn.ParameterDict)
        shifts[key] = nn.Parameter(torch.zeros_like(tensor))
