"""Symmetric integers of an asymmetric network: what TensorRT can hold of a file made elsewhere.

An activation whose codes int8 does not hold at zero point 0 gets the smallest scale at which they
reach as far as before; the others stay. Weights keep codes and scales, unless uint8 codes around a
zero point do not fit int8; biases move to the new grid of their products. Limits (a ReLU, a narrow
width) stay what they are in real numbers. A range on one side of zero keeps 7 of its 8 bits (its
codes less 128 would keep all 8, but convolutions pad with code 0, which is then no zero), so the
accuracy is to be measured anew.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import Float32, IntegerGraph, Node, Tensor, inputs_of

from .dialects import is_int8, weight_zero_point
from .symmetric_mean import with_means_inside

LOW, HIGH = -128, 127
MIDDLE = 128
"""The byte that an int8 input at zero point 0 stands on."""

NOTE = "activations and weights were requantized symmetrically: other integers than the file's"


def asymmetry(graph: IntegerGraph) -> str | None:
    """What int8 at zero point 0 does not hold of ``graph``, after its name; ``None`` for nothing.

    A PixelTable is no obstacle: it leaves codes like any other node.
    """
    zero = graph.tensors[graph.input].zero_point
    if zero != MIDDLE:
        return f"reads the byte less {zero}, not less {MIDDLE}"
    for name, tensor in graph.tensors.items():
        if not is_int8(tensor):
            return f"holds the codes {tensor.low} to {tensor.high} in {name!r}"
    for node in graph.nodes:
        if isinstance(node, g.Conv | g.Linear) and weight_zero_point(node.weight) is not None:
            return f"needs a zero point for the weights of {node.name!r}"
    return None


def symmetric(graph: IntegerGraph, *, pixels: Float32) -> IntegerGraph:
    """``graph`` with what ``asymmetry`` names mended; the same graph where that is nothing.

    ``pixels (3, 256)``: the reals that the network reads of each byte.
    """
    if asymmetry(graph) is None:
        return graph
    old = _with_table(with_means_inside(graph))
    new = dict(old.tensors)
    for names in _groups(old):
        new |= _recentred([old.tensors[name] for name in names])
    return replace(
        old,
        nodes=tuple(_moved(node, old.tensors, new, pixels) for node in old.nodes),
        tensors=new,
        spec=replace(old.spec, activations="signed"),
        notes=(*old.notes, NOTE),
    )


def _with_table(graph: IntegerGraph) -> IntegerGraph:
    """``graph`` reading the byte less 128: where it read another, through a table."""
    x = graph.tensors[graph.input]
    if x.zero_point == MIDDLE:
        return graph
    name = "pixels"
    while name in graph.tensors or name == graph.logits:
        name += "_"
    codes = np.arange(256, dtype=np.int16) - x.zero_point
    table = g.PixelTable(name, x.name, name, np.tile(codes, (3, 1)))
    image = replace(x, scale=1.0, zero_point=MIDDLE, low=LOW, high=HIGH)
    tensors = {x.name: image, name: replace(x, name=name)}
    nodes = [
        node if isinstance(node, g.PixelTable) else _reading(node, {x.name: name})
        for node in graph.nodes
    ]
    return replace(graph, nodes=(table, *nodes), tensors=tensors | {
        key: tensor for key, tensor in graph.tensors.items() if key != x.name
    })  # fmt: skip


def _reading(node: Node, other: dict[str, str]) -> Node:
    """``node`` with its inputs renamed."""
    if isinstance(node, g.Concat):
        return replace(node, xs=tuple(other.get(name, name) for name in node.xs))
    if isinstance(node, g.Add | g.Mul):
        return replace(node, a=other.get(node.a, node.a), b=other.get(node.b, node.b))
    return replace(node, x=other.get(node.x, node.x))


def _groups(graph: IntegerGraph) -> list[list[str]]:
    """Tensors that must stay on one grid, all but the input's: codes pass between them."""
    leader = {name: name for name in graph.tensors}

    def first(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for node in graph.nodes:
        for name in _tied(node, graph):
            leader[first(name)] = first(node.y)
    groups: dict[str, list[str]] = {}
    for name in graph.tensors:
        groups.setdefault(first(name), []).append(name)
    return [names for names in groups.values() if graph.input not in names]


def _tied(node: Node, graph: IntegerGraph) -> list[str]:
    """The inputs of ``node`` that stay on the grid of its output."""
    if isinstance(node, g.Rescale):
        raise Unsupported(
            f"{node.name!r} reads codes with another scale, and cannot be requantized.",
            "Export it for another engine.",
        )
    if isinstance(node, g.MaxPool | g.PadChannels | g.Subsample | g.Flatten):
        return [node.x]
    if isinstance(node, g.Requantize | g.Concat | g.Add):
        scales = {graph.tensors[name].scale for name in (*inputs_of(node), node.y)}
        reads_image = graph.input in inputs_of(node)
        return [] if len(scales) > 1 or reads_image else [*inputs_of(node)]
    return []


def _recentred(group: list[Tensor]) -> dict[str, Tensor]:
    """The tensors of one grid, on one that int8 holds."""
    if all(is_int8(tensor) for tensor in group):
        return {}
    most = max(max(x.scale * x.high / HIGH, x.scale * x.low / LOW) for x in group)
    scale = float(np.float32(most))
    zero = MIDDLE if any(tensor.low < 0 for tensor in group) else 0
    return {
        x.name: replace(
            x, scale=scale, zero_point=zero,
            low=max(round(x.scale * x.low / scale), LOW),
            high=min(round(x.scale * x.high / scale), HIGH),
        )
        for x in group
    }  # fmt: skip


def _moved(node: Node, old: dict[str, Tensor], new: dict[str, Tensor], pixels: Float32) -> Node:
    """``node`` for the new grids of what it reads and makes."""
    if isinstance(node, g.PixelTable):
        y = new[node.y]
        if y == old[node.y]:
            return node
        codes = np.clip(np.rint(pixels / np.float32(y.scale)), y.low, y.high)
        return replace(node, table=codes.astype(np.int16))
    if not isinstance(node, g.Conv | g.Linear):
        return node
    weight, factor = _int8(node.weight)
    change = np.float64(old[node.x].scale) / new[node.x].scale / factor
    bias = np.rint(node.bias * change)  # of larger steps there are fewer: int32 holds them
    scale = (node.weight_scale * factor).astype(np.float32)
    return replace(node, weight=weight, weight_scale=scale, bias=bias.astype(np.int32))


def _int8(weight: g.Weight) -> tuple[g.Int8, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Codes within int8, and what one step of each output channel grew by."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    beyond = (rows.max(1, initial=0) > HIGH) | (rows.min(1, initial=0) < LOW)
    factor = np.where(beyond, np.abs(rows).max(1, initial=0) / HIGH, 1.0)
    codes = np.rint(rows / factor[:, None]).reshape(weight.shape)
    return np.ascontiguousarray(codes.astype(np.int8)), factor
