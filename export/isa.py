"""What a CPU's instruction set means for integer results."""

from __future__ import annotations

import platform
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import provenance
from qadtr_edge.integer.graph import Conv, IntegerGraph, Linear
from qadtr_edge.integer.judge import Judge
from qadtr_edge.integer.windows import Array, padded, taps
from qadtr_edge.types import Pixels

from .dialects import container_range

INT16 = np.iinfo(np.int16)
MOST_WITHOUT_OVERFLOW = 16383
"""Two u8 x s8 products of at most this size each fit the int16 that AVX2 adds them in."""


def may_saturate_here() -> bool:
    """Whether onnxruntime adds 8-bit products in pairs of int16 on this CPU (x86 without VNNI)."""
    flags = provenance.cpu_flags()
    is_x86 = platform.machine() in {"x86_64", "AMD64"}
    return is_x86 and not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


def saturating_layers(graph: IntegerGraph) -> tuple[str, ...]:
    """Weighted layers in which a pair of products can exceed int16, by the bound of each layer."""
    found = []
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            largest = container_range(graph.tensors[node.x])[1]
            heaviest = abs(node.weight.astype(int)).max(initial=0)
            if largest * heaviest > MOST_WITHOUT_OVERFLOW:
                found.append(node.name)
    return tuple(found)


def overflows(graph: IntegerGraph, images: Pixels) -> dict[str, tuple[int, int]]:
    """Pairs of products that leave int16 on ``images (N, 3, H, W)``, and all pairs, by layer.

    A pair is two neighbouring input channels at one position of the window: how AVX2 adds them.
    Only layers whose bound allows an overflow are counted; the others have none on any image.
    Depthwise layers have one channel in a window and no pairs.
    """
    risky = saturating_layers(graph)
    judge = Judge(graph)
    found = dict.fromkeys(risky, (0, 0))
    for batch in judge.batches(images) if risky else ():
        codes = judge.codes(batch)
        for node in graph.nodes:
            if node.name not in found or not isinstance(node, Conv | Linear):
                continue
            x = graph.tensors[node.x]
            raw = codes[node.x].astype(np.float32) + np.float32(x.zero_point)
            over, pairs = _counted(node, raw.swapaxes(0, 1), fill=x.zero_point)
            found[node.name] = (found[node.name][0] + over, found[node.name][1] + pairs)
    return found


def _counted(node: Conv | Linear, raw: NDArray[np.float32], *, fill: int) -> tuple[int, int]:
    """Overflowing pairs and all pairs of one layer on raw inputs ``(C, N, H, W)`` or ``(C, N)``."""
    weight = node.weight.astype(np.float32)
    if isinstance(node, Linear):
        return _pairs(weight, raw.reshape(len(raw), -1))
    over = pairs = 0
    views = taps(
        padded(raw, node.padding, fill=fill), cast(tuple[int, int], weight.shape[2:]),
        stride=node.stride, dilation=node.dilation,
    )  # fmt: skip
    depth, outputs = weight.shape[1], len(weight) // node.groups
    for group in range(node.groups):
        own = weight[group * outputs : (group + 1) * outputs].reshape(outputs, depth, -1)
        for at, view in enumerate(views):
            inputs = view[group * depth : (group + 1) * depth].reshape(depth, -1)
            more, each = _pairs(own[:, :, at], inputs)
            over, pairs = over + more, pairs + each
    return over, pairs


def _pairs(weight: NDArray[np.float32], inputs: Array) -> tuple[int, int]:
    """The same of ``weight (outputs, C)`` times ``inputs (C, M)``, channels in twos."""
    over = 0
    for first in range(0, weight.shape[1] - 1, 2):
        a = np.outer(weight[:, first], inputs[first])
        a += np.outer(weight[:, first + 1], inputs[first + 1])
        over += int(((a > INT16.max) | (a < INT16.min)).sum())
    return over, weight.shape[1] // 2 * len(weight) * inputs.shape[1]
