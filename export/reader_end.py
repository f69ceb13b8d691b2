"""How a network ends: what in a file are the logits."""

from __future__ import annotations

import math

from qadtr_edge.integer import graph as g

from .onnx_file import OUTPUT
from .reader_bias import on_grid
from .reader_state import Reading
from .reader_values import Codes, Move, Pending, Product, Real, Scores, Unreadable


def finished(reading: Reading, output: str) -> tuple[str, str]:
    """Appends the node that makes the logits; its output, and the ONNX value that they are.

    Raises ``Unreadable``, which completes "the file …".
    """
    build, name = reading.build, output
    value = reading.values[name]
    while isinstance(value, Scores):
        name = value.value
        value = reading.values[name]
    if isinstance(value, Pending) and value.product is not None:
        build.nodes.append(_linear(value, value.product))
        return OUTPUT, name
    if not isinstance(value, Real | Codes) or value.channels_last:
        raise Unreadable("ends in a value that is not quantized, and is no matrix product")
    tensor = value.tensor
    shape = build.tensors[tensor].shape
    if len(shape) > 1:
        if math.prod(shape[1:]) != 1:
            raise Unreadable("ends in an image, not in one value a class")
        flat = Move(lambda node, x, y: g.Flatten(node, x, y), (math.prod(shape),), "scores")
        tensor = build.moved(tensor, flat)
    build.nodes.append(g.Dequantize(build.name("dequantize"), tensor, OUTPUT))
    return OUTPUT, name


def _linear(value: Pending, product: Product) -> g.Linear:
    node = product.make(on_grid(product), value.name.replace("/", "."), OUTPUT)
    limited = math.isfinite(value.low) or math.isfinite(value.high)
    if not isinstance(node, g.Linear) or value.then or limited:
        raise Unreadable("ends in a value that is not quantized, and is no matrix product")
    return node
