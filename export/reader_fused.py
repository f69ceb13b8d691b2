"""Operators that are quantized themselves, as onnxruntime's QOperator format has them.

Each stands for a float operator between DequantizeLinear and QuantizeLinear, and is read as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from .reader_state import Reading, attributes_of
from .reader_values import Constant, Quantized, Unreadable

if TYPE_CHECKING:
    import onnx

_ONE = {  # of one input and a grid before and behind it
    "QLinearGlobalAveragePool": "GlobalAveragePool", "QLinearAveragePool": "AveragePool",
    "QLinearSigmoid": "Sigmoid", "QLinearSoftmax": "Softmax",
}  # fmt: skip
_TWO = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
_PRODUCTS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}
FUSED = {*_ONE, *_TWO, *_PRODUCTS, "QLinearConcat"}

_DROPPED = {"channels_last", "opset"}
"""Attributes that the float operators do not have."""


def unfused(reading: Reading, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """``node`` as float nodes in order, the constants they need put among the values.

    The last one writes what ``node`` writes. Raises ``Unreadable`` for what it cannot stand for.
    """
    from onnx import helper

    if attributes_of(node).whole("channels_last", 0):
        raise Unreadable("holds its channels last")
    names = (f"{node.output[0]}:{number}" for number in count())
    kind = node.op_type
    grids, output = _operands(node)
    if any(len(inputs) < 2 or not all(inputs[:2]) for inputs in grids):
        raise Unreadable("lacks an operand or its scale")
    reals = []
    for place, inputs in enumerate(grids):
        axis = _weight_axis(reading, node, inputs[1]) if kind in _PRODUCTS and place == 1 else None
        made = helper.make_node("DequantizeLinear", inputs, [next(names)])
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        reals.append(made.output[0])
        yield made
    bias = {"QLinearConv": 8, "QGemm": 6}.get(kind, len(node.input))
    if bias < len(node.input) and node.input[bias]:
        name = next(names)
        reading.values[name] = _bias(reading, node, node.input[bias])
        reals.append(name)
    core = {**_ONE, **_TWO, **_PRODUCTS}.get(kind, "Concat")
    result = next(names) if output else node.output[0]
    float_node = helper.make_node(core, reals, [result], name=node.name)
    float_node.attribute.extend(a for a in node.attribute if a.name not in _DROPPED)
    yield float_node
    if output:
        yield helper.make_node("QuantizeLinear", [result, *output], list(node.output[:1]))


def _operands(node: onnx.NodeProto) -> tuple[list[Sequence[str]], Sequence[str]]:
    """The (value, scale, zero point) of each operand, and scale and zero point of the result."""
    given = list(node.input)
    if node.op_type in _ONE:
        return [given[:3]], given[3:5]
    if node.op_type == "QLinearConcat":
        return [given[i : i + 3] for i in range(2, len(given), 3)], given[:2]
    behind = 7 if node.op_type == "QGemm" else 6
    return [given[:3], given[3:6]], [name for name in given[behind : behind + 2] if name]


def _weight_axis(reading: Reading, node: onnx.NodeProto, scale: str) -> int | None:
    """The axis of the output channels, where weights have a scale for each."""
    value = reading.values[scale]
    if not isinstance(value, Constant) or value.array.size == 1:
        return None
    if node.op_type == "QLinearConv":
        return 0
    return 0 if attributes_of(node).whole("transB", 0) else 1


def _bias(reading: Reading, node: onnx.NodeProto, name: str) -> Quantized:
    """int32 on the grid of the products, as these operators add it."""
    values = [reading.values[each] for each in (name, node.input[1], node.input[4])]
    if not all(isinstance(value, Constant) for value in values):
        raise Unreadable("has a bias or scales that are not constant")
    bias, x, weight = (value.array for value in values if isinstance(value, Constant))
    scale = np.float32(x.astype(np.float32).ravel()[0]) * weight.astype(np.float32).ravel()
    return Quantized(bias.astype(np.int64), scale, 0)
