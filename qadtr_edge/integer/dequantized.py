"""The float graph of an integer graph: its network without rounding, as the yardstick beside it.

For a model that came as integers there are no other float weights. Weights and biases are the
quantized ones as real numbers; activations are limited to the ranges they were quantized to (which
is what is left of a ReLU or ReLU6), and not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import Unsupported
from . import float_graph as f
from . import graph as g
from .graph import Float32, IntegerGraph, Node

NOTE = "the float model has the quantized weights, and rounds no activation"


def dequantized(graph: IntegerGraph, *, pixels: Float32 | None = None) -> f.FloatGraph:
    """The float graph; ``pixels (3, 256)``: what a file's own input makes of each byte.

    Without ``pixels`` the input is the grid's own. Raises ``Unsupported`` for an input that is no
    straight line in the byte.
    """
    scale, zero = _input(graph, pixels)
    nodes: list[f.FloatNode] = []
    alias: dict[str, str] = {}
    for node in graph.nodes:
        read = {name: alias.get(name, name) for name in g.inputs_of(node)}
        if isinstance(node, g.PixelTable | g.Dequantize):
            alias[node.y] = read[node.x]
            continue
        nodes += _real(node, graph, read)
    logits = alias.get(graph.logits, graph.logits)
    image = graph.tensors[graph.input].shape
    return f.FloatGraph(
        nodes=tuple(nodes), input=graph.input, input_scale=scale, input_zero=zero,
        image=(image[0], image[1], image[2]), logits=logits, classes=graph.classes,
        source=graph.source, notes=(*graph.notes, NOTE),
    )  # fmt: skip


def _input(graph: IntegerGraph, pixels: Float32 | None) -> tuple[Float32, Float32]:
    """Scale and zero of each channel: the input is ``(pixel - zero) * scale``."""
    x = graph.tensors[graph.input]
    if pixels is None:
        return np.full(3, x.scale, np.float32), np.full(3, x.zero_point, np.float32)
    first, last = pixels[:, 0].astype(np.float64), pixels[:, -1].astype(np.float64)
    scale = (last - first) / 255
    line = first[:, None] + scale[:, None] * np.arange(256)
    if (scale == 0).any() or (np.abs(line - pixels) > 1e-3 * np.abs(scale[:, None])).any():
        raise Unsupported(
            "The float model of this file cannot be written: its input is no straight line in the "
            "pixel.",
            "Leave the normalisation to the preprocessing file.",
        )
    return scale.astype(np.float32), (-first / scale).astype(np.float32)


def _real(node: Node, graph: IntegerGraph, read: Mapping[str, str]) -> list[f.FloatNode]:
    """``node`` on real numbers, and the limits of its output."""
    x = graph.tensors[g.inputs_of(node)[0]]
    limits = _limits(node, graph)
    y = node.y if limits is None else f"{node.y}:wide"
    made: f.FloatNode
    match node:
        case g.Conv() | g.Linear():
            step = node.weight_scale.astype(np.float64)
            wide = step.reshape(-1, *[1] * (node.weight.ndim - 1))
            weight = (node.weight * wide).astype(np.float32)
            bias = (node.bias * step * x.scale).astype(np.float32)
            if isinstance(node, g.Linear):
                made = f.FloatLinear(node.name, read[node.x], y, weight, bias)
            else:
                made = f.FloatConv(
                    node.name, read[node.x], y, weight, bias, node.stride, node.padding,
                    node.dilation, node.groups,
                )  # fmt: skip
        case g.Requantize():
            assert limits is not None, "a requantization limits its output"
            return [replace(limits, name=node.name, x=read[node.x])]
        case g.Rescale():
            made = f.Multiply(node.name, read[node.x], y, graph.tensors[node.y].scale / x.scale)
        case g.AddConstant():
            made = f.Shift(node.name, read[node.x], y, node.code * node.scale)
        case g.Add() | g.Mul():
            made = replace(node, a=read[node.a], b=read[node.b], y=y)
        case g.Concat():
            made = replace(node, xs=tuple(read[name] for name in node.xs), y=y)
        case (
            g.MaxPool() | g.AveragePool() | g.GlobalAveragePool() | g.Subsample()
            | g.PadChannels() | g.Flatten() | g.Sigmoid()
        ):  # fmt: skip
            made = replace(node, x=read[node.x], y=y)
        case _:
            raise AssertionError(f"{type(node).__name__} is an alias")
    return [made] if limits is None else [made, limits]


def _limits(node: Node, graph: IntegerGraph) -> f.Clip | None:
    """The range of the output, for nodes that do not merely pass values on."""
    if node.y == graph.logits or isinstance(node, g.MaxPool | g.Flatten | g.Subsample):
        return None
    y = graph.tensors[node.y]
    low, high = y.scale * y.low, y.scale * y.high
    return f.Clip(f"{node.name}:limits", f"{node.y}:wide", node.y, low, high)
