"""What pooling computes, exactly as onnxruntime does. Codes are float32, ``(C, N, H, W)``."""

from __future__ import annotations

import numpy as np

from . import arithmetic
from . import graph as g
from .graph import Float32, Tensor
from .windows import padded, taps


def covers(node: g.AveragePool, x: Tensor) -> bool:
    """Whether the window is all of ``x``."""
    return node.kernel == x.shape[1:] and not any(node.padding)


def max_pool(node: g.MaxPool, y: Tensor, *, codes: Float32) -> Float32:
    views = taps(
        padded(codes, node.padding, fill=-np.inf), node.kernel, stride=node.stride, dilation=(1, 1)
    )
    best = views[0].copy()
    for view in views[1:]:
        np.maximum(best, view, out=best)
    return arithmetic.clamp(best.astype(np.float32, copy=False), y)


def average_pool(node: g.AveragePool, x: Tensor, *, y: Tensor, codes: Float32) -> Float32:
    """float32 as onnxruntime: values are added in window order, divided, then quantized.

    A window that is the whole image is a global average there, on integers.
    """
    if covers(node, x):
        return global_average_pool(x, y, codes=codes)
    total = _window_sum(node, codes * np.float32(x.scale))
    fill = 1 if node.count_include_pad else 0
    count = _window_sum(node, np.ones((1, 1, *codes.shape[2:]), np.float32), fill=fill)
    zero = np.float32(y.zero_point)
    return arithmetic.clamp(np.rint(total / count / np.float32(y.scale) + zero) - zero, y)


def _window_sum(node: g.AveragePool, values: Float32, *, fill: float = 0) -> Float32:
    first, *others = taps(
        padded(values, node.padding, fill=fill), node.kernel, stride=node.stride, dilation=(1, 1)
    )
    total = first.astype(np.float32)
    for view in others:
        total += view
    return total


def global_average_pool(x: Tensor, y: Tensor, *, codes: Float32) -> Float32:
    count = codes.shape[2] * codes.shape[3]
    total = codes.sum(axis=(2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    return arithmetic.clamp(np.rint(total * arithmetic.pooled_multiplier(x, y, count=count)), y)
