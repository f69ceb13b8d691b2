"""What a CPU's instruction set means for integer results."""

from __future__ import annotations

import platform

from qadtr_edge import provenance
from qadtr_edge.integer.graph import Conv, IntegerGraph, Linear

from .dialects import container_range

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
