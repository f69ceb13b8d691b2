"""The last product of a file, which quantizers like to leave in float: its weights get 8 bits here.

Where it reads a mean over the image that is not quantized either, a small product is taken of all
positions at once, with the weights of a channel at each of them, so that the mean is not rounded.
In front of a large one it is rounded to the grid of what it is the mean of, which it cannot leave.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.integer import graph as g

from .reader_state import Reading, title
from .reader_values import Constant, Move, Pending, Quantized, Unreadable

if TYPE_CHECKING:
    import onnx

    from .reader_file import Source

NOTE = "the last product is in float in the file: its weights were rounded to 8 bits per channel"
ROUNDED = "the mean before the last product is in float in the file: it was rounded to 8 bits"
_BEHIND = {"Softmax", "LogSoftmax", "Identity", "Reshape", "Flatten", "Squeeze", "Add"}
_HIGH = 127
MOST_WEIGHTS = 2**22
"""Of a product over all positions: the head of a small classifier, in a few megabytes."""


def head_of(source: Source) -> str:
    """The value that the last product writes: a sum, a Softmax or a reshape may stand behind it."""
    writers = {output: node for node in source.nodes for output in node.output}
    name = source.output
    while name in writers and writers[name].op_type in _BEHIND:
        known = [each for each in writers[name].input if each in writers]
        if not known:
            break
        name = known[0]
    return name


def features(reading: Reading, node: onnx.NodeProto, *, transposed: bool) -> tuple[str, Quantized]:
    """The tensor that a matrix product reads, and its weights: ``(O, F)`` when ``transposed``."""
    weight, x = reading.value(node, 1), reading.value(node, 0)
    if node.output[0] != reading.head:
        return reading.source(node), reading.weight(node)
    if isinstance(weight, Constant):
        weight = _rounded(weight, transposed=transposed)
        reading.build.notes[NOTE] = None
    if not isinstance(weight, Quantized):
        raise Unreadable("has weights that are not quantized")
    if not isinstance(x, Pending) or x.pooled is None or x.low != -np.inf or x.high != np.inf:
        return reading.source(node), weight
    image = reading.build.tensors[x.pooled]
    channels, rows, columns = image.shape
    count, axis = rows * columns, 1 if transposed else 0
    if weight.codes.ndim != 2 or weight.codes.shape[axis] != channels:
        raise Unreadable(f"has weights {weight.codes.shape} and reads {channels} means")
    if weight.codes.size * count > MOST_WEIGHTS:
        reading.build.notes[ROUNDED] = None
        mean = x.limited(image.scale * image.low, image.scale * image.high)
        codes = reading.build.quantized(
            mean, scale=image.scale, zero=image.zero_point, kind="uint8"
        )  # fmt: skip
        return codes.tensor, weight
    row = (channels * count,)
    flat = Move(lambda name, y, z: g.Flatten(name, y, z), row, f"{title(node)}.positions")
    everywhere = replace(
        weight,
        codes=np.repeat(weight.codes, count, axis=axis),
        scale=(weight.scale.astype(np.float64) / count).astype(np.float32),
    )
    return reading.build.moved(x.pooled, flat), everywhere


def _rounded(weight: Constant, *, transposed: bool) -> Quantized:
    """The nearest int8 codes with a scale for each output."""
    real = weight.array.astype(np.float64)
    if real.ndim != 2 or not np.isfinite(real).all():
        raise Unreadable("has weights that are no matrix of numbers")
    out = 0 if transposed else 1
    largest = np.abs(real).max(axis=1 - out, initial=0)
    scale = np.where(largest > 0, largest / _HIGH, 1.0).astype(np.float32)
    codes = np.rint(real / np.expand_dims(scale, 1 - out)).astype(np.int64)
    return Quantized(np.clip(codes, -_HIGH, _HIGH), scale, out)
