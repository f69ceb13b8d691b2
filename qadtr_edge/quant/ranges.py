"""Calibration: from observed values to a scale. Methods: ``minmax``, ``percentile``, ``mse``.

``mse`` searches a grid of scales for the least squared quantization error; below 8 bits it is the
only sensible start: with Gaussian weights the max-abs scale leaves 8-15 % non-zero codes at 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UnknownName
from .codes import CodeRange
from .methods import METHODS

_GRID = 60  # candidate scales, from 1/60 of the max-abs scale up to it
_SMALLEST = 1e-8  # a scale must be positive even for an all-zero tensor


def scale_of(values: Tensor, codes: CodeRange, *, method: str, percentile: float = 99.9) -> Tensor:
    """A scale per row of ``values``, ``(R, M) float32 -> (R,) float32``, for ``codes``.

    ``minmax`` covers every value, ``percentile`` that share of the magnitudes, ``mse`` minimises
    the squared error over a grid. Raises ``UnknownName`` for another method.
    """
    if method not in METHODS:
        raise UnknownName("calibration method", method, METHODS)
    limit = float(codes.high)
    magnitude = values.abs() if codes.low < 0 else values.clamp_min(0.0)
    if method == "percentile":
        rank = max(1, min(magnitude.shape[1], round(magnitude.shape[1] * percentile / 100)))
        return (magnitude.kthvalue(rank, dim=1).values / limit).clamp_min(_SMALLEST)
    largest = (magnitude.amax(dim=1) / limit).clamp_min(_SMALLEST)
    if method == "minmax":
        return largest
    best_error = torch.full_like(largest, torch.inf)
    best = largest.clone()
    for step in range(1, _GRID + 1):
        scale = largest * (step / _GRID)
        grid = (values / scale[:, None]).clamp(codes.low, codes.high).round() * scale[:, None]
        error = (grid - values).square().sum(dim=1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, scale, best)
    return best
