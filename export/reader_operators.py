"""What each ONNX operator means for the integer graph. One function an operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.integer import graph as g

from .reader_build import LIMITS, requantized
from .reader_constants import folded
from .reader_geometry import Geometry
from .reader_head import features
from .reader_moves import averaged, moved, passed, shape_of
from .reader_pads import padded, sliced
from .reader_state import Reading, attributes_of, title
from .reader_values import (
    Codes,
    Constant,
    Image,
    Padded,
    Pending,
    Quantized,
    Real,
    Scores,
    Unknown,
    Unreadable,
    Value,
)  # fmt: skip
from .reader_weights import biased, convolution, matrix_product, scaled

if TYPE_CHECKING:
    import onnx


def read(reading: Reading, node: onnx.NodeProto) -> Value:
    """What ``node`` makes. Raises ``Unreadable`` for what has no place in an integer graph."""
    inputs = [reading.values[name] for name in node.input if name]
    if any(isinstance(value, Unknown) for value in inputs):
        return Unknown()
    if node.domain not in ("", "ai.onnx") and node.op_type not in _QUANTIZING:
        raise Unreadable(f"is of the domain {node.domain}")
    known = folded(node, inputs, told=attributes_of(node), opset=reading.opset)
    if known is not None:
        return known
    if inputs and isinstance(inputs[0], Scores) and node.op_type in _AFTER_SCORES:
        return inputs[0]
    if node.op_type not in _OPERATORS:
        raise Unreadable("is an operator that has no place in the integer graph")
    return _OPERATORS[node.op_type](reading, node)


# -- onto the grid and off it ----------------------------------------------------------------------


def _quantize(reading: Reading, node: onnx.NodeProto) -> Value:
    scale, zero, kind = _grid(reading, node)
    source = reading.value(node, 0)
    if isinstance(source, Padded):
        return replace(source, value=_onto(reading, source.value, scale, zero, kind))
    return _onto(reading, source, scale, zero, kind)


def _onto(reading: Reading, source: Value | None, scale: float, zero: int, kind: str) -> Codes:
    if isinstance(source, Image):
        if source.is_quantized:
            raise Unreadable("quantizes integers")
        return reading.build.image(source, scale=scale, zero=zero, kind=kind, bgr=reading.bgr)
    if source is None or isinstance(source, Scores):
        raise Unreadable("quantizes nothing")
    return reading.build.quantized(source, scale=scale, zero=zero, kind=kind)


def _dequantize(reading: Reading, node: onnx.NodeProto) -> Value:
    scale, zero, kind = _grid(reading, node)
    given = reading.value(node, 0)
    source = given.value if isinstance(given, Padded) else given
    if isinstance(source, Image) and source.is_quantized:
        source = reading.build.image(source, scale=scale, zero=zero, kind=kind, bgr=reading.bgr)
    if not isinstance(source, Codes):
        raise Unreadable("dequantizes a value that was not quantized")
    x = reading.build.tensors[source.tensor]
    if (x.scale, x.zero_point) != (scale, zero + source.shift):
        raise Unreadable("has another scale or zero point than its input was quantized with")
    made = Real(x.name, source.channels_last)
    return replace(given, value=made) if isinstance(given, Padded) else made


def _grid(reading: Reading, node: onnx.NodeProto) -> tuple[float, int, str]:
    """Scale, zero point and container of one tensor of activations."""
    scale, zero = reading.array(node, 1), reading.array(node, 2)
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        raise Unreadable("quantizes activations per channel")
    source = reading.value(node, 0)
    kind = "uint8" if zero is None else zero.dtype.name
    if zero is None and isinstance(source, Codes):
        kind = "int8" if source.shift else "uint8"
    if kind not in LIMITS:
        raise Unreadable(f"quantizes to {kind}, not to 8 bits or fewer")
    return float(np.float32(scale.item())), 0 if zero is None else int(zero.item()), kind


# -- products --------------------------------------------------------------------------------------


def _conv(reading: Reading, node: onnx.NodeProto) -> Value:
    weight, x = reading.weight(node), reading.value(node, 0)
    source = reading.tensor(x.value if isinstance(x, Padded) else x)
    return convolution(
        title(node), reading.build.tensors[source], weight=weight, bias=reading.value(node, 2),
        geometry=Geometry(attributes_of(node), before=x.padding if isinstance(x, Padded) else None),
        reversed_channels=source in reading.build.backwards,
    )  # fmt: skip


def _gemm(reading: Reading, node: onnx.NodeProto) -> Value:
    told = attributes_of(node)
    if told.real("alpha", 1) != 1 or told.real("beta", 1) != 1 or told.whole("transA", 0):
        raise Unreadable("scales or transposes its input")
    transposed = bool(told.whole("transB", 0))
    source, weight = features(reading, node, transposed=transposed)
    return matrix_product(
        title(node), reading.build.tensors[source], weight=weight,
        bias=reading.value(node, 2), transposed=transposed,
    )  # fmt: skip


def _matmul(reading: Reading, node: onnx.NodeProto) -> Value:
    source, weight = features(reading, node, transposed=False)
    return matrix_product(
        title(node), reading.build.tensors[source], weight=weight, bias=None, transposed=False
    )


def _batch_norm(reading: Reading, node: onnx.NodeProto) -> Value:
    vectors = [reading.array(node, index) for index in range(1, 5)]
    value = reading.value(node, 0)
    if not isinstance(value, Pending) or any(vector is None for vector in vectors):
        raise Unreadable("normalises a value that is not the result of a product")
    gain, shift, mean_, variance = (np.asarray(vector, np.float64) for vector in vectors)
    epsilon = attributes_of(node).real("epsilon", 1e-5)
    factor = gain / np.sqrt(variance + epsilon)
    return scaled(value, factor, plus=shift - mean_ * factor)


# -- sums, products, functions of one value --------------------------------------------------------


def _add(reading: Reading, node: onnx.NodeProto) -> Value:
    a, b = reading.value(node, 0), reading.value(node, 1)
    if isinstance(a, Constant | Quantized):
        a, b = b, a
    if isinstance(a, Pending) and isinstance(b, Constant | Quantized):
        return biased(a, b)
    if isinstance(a, Real) and isinstance(b, Real):
        left, right = a.tensor, b.tensor
        shape = _one_shape(reading, left, right)
        return Pending(title(node), shape, lambda name, y: g.Add(name, left, right, y))
    if isinstance(a, Real | Pending) and isinstance(b, Real | Pending):
        shapes = {reading.shape(part) for part in (a, b)}
        if len(shapes) != 1:
            raise Unreadable("adds tensors of different shapes")
        return Pending(title(node), shapes.pop(), operands=(a, b))
    raise Unreadable("adds a constant to what is not the result of a product")


def _mul(reading: Reading, node: onnx.NodeProto) -> Value:
    a, b = reading.value(node, 0), reading.value(node, 1)
    if isinstance(a, Constant):
        a, b = b, a
    if isinstance(a, Pending) and isinstance(b, Constant):
        return scaled(a, b.array.astype(np.float64), plus=np.zeros(1))
    if isinstance(a, Real) and isinstance(b, Real):
        left, right = a.tensor, b.tensor
        shape = _one_shape(reading, left, right)
        return Pending(title(node), shape, lambda name, y: g.Mul(name, left, right, y))
    raise Unreadable("multiplies values that are not both quantized")


def _one_shape(reading: Reading, a: str, b: str) -> tuple[int, ...]:
    shapes = reading.build.tensors[a].shape, reading.build.tensors[b].shape
    if shapes[0] != shapes[1]:
        raise Unreadable("combines tensors of different shapes")
    return shapes[0]


def _relu(reading: Reading, node: onnx.NodeProto) -> Value:
    return _limited(reading, node, low=0.0, high=np.inf)


def _clip(reading: Reading, node: onnx.NodeProto) -> Value:
    bounds = [reading.array(node, 1), reading.array(node, 2)]
    told = attributes_of(node)
    value = reading.value(node, 0)
    if isinstance(value, Codes):
        low, high = (
            (-128, 255)[i] if bound is None else int(bound.item()) for i, bound in enumerate(bounds)
        )
        alone = reading.readers[node.input[0]] == 1
        return reading.build.clamped(value, low=low, high=high, name=title(node), alone=alone)
    low_real, high_real = (
        told.real(name, default) if bound is None else float(bound.item())
        for (name, default), bound in zip((("min", -np.inf), ("max", np.inf)), bounds, strict=True)
    )
    return _limited(reading, node, low=low_real, high=high_real)


def _limited(reading: Reading, node: onnx.NodeProto, *, low: float, high: float) -> Value:
    value = reading.value(node, 0)
    if isinstance(value, Real):
        value = requantized(reading.build.tensors[value.tensor], name=title(node))
    if not isinstance(value, Pending):
        raise Unreadable("limits a value that is not quantized")
    return value.limited(low, high)


def _sigmoid(reading: Reading, node: onnx.NodeProto) -> Value:
    source = reading.source(node)
    shape = reading.build.tensors[source].shape
    return Pending(title(node), shape, lambda name, y: g.Sigmoid(name, source, y))


def _concat(reading: Reading, node: onnx.NodeProto) -> Value:
    parts = [reading.values[name] for name in node.input]
    names = tuple(part.tensor for part in parts if isinstance(part, Real))
    if len(names) != len(parts):
        raise Unreadable("joins values that are not all quantized")
    shapes = [reading.build.tensors[name].shape for name in names]
    rank = len(shapes[0]) + 1
    if attributes_of(node).whole("axis", 1) % rank != 1 or len({s[1:] for s in shapes}) != 1:
        raise Unreadable("joins along something else than channels")
    shape = (sum(s[0] for s in shapes), *shapes[0][1:])
    return Pending(title(node), shape, lambda name, y: g.Concat(name, names, y))


def _softmax(reading: Reading, node: onnx.NodeProto) -> Value:
    reading.build.notes["the Softmax at the end is left out: it keeps the order of the logits"] = (
        None
    )
    return Scores(node.input[0])


_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_AFTER_SCORES = (*_QUANTIZING, "Softmax", "LogSoftmax", "Identity", "Reshape", "Flatten", "Squeeze")
_OPERATORS: dict[str, Callable[[Reading, onnx.NodeProto], Value]] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "Conv": _conv, "Gemm": _gemm,
    "MatMul": _matmul, "BatchNormalization": _batch_norm, "Add": _add, "Mul": _mul, "Relu": _relu,
    "Clip": _clip, "Sigmoid": _sigmoid, "Concat": _concat, "Softmax": _softmax,
    "LogSoftmax": _softmax, "ReduceMean": averaged, "GlobalAveragePool": averaged,
    "AveragePool": averaged, "MaxPool": moved, "Flatten": moved, "Reshape": moved,
    "Slice": sliced, "Pad": padded, "Squeeze": moved, "Transpose": moved, "Identity": passed,
    "Dropout": passed, "Shape": shape_of,
}  # fmt: skip
