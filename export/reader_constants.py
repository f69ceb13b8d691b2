"""What is known before any image is seen: constants, quantized weights, maps of single bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from .reader_build import LIMITS
from .reader_geometry import Attributes
from .reader_values import Array, Constant, Image, Quantized, Unreadable, Value, along

if TYPE_CHECKING:
    import onnx


def folded(
    node: onnx.NodeProto, inputs: Sequence[Value], *, told: Attributes, opset: int
) -> Value | None:
    """The known value ``node`` makes; ``None`` where it depends on more than one byte."""
    if not inputs:
        return None
    first, rest = inputs[0], inputs[1:]
    arrays = [value.array for value in rest if isinstance(value, Constant)]
    if isinstance(first, Quantized) and len(arrays) == len(rest):
        return _of_weights(node.op_type, first, arrays=arrays, told=told)
    if isinstance(first, Constant) and len(arrays) == len(rest):
        return _of_constants(node.op_type, [first.array, *arrays], told=told, opset=opset)
    images = [value for value in inputs if isinstance(value, Image)]
    if len(images) == 1 and len(inputs) <= 2 and node.op_type in (*_ELEMENTWISE, "Cast"):
        return _of_image(node, inputs, image=images[0])
    return None


def _of_weights(
    kind: str, value: Quantized, *, arrays: list[Array], told: Attributes
) -> Value | None:
    rank = value.codes.ndim
    if kind == "Identity":
        return value
    if kind == "Transpose":
        order = told.whole_numbers("perm", tuple(range(rank))[::-1])
        if sorted(order) != list(range(rank)):
            raise Unreadable("transposes its weights in no known order")
        axis = order.index(value.axis % rank) if rank else 0
        return Quantized(value.codes.transpose(order), value.scale, axis)
    if kind == "Reshape" and value.scale.size == 1:
        return replace(value, codes=_reshaped(value.codes, arrays[0]))
    return None


def _reshaped(array: Array, target: Array) -> NDArray[np.int64]:
    try:
        return cast(NDArray[np.int64], array.reshape([int(size) for size in target]))
    except ValueError as error:
        raise Unreadable("reshapes its weights to another size") from error


def _of_constants(kind: str, arrays: list[Array], *, told: Attributes, opset: int) -> Value | None:
    if kind == "DequantizeLinear":
        return _dequantized(arrays, told)
    try:
        made = _computed(kind, arrays, told=told, opset=opset)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise Unreadable("cannot be computed from its constants") from error
    return None if made is None else Constant(made)


def _dequantized(arrays: list[Array], told: Attributes) -> Value:
    codes, scale = arrays[0].astype(np.int64), np.asarray(arrays[1], np.float32)
    axis = told.whole("axis", 1)
    if scale.ndim > 1 or told.whole("block_size", 0):
        raise Unreadable("has weights quantized in blocks")
    if scale.size > 1 and (not -codes.ndim <= axis < codes.ndim or
                           scale.size != codes.shape[axis]):  # fmt: skip
        raise Unreadable("has a scale for each channel of another axis")
    if len(arrays) > 2:
        zero = arrays[2].astype(np.int64)
        if zero.shape != scale.shape and zero.size != 1:
            raise Unreadable("has zero points and scales of different shapes")
        codes = codes - along(zero, axis, rank=codes.ndim).astype(np.int64)
    return Quantized(codes, scale, axis if codes.ndim else 0)


def _computed(kind: str, arrays: list[Array], *, told: Attributes, opset: int) -> Array | None:
    """ONNX's own arithmetic, of the few operators that exporters leave among constants."""
    x, rest = arrays[0], arrays[1:]
    match kind:
        case "QuantizeLinear":
            return _quantized(x, rest, axis=told.whole("axis", 1))
        case "Clip":
            low, high = (*rest, None, None)[:2]
            return np.asarray(np.clip(x, low, high), x.dtype)
        case "Identity":
            return x
        case "Cast":
            from onnx import helper

            return x.astype(helper.tensor_dtype_to_np_dtype(told.whole("to", 1)))
        case "Gather":
            return np.take(x, rest[0].astype(np.int64), axis=told.whole("axis", 0))
        case "Concat":
            return np.concatenate(arrays, axis=told.whole("axis", 0))
        case "Unsqueeze" | "Squeeze":
            axes = rest[0].tolist() if rest else told.whole_numbers("axes", ())
            change = np.expand_dims if kind == "Unsqueeze" else np.squeeze
            return np.asarray(change(x, tuple(int(axis) for axis in np.ravel(axes))))
        case "Transpose":
            return x.transpose(told.whole_numbers("perm", tuple(range(x.ndim))[::-1]))
        case "Reshape":
            return x.reshape([int(size) for size in rest[0]])
        case "Slice" if len(rest) >= 2 and opset >= 10:
            return _sliced(x, rest)
        case "ConstantOfShape":
            return _filled(x, told)
        case _ if kind in _ELEMENTWISE and len(rest) == 1:
            return np.asarray(_ELEMENTWISE[kind](x, rest[0]))
    return None


