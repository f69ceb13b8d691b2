"""Sliding windows over activations laid out ``(C, N, H, W)``."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32] | NDArray[np.float64]


def padded(x: Array, padding: tuple[int, int, int, int], *, fill: float) -> Array:
    """``x`` with ``padding`` (top, left, bottom, right) of ``fill`` around every image."""
    if not any(padding):
        return x
    top, left, bottom, right = padding
    channels, images, height, width = x.shape
    out = np.full((channels, images, height + top + bottom, width + left + right), fill, x.dtype)
    out[:, :, top : top + height, left : left + width] = x
    return out


def taps(
    x: Array, kernel: tuple[int, int], *, stride: tuple[int, int], dilation: tuple[int, int]
) -> list[Array]:
    """One view ``(C, N, Ho, Wo)`` of the padded ``x`` per kernel position, in row order."""
    out_h, out_w = (
        (size - step * (extent - 1) - 1) // pace + 1
        for size, step, extent, pace in zip(x.shape[2:], dilation, kernel, stride, strict=True)
    )
    views = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            rows = slice(top, top + stride[0] * (out_h - 1) + 1, stride[0])
            cols = slice(left, left + stride[1] * (out_w - 1) + 1, stride[1])
            views.append(x[:, :, rows, cols])
    return views


def columns(
    x: Array,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[Array, tuple[int, int]]:
    """im2col: ``(C*kh*kw, N*Ho*Wo)`` with channels outermost, and ``(Ho, Wo)``."""
    views = taps(padded(x, padding, fill=0), kernel, stride=stride, dilation=dilation)
    channels, _, height, width = views[0].shape
    stacked = cast(Array, np.stack(views, axis=1))
    return stacked.reshape(channels * len(views), -1), (height, width)
