"""A mean in front of a product, taken inside it: what a coarser grid would cost most.

Some tools leave the mean over an image on the grid of the image, of which it uses few codes; half
as many are too few. The product reads all positions instead, with the weights of a channel at each
of them, so that the mean is not rounded at all: one sum, in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import IntegerGraph, Node, Tensor, inputs_of

from .dialects import is_int8
from .reader_head import MOST_WEIGHTS

NOTE = "the mean before {name!r} is taken inside it, and no longer rounded"


def with_means_inside(graph: IntegerGraph) -> IntegerGraph:
    """``graph`` where every chain of GlobalAveragePool, Flatten, Linear is Flatten, Linear.

    The same graph where none is. Left alone: a mean that int8 holds, that is limited more than what
    it is the mean of, that another node reads, or whose product would grow beyond
    ``reader_head.MOST_WEIGHTS`` or the sums of int32.
    """
    made = graph
    for pool, flat in pairwise(graph.nodes):
        if isinstance(pool, g.GlobalAveragePool) and isinstance(flat, g.Flatten):
            made = _inside(made, pool, flat)
    return made


def _inside(graph: IntegerGraph, pool: g.GlobalAveragePool, flat: g.Flatten) -> IntegerGraph:
    product = _only_reader(graph.nodes, flat.y)
    x, y = graph.tensors[pool.x], graph.tensors[flat.y]
    if _only_reader(graph.nodes, pool.y) is not flat or not isinstance(product, g.Linear):
        return graph
    if is_int8(y) or not _covers(y, x) or not _covers(graph.tensors[pool.y], x):
        return graph
    everywhere = _at_every_position(product, x, mean=y)
    if everywhere is None:
        return graph
    instead: dict[Node, Node | None] = {
        pool: None, flat: replace(flat, x=pool.x), product: everywhere
    }  # fmt: skip
    nodes = [instead.get(node, node) for node in graph.nodes]
    row = replace(x, name=flat.y, shape=(int(np.prod(x.shape)),))
    kept = {name: tensor for name, tensor in graph.tensors.items() if name != pool.y}
    return replace(
        graph, nodes=tuple(node for node in nodes if node is not None),
        tensors=kept | {flat.y: row}, notes=(*graph.notes, NOTE.format(name=product.name)),
    )  # fmt: skip


def _only_reader(nodes: Sequence[Node], tensor: str) -> Node | None:
    readers = [node for node in nodes if tensor in inputs_of(node)]
    return readers[0] if len(readers) == 1 else None


def _covers(y: Tensor, x: Tensor) -> bool:
    """Whether ``y`` holds all that ``x`` does, so that no mean of ``x`` is limited by it."""
    return y.scale * y.low <= x.scale * x.low and y.scale * y.high >= x.scale * x.high


def _at_every_position(product: g.Linear, x: Tensor, *, mean: Tensor) -> g.Linear | None:
    """``product`` of all positions of ``x``, ``None`` where that is too large."""
    count = int(np.prod(x.shape[1:]))
    bias = np.rint(product.bias.astype(np.float64) * mean.scale * count / x.scale)
    sums = np.abs(product.weight.astype(np.float64)).sum(1) * count * max(-x.low, x.high)
    if product.weight.size * count > MOST_WEIGHTS or (sums + np.abs(bias)).max() >= 2**31:
        return None
    weight = cast(g.Weight, np.repeat(product.weight, count, axis=1))
    return replace(
        product, weight=weight, bias=bias.astype(np.int32),
        weight_scale=(product.weight_scale.astype(np.float64) / count).astype(np.float32),
    )  # fmt: skip