def _sliced(x: Array, rest: list[Array]) -> Array:
    starts, ends = ([int(value) for value in bound.ravel()] for bound in rest[:2])
    axes = [int(axis) for axis in rest[2].ravel()] if len(rest) > 2 else range(len(starts))
    steps = [int(step) for step in rest[3].ravel()] if len(rest) > 3 else [1] * len(starts)
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        before = step < 0 and end < -x.shape[axis]  # ONNX's way to say: to the very first
        cut[axis] = slice(start, None if before else end, step)
    return x[tuple(cut)]


def _filled(sizes: Array, told: Attributes) -> Array:
    from onnx import TensorProto, numpy_helper

    shape = [int(size) for size in sizes.ravel()]
    if math.prod(shape) > _MOST_FILLED:
        raise Unreadable(f"fills {'x'.join(map(str, shape))} values")
    value = told.values.get("value")
    fill = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.zeros(1, "f4")
    return np.full(shape, fill.ravel()[0], fill.dtype)


def _quantized(x: Array, rest: list[Array], *, axis: int) -> Array:
    scale = along(rest[0], axis, rank=x.ndim).astype(np.float32)
    kind = rest[1].dtype if len(rest) > 1 else np.dtype(np.uint8)
    zero = along(rest[1].astype(np.int64), axis, rank=x.ndim) if len(rest) > 1 else np.int64(0)
    if kind.name not in LIMITS:
        raise Unreadable(f"quantizes to {kind.name}, not to 8 bits or fewer")
    low, high = LIMITS[kind.name]
    codes = np.rint(x.astype(np.float32) / scale) + zero
    held: Array = np.clip(codes, low, high).astype(np.int64).astype(kind)
    return held


_MOST_FILLED = 2**16
_ELEMENTWISE = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
}  # fmt: skip


def _of_image(node: onnx.NodeProto, inputs: Sequence[Value], *, image: Image) -> Value | None:
    """A normalisation inside the file: of each byte, so of the table of all bytes."""
    if node.op_type == "Cast":
        return replace(image, is_quantized=False)
    if image.is_quantized:
        return None
    operands = [_by_channel(value, image) for value in inputs]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = _ELEMENTWISE[node.op_type](*operands).astype(np.float32)
    if not np.isfinite(values).all():
        raise Unreadable("makes values of the image that are not numbers")
    return replace(image, values=values)


def _by_channel(value: Value, image: Image) -> NDArray[np.float32]:
    """``(3, 256)``, or what broadcasts against it: one number, or one a channel."""
    if isinstance(value, Image):
        return value.values
    if not isinstance(value, Constant):
        raise Unreadable("combines the image with a value that is not constant")
    array = value.array.astype(np.float32)
    if array.size == 1:
        return array.reshape(())
    place = -3 if image.layout == "NCHW" else -1
    if array.size == 3 and array.ndim >= -place and array.shape[place] == 3:
        return array.reshape(3, 1)
    raise Unreadable("combines the image with more than one number a channel")
