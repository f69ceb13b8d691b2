"""What a file's input takes, agreed between the file and what the user says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from qadtr_edge.data.preprocess import EXAMPLE, SUFFIX, Layout, Preprocess, raw
from qadtr_edge.errors import BadInput, Unsupported

MOST_SIDE_PX = 4096
BACKGROUND_FIRST = 1001
"""ImageNet's 1,000 classes behind one for "background", as TensorFlow's models have them."""

_RANGES = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclass(frozen=True)
class Form:
    """What a file says of its input: NumPy's name of the type; sizes, ``None`` where left open."""

    path: Path
    kind: str
    dims: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Contract:
    """The input of a file: ``size`` is rows and columns; ``is_integer``: it takes containers.

    ``batch``: the number of images it insists on, or ``None``.
    """

    preprocess: Preprocess
    size: tuple[int, int]
    is_integer: bool
    batch: int | None

    def class_offset(self, outputs: int) -> int:
        """How many leading outputs are no class: as told, else the background of 1,001."""
        told = self.preprocess.class_offset
        return int(outputs == BACKGROUND_FIRST) if told is None else told


def contract(form: Form, told: Preprocess | None) -> Contract:
    """Raises ``BadInput`` for an unclear input, ``Unsupported`` for one that is no image."""
    path, kind, dims = form.path, form.kind, form.dims
    layout = _layout(form)
    if told is None:
        if kind not in _RANGES:
            raise BadInput(
                f"{path} takes {kind} images, and nothing says how pixels become those.",
                f"Write {path.with_suffix(SUFFIX)} beside it, or name one with "
                f"--preprocess; for example:{EXAMPLE}",
            )
        told = raw(layout, offset=_RANGES[kind][0])
    if told.layout != layout:
        raise BadInput(
            f"The preprocessing says {told.layout}, but {path} takes {layout}: {dims}.",
            f'Write layout = "{layout}".',
        )
    if kind in _RANGES:
        low, high = _RANGES[kind]
        values = told.values
        if (values != np.rint(values)).any() or values.min() < low or values.max() > high:
            raise BadInput(
                f"{path} takes {kind} images, and the preprocessing makes others of pixels.",
                f"Use scale = 1 and offset = {low}.",
            )
    elif kind != "float32":
        raise Unsupported(
            f"{path} takes {kind} images.", "Export it with float32, uint8 or int8 input."
        )
    rows, columns = (dims[2], dims[3]) if layout == "NCHW" else (dims[1], dims[2])
    size = (rows or told.size_px, columns or told.size_px)
    if None in size:
        raise BadInput(
            f"{path} leaves the size of its images open.",
            "Write size_px = 224, or whatever it was trained on, into its preprocessing file.",
        )
    found = cast(tuple[int, int], size)
    if max(found) > MOST_SIDE_PX:
        raise Unsupported(
            f"{path} takes images of {found[0]} x {found[1]} pixels.",
            f"Use a model for at most {MOST_SIDE_PX} pixels a side.",
        )
    return Contract(replace(told, size_px=None), found, kind in _RANGES, dims[0])


def _layout(form: Form) -> Layout:
    dims = form.dims
    if len(dims) == 4:
        if dims[1] == 3:
            return "NCHW"
        if dims[3] == 3:
            return "NHWC"
    shown = "x".join("?" if size is None else str(size) for size in dims)
    raise Unsupported(
        f"{form.path} takes {shown or 'no'} values, which is no batch of RGB images.",
        "Use a classifier of images with three channels.",
    )
