"""Slice and Pad: what shortcuts without parameters are made of, and padding outside a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qadtr_edge.integer import graph as g

from .onnx_file import INPUT
from .reader_state import Reading, attributes_of, title
from .reader_values import Codes, Image, Move, Padded, Pending, Real, Unreadable, Value

if TYPE_CHECKING:
    import onnx

_ANY_BATCH = 2**31 - 1
"""The least end that leaves every number of images whole: exporters write INT_MAX or INT64_MAX."""


def sliced(reading: Reading, node: onnx.NodeProto) -> Value:
    """Slice: all of a tensor, or every n-th row and column from the first."""
    value = reading.value(node, 0)
    shape = _shape(reading, value)
    starts, ends, axes, steps = (_whole_numbers(reading, node, index) for index in range(1, 5))
    if starts is None or ends is None:
        raise Unreadable("slices as opsets below 10 write it")
    axes = [*range(len(starts))] if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise Unreadable("names not as many starts as ends, axes or steps")
    rank, stride = len(shape) + 1, [1] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis % rank
        whole = start == 0 and end >= (shape[at - 1] if at else _ANY_BATCH)
        if not whole or step < 1 or (step > 1 and at < max(rank - 2, 1)):
            raise Unreadable("cuts out a part of a tensor")
        if at:
            stride[at - 1] = step
    if set(stride) <= {1}:
        return cast(Value, value)
    if len(shape) != 3 or _is_channels_last(value):
        raise Unreadable("leaves out rows of what is no image with its channels first")
    pace = (stride[1], stride[2])
    size = (-(-extent // each) for extent, each in zip(shape[1:], pace, strict=True))
    made = (shape[0], *size)
    return _moved(reading, value, Move(lambda n, x, y: g.Subsample(n, x, y, pace), made,
                                       title(node)))  # fmt: skip


def padded(reading: Reading, node: onnx.NodeProto) -> Value:
    """Pad with zeros: channels, or the border of the image, which the next window takes over."""
    value = reading.value(node, 0)
    shape = _shape(reading, value)
    told = attributes_of(node)
    given = _whole_numbers(reading, node, 1)
    sides = [*told.whole_numbers("pads", ())] if given is None else given
    pads = _by_axis(sides, _whole_numbers(reading, node, 3), rank=len(shape) + 1)
    if told.word("mode", "constant") != "constant" or any(min(ends) < 0 for ends in pads.values()):
        raise Unreadable("pads with something else than a constant, or cuts")
    pads = {axis: ends for axis, ends in pads.items() if ends != (0, 0)}
    if not pads:
        return cast(Value, value)
    fill = reading.array(node, 2)
    if fill is not None and fill.size != 1:
        raise Unreadable("pads with more than one value")
    filled = told.real("value", 0.0) if fill is None else float(fill.astype(float).item())
    if filled != _zero(reading, value):
        raise Unreadable(f"pads with {filled:g}, which is not zero there")
    last = _is_channels_last(value)
    rows, columns, channels = (1, 2, 3) if last else (2, 3, 1)
    if len(shape) == 3 and set(pads) <= {rows, columns}:
        if isinstance(value, Padded):
            raise Unreadable("pads twice")
        (top, bottom), (left, right) = pads.get(rows, (0, 0)), pads.get(columns, (0, 0))
        assert value is not None, "Pad has an input"
        return Padded(value, (top, left, bottom, right))
    if len(shape) == 3 and set(pads) == {channels} and not last:
        before, after = pads[channels]
        made = (shape[0] + before + after, *shape[1:])
        return _moved(reading, value, Move(
            lambda n, x, y: g.PadChannels(n, x, y, before, after), made, title(node)
        ))  # fmt: skip
    raise Unreadable("pads neither channels nor the border of an image")


def _whole_numbers(reading: Reading, node: onnx.NodeProto, index: int) -> list[int] | None:
    """The constant behind an input, as integers; ``None`` where the node leaves it out."""
    array = reading.array(node, index)
    if array is None:
        return None
    if array.dtype.kind not in "iu":
        raise Unreadable(f"has {node.input[index]!r}, which is of {array.dtype}")
    return [int(value) for value in array.ravel()]


def _by_axis(sides: list[int], axes: list[int] | None, *, rank: int) -> dict[int, tuple[int, int]]:
    named = [*range(rank)] if axes is None else [axis % rank for axis in axes]
    if len(sides) != 2 * len(named):
        raise Unreadable(f"has {len(sides)} sides to pad for {len(named)} axes")
    return {axis: (sides[i], sides[len(named) + i]) for i, axis in enumerate(named)}


def _zero(reading: Reading, value: Value | None) -> int:
    """What stands for 0 in ``value``: the zero point of codes, 0 among reals."""
    if isinstance(value, Codes):
        return reading.build.tensors[value.tensor].zero_point - value.shift
    if isinstance(value, Image) and value.is_quantized:
        raise Unreadable("pads integers whose zero point is not known yet")
    return 0


def _shape(reading: Reading, value: Value | None) -> tuple[int, ...]:
    if isinstance(value, Image):
        return reading.build.tensors[INPUT].shape
    if isinstance(value, Codes | Real | Pending):
        return reading.stored_shape(value)
    raise Unreadable("moves a value that is not quantized")


def _is_channels_last(value: Value | None) -> bool:
    if isinstance(value, Image):
        return value.layout == "NHWC"
    return isinstance(value, Codes | Real) and value.channels_last


def _moved(reading: Reading, value: Value | None, move: Move) -> Value:
    if isinstance(value, Codes | Real | Pending):
        return reading.moved(value, move)
    raise Unreadable("moves the pixels of the image")
