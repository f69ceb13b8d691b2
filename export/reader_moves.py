"""Operators that move, compare or average codes: pooling, reshaping, transposing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.integer import graph as g

from .onnx_file import INPUT
from .reader_geometry import Geometry, Padding
from .reader_state import Reading, attributes_of, title
from .reader_values import Codes, Constant, Image, Move, Padded, Pending, Real, Unreadable, Value

if TYPE_CHECKING:
    import onnx

_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def moved(reading: Reading, node: onnx.NodeProto) -> Value:
    """MaxPool, Flatten, Reshape, Squeeze, Transpose: the grid stays as it is."""
    return _moved(reading, node, reading.value(node, 0))


def _moved(reading: Reading, node: onnx.NodeProto, value: Value | None) -> Value:
    if isinstance(value, Padded) and node.op_type == "Transpose":
        return replace(value, value=_moved(reading, node, value.value))
    before: Padding | None = None
    if isinstance(value, Padded):
        before = value.padding
        value = _pooled(reading, node, value)
    if isinstance(value, Image):
        return _image_moved(value, node)
    if not isinstance(value, Codes | Real | Pending):
        raise Unreadable("moves a value that is not quantized")
    if not isinstance(value, Pending) and value.channels_last:
        if attributes_of(node).whole_numbers("perm", ()) != _CHANNELS_FIRST:
            raise Unreadable("moves an image with its channels last")
        return replace(value, channels_last=False)
    shape = reading.stored_shape(value)
    if node.op_type == "MaxPool":
        move: Move | None = _max_pool(node, shape, before)
    else:
        move = _flatten(reading, node, shape)
    return value if move is None else reading.moved(value, move)


def shape_of(reading: Reading, node: onnx.NodeProto) -> Value:
    """Shape: N is not known, and stands as -1."""
    value = reading.value(node, 0)
    if isinstance(value, Image):
        return Constant(np.array([-1, *reading.build.tensors[INPUT].shape]))
    if isinstance(value, Codes):
        return Constant(np.array([-1, *reading.build.tensors[value.tensor].shape]))
    assert value is not None, "Shape has an input"
    return Constant(np.array([-1, *reading.shape(value)]))


def passed(reading: Reading, node: onnx.NodeProto) -> Value:
    """Identity and Dropout."""
    value = reading.value(node, 0)
    assert value is not None, "Identity has an input"
    return value


def averaged(reading: Reading, node: onnx.NodeProto) -> Value:
    """AveragePool, GlobalAveragePool and a ReduceMean over rows and columns."""
    source = reading.source(node)
    shape = reading.build.tensors[source].shape
    if len(shape) != 3:
        raise Unreadable("averages what is no image")
    told = attributes_of(node)
    pooled = (shape[0], 1, 1)
    if node.op_type == "GlobalAveragePool":
        return _global(node, source, pooled)
    if node.op_type == "ReduceMean":
        given = reading.array(node, 1)
        axes = told.whole_numbers("axes", ()) if given is None else given.ravel().tolist()
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise Unreadable("averages over something else than rows and columns")
        made = _global(node, source, pooled)
        if told.whole("keepdims", 1):
            return made
        flat = Move(lambda name, x, y: g.Flatten(name, x, y), (shape[0],), f"{title(node)}.flatten")
        return replace(made, shape=flat.shape, then=(flat,))
    window = Geometry(told)
    kernel = told.pair("kernel_shape")
    padding = window.padding(shape[1:], kernel)
    _check_window(node, window)
    if kernel == shape[1:] and not any(padding):
        return _global(node, source, pooled)  # as onnxruntime runs it: on integers
    counted = bool(told.whole("count_include_pad", 0))

    def make(name: str, y: str) -> g.Node:
        return g.AveragePool(name, source, y, kernel, window.stride, padding, counted)

    return Pending(
        title(node), (shape[0], *window.out(shape[1:], kernel, padding=padding)), make=make
    )


def _global(node: onnx.NodeProto, source: str, shape: tuple[int, ...]) -> Pending:
    return Pending(
        title(node), shape, lambda name, y: g.GlobalAveragePool(name, source, y), pooled=source
    )


def _check_window(node: onnx.NodeProto, window: Geometry) -> None:
    told = attributes_of(node)
    if told.whole("ceil_mode", 0) or window.dilation != (1, 1) or len(node.output) > 1:
        raise Unreadable("pools with ceil_mode, dilation or indices")


def _pooled(reading: Reading, node: onnx.NodeProto, value: Padded) -> Codes | Real:
    """What is padded with zeros before a MaxPool: nothing is below them, so that none is chosen."""
    inner = value.value
    if node.op_type != "MaxPool" or not isinstance(inner, Codes | Real):
        raise Unreadable("reads padded values, which only a convolution may")
    if reading.build.tensors[inner.tensor].low < 0:
        raise Unreadable("reads values below the zeros they are padded with")
    return inner


def _max_pool(node: onnx.NodeProto, shape: Sequence[int], before: Padding | None) -> Move:
    told = attributes_of(node)
    window, kernel = Geometry(told, before=before), told.pair("kernel_shape")
    if len(shape) != 3:
        raise Unreadable("pools what is no image")
    _check_window(node, window)
    padding = window.padding(shape[1:], kernel)

    def make(name: str, x: str, y: str) -> g.Node:
        return g.MaxPool(name, x, y, kernel, window.stride, padding)

    out = window.out(shape[1:], kernel, padding=padding)
    return Move(make, (shape[0], *out), title(node))


def _flatten(reading: Reading, node: onnx.NodeProto, shape: tuple[int, ...]) -> Move | None:
    """The move to one row a image; ``None`` where nothing changes."""
    told = attributes_of(node)
    row = (math.prod(shape),)
    match node.op_type:
        case "Transpose":
            order = told.whole_numbers("perm", ())
            if math.prod(shape[1:]) == 1 and order in (_CHANNELS_LAST, _CHANNELS_FIRST):
                return None  # of one row and column, so that nothing moves
            raise Unreadable("transposes an image inside the network")
        case "Flatten":
            target: tuple[int, ...] = row if told.whole("axis", 1) == 1 else ()
        case "Squeeze":
            given = reading.array(node, 1)
            axes = told.whole_numbers("axes", ()) if given is None else given.ravel().tolist()
            gone = {int(axis) % (len(shape) + 1) - 1 for axis in axes}
            kept = tuple(size for i, size in enumerate(shape) if i not in gone)
            target = kept if math.prod(kept) == row[0] else ()
        case _:
            target = _reshape_target(reading, node, shape)
    if target == shape:
        return None
    if target != row:
        raise Unreadable(f"reshapes {shape} to {target or 'another number of values'}")
    return Move(lambda name, x, y: g.Flatten(name, x, y), row, title(node))


def _reshape_target(
    reading: Reading, node: onnx.NodeProto, shape: tuple[int, ...]
) -> tuple[int, ...]:
    given = reading.array(node, 1)
    wanted = [] if given is None else [int(size) for size in given.ravel()]
    if not wanted or wanted[0] not in (-1, 0, 1):
        raise Unreadable("reshapes several images into one")
    sizes = [
        shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted[1:])
    ]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and math.prod(shape) % known == 0:
        sizes[sizes.index(-1)] = math.prod(shape) // known
    return tuple(sizes) if math.prod(sizes) == math.prod(shape) else ()


def _image_moved(image: Image, node: onnx.NodeProto) -> Value:
    order = attributes_of(node).whole_numbers("perm", ())
    if node.op_type == "Transpose" and image.layout == "NHWC" and order == _CHANNELS_FIRST:
        return replace(image, layout="NCHW")
    if node.op_type == "Transpose" and image.layout == "NCHW" and order == _CHANNELS_LAST:
        return replace(image, layout="NHWC")
    raise Unreadable("moves the pixels of the image")
