"""Edges and orientations of maps, and how well those of two widths agree.

TriQDef (arXiv 2508.12132) compares maps by ``0.5 SoftDice(S(E(a)), S(E(b))) + cos(H(a), H(b))``:
E is the Sobel magnitude, ``S(A) = sigmoid(100 (A - p85(A)))`` with p85 the 85th percentile, H a
smooth histogram of oriented gradients. The rest is this project's definition:

    maps are divided by their largest value first;  p85 passes no gradient;
    SoftDice = 2 sum(a b) / (sum(a) + sum(b) + 1e-6);  pairs of widths are averaged;
    H: for each of c x c cells the mean of |slope| w_k, nine bins k over [0, pi) with
    w = softmax_k(10 cos(2 (angle - k pi / 9))), which needs no arc tangent.

Everything but the percentile can be differentiated twice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

STEEPNESS = 100.0  # of S, from the paper
SHARE = 0.85  # of the pixels that lie at or under the threshold of S, from the paper
BINS = 9
SHARPNESS = 10.0  # a slope along a bin's own direction gives it four fifths of its weight
SMALLEST = 1e-8  # a map whose largest value is smaller has no edges; floor of squared slopes


def sobel(maps: Tensor) -> Tensor:
    """Slopes down and across of ``maps (..., H, W)`` by Sobel's filter: ``(2, ..., H, W)``.

    The border is repeated, so a flat map has no edges.
    """
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, 1, height, width)
    padded = functional.pad(flat, (1, 1, 1, 1), mode="replicate")
    padded = padded.view(*maps.shape[:-2], height + 2, width + 2)
    rows = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    columns = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    down = rows[..., 2:, :] - rows[..., :-2, :]
    across = columns[..., 2:] - columns[..., :-2]
    return torch.stack([down, across])


def magnitude(slopes: Tensor) -> Tensor:
    """Length of ``slopes (2, ..., H, W)``: ``(..., H, W)``, at least 1e-4, so that it is smooth."""
    return (slopes.square().sum(0) + SMALLEST).sqrt()


@torch.no_grad()
def threshold(edges: Tensor) -> Tensor:
    """The 85th percentile of each map of ``edges (..., H, W)``: ``(..., 1, 1)``, no gradient.

    The smallest value that 85 % of the pixels do not exceed.
    """
    values = edges.flatten(-2)
    rank = math.ceil(SHARE * values.shape[-1])
    return values.kthvalue(rank, dim=-1).values[..., None, None]


def soft_edges(edges: Tensor) -> Tensor:
    """S: near 1 on the strongest 15 % of ``edges (..., H, W)``, near 0 elsewhere."""
    return torch.sigmoid(STEEPNESS * (edges - threshold(edges)))


def hog(slopes: Tensor, *, cells: int) -> Tensor:
    """H: ``slopes (2, ..., H, W)`` to ``(..., 9 * cells * cells)``; the sign of a slope is lost."""
    down, across = slopes
    length = magnitude(slopes)
    square = length.square()
    cosine, sine = (across.square() - down.square()) / square, 2 * down * across / square
    double = 2 * math.pi / BINS * torch.arange(BINS, dtype=slopes.dtype, device=slopes.device)
    towards = double[:, None, None]
    nearness = cosine.unsqueeze(-3) * towards.cos() + sine.unsqueeze(-3) * towards.sin()
    weighted = length.unsqueeze(-3) * torch.softmax(SHARPNESS * nearness, dim=-3)
    pooled = functional.adaptive_avg_pool2d(weighted.flatten(0, -4), cells)
    return pooled.reshape(*length.shape[:-2], -1)


def soft_dice(maps: Tensor) -> Tensor:
    """SoftDice of every two of B maps in 0..1: ``(N, B, P)`` to ``(N, B, B)``."""
    sums = maps.sum(-1)
    return 2 * (maps @ maps.mT) / (sums[:, :, None] + sums[:, None, :] + 1e-6)


def cosines(vectors: Tensor) -> Tensor:
    """Cosine of every two of B vectors: ``(N, B, F)`` to ``(N, B, B)``."""
    units = functional.normalize(vectors, dim=-1)
    return units @ units.mT


def agreement(maps: Tensor, *, cells: int, dice: float, orientation: float) -> Tensor:
    """``dice * SoftDice + orientation * cos(H, H)``, mean over pairs of widths and images; 0-d.

    ``maps (N, B, H, W)``: what B widths make of N images, not negative. A pair of which one map is
    0 everywhere is left out; with no pair left the result is 0.
    """
    peak = maps.amax(dim=(-2, -1), keepdim=True)
    slopes = sobel(maps / peak.clamp_min(SMALLEST))
    total = maps.new_zeros(())
    if dice:
        total = total + dice * soft_dice(soft_edges(magnitude(slopes)).flatten(-2))
    if orientation:
        total = total + orientation * cosines(hog(slopes, cells=min(cells, *maps.shape[-2:])))
    able = (peak.detach() > SMALLEST).flatten(1)
    counts = (able[:, :, None] & able[:, None, :]).triu(diagonal=1).to(maps.dtype)
    return (total * counts).sum() / counts.sum().clamp_min(1.0)
