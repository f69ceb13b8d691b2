"""How alike two input gradients of one image are: cosine, edges, and histograms of orientation.

Gradients are ``(N, 3, H, W) float32``; every measure is ``(N,) float64``, NaN on images where it is
not defined (a gradient that vanishes). The cosine, Edge IoU and HOG are those of TriQDef
(arXiv 2508.12132); the cell size, which it does not report, and the centred form, whose chance
level is 0, are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Float32 = NDArray[np.float32]
Flags = NDArray[np.bool_]

VANISHED = 1e-8
"""Norm, with pixels counted from 0 to 1, below which a gradient has no direction."""

BINS = 9
CELL_PX = 8
EDGE_PERCENTILE = 85.0
MEASURES = ("cosine", "cosine_in_patch", "edge_iou", "hog_cosine", "hog_centred")


@dataclass(frozen=True, eq=False)
class Traits:
    """What is compared of the gradients of one width.

    - ``gradients``: ``(N, 3, H, W) float32``, per unit of a pixel counted from 0 to 1.
    - ``alive``: ``(N,) bool``, whose norm is not below ``VANISHED``.
    - ``edges``: ``(N, H-2, W-2) bool``; at the rim the repeated border would weaken every
      derivative, which alone makes unrelated images look alike. ``hog``: ``(N, cells, 9) float64``.
    """

    gradients: Float32
    alive: Flags
    edges: Flags
    hog: Floats


def traits(gradients: Float32) -> Traits:
    """The traits of ``gradients``; images smaller than a cell get one cell of their own size."""
    norms = np.sqrt(np.einsum("nchw,nchw->n", gradients, gradients, dtype=np.float64))
    down, across = sobel(gradients.mean(axis=1, dtype=np.float64))
    strength = np.hypot(down, across)
    return Traits(
        gradients,
        alive=norms >= VANISHED,
        edges=edges(strength[:, 1:-1, 1:-1]),
        hog=hog(down, across, strength=strength),
    )


def measures(a: Traits, b: Traits, *, region: Flags, pairs: NDArray[np.int64] | None = None
             ) -> Floats:  # fmt: skip
    """``(N, 5)``: the ``MEASURES`` of image i of ``a`` against image ``pairs[i]`` of ``b``.

    Without ``pairs`` against itself. ``region (N, H, W) bool`` of image i is where the patch is.
    """
    other = np.arange(len(a.alive)) if pairs is None else pairs
    found = np.stack(
        [
            cosine(a.gradients, b.gradients[other]),
            cosine(a.gradients * region[:, None], b.gradients[other] * region[:, None]),
            edge_iou(a.edges, b.edges[other]),
            hog_cosine(a.hog, b.hog[other]),
            hog_centred(a.hog, b.hog[other]),
        ],
        axis=1,
    )
    found[~(a.alive & b.alive[other])] = np.nan
    return found


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Cosine of the angle between row i of ``a`` and row i of ``b``, all other axes flattened."""
    left, right = (x.reshape(len(x), -1) for x in (a, b))
    product = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    norms = [np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64)) for x in (left, right)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = product / (norms[0] * norms[1])
    return np.clip(found, -1.0, 1.0)


def sobel(maps: Floats) -> tuple[Floats, Floats]:
    """Derivatives down and across of ``maps (N, H, W)``, borders repeated."""
    around = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth_across = around[:, :, :-2] + 2 * around[:, :, 1:-1] + around[:, :, 2:]
    smooth_down = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]
    down = smooth_across[:, 2:] - smooth_across[:, :-2]
    return down, smooth_down[:, :, 2:] - smooth_down[:, :, :-2]


def edges(strength: Floats) -> Flags:
    """Pixels above the 85th percentile of their own image, ``(N, H, W) bool``."""
    flat = strength.reshape(len(strength), -1)
    limit = np.percentile(flat, EDGE_PERCENTILE, axis=1)
    found: Flags = strength > limit[:, None, None]
    return found


def edge_iou(a: Flags, b: Flags) -> Floats:
    """Intersection over union of two sets of edge pixels; independent ones of 15 %: 0.081."""
    both, either = (found.sum(axis=(1, 2)) for found in (a & b, a | b))
    with np.errstate(invalid="ignore"):
        ratio: Floats = both / either
    return ratio


def hog(down: Floats, across: Floats, *, strength: Floats) -> Floats:
    """Histograms of orientation, ``(N, cells, 9)``: unsigned, each pixel weighted by its strength.

    Cells of 8 x 8 pixels; rows and columns that fill no cell are left out.
    """
    angle = np.arctan2(down, across) % np.pi
    bins = np.minimum((angle * (BINS / np.pi)).astype(np.int64), BINS - 1)
    n, height, width = strength.shape
    cell = (min(CELL_PX, height), min(CELL_PX, width))
    rows, columns = height // cell[0], width // cell[1]
    used = (slice(None), slice(rows * cell[0]), slice(columns * cell[1]))
    in_cell = np.add.outer(
        np.arange(rows * cell[0]) // cell[0] * columns, np.arange(columns * cell[1]) // cell[1]
    )
    each = np.arange(n)[:, None, None] * (rows * columns)
    slots = (each + in_cell) * BINS + bins[used]
    weights = strength[used].reshape(-1)
    counted = np.bincount(slots.reshape(-1), weights, minlength=n * rows * columns * BINS)
    return counted.astype(np.float64, copy=False).reshape(n, rows * columns, BINS)


def hog_cosine(a: Floats, b: Floats) -> Floats:
    """Cosine of plain histograms: all entries are positive, so chance is near 0.8, not 0."""
    return cosine(a, b)


def hog_centred(a: Floats, b: Floats) -> Floats:
    """Pearson correlation of histograms that sum to 1 in each cell; chance is 0.

    A cell without any gradient counts as one without a preferred orientation.
    """
    return cosine(_centred(a), _centred(b))


def _centred(found: Floats) -> Floats:
    total = found.sum(axis=2, keepdims=True)
    share = np.divide(found, total, out=np.full_like(found, 1 / BINS), where=total > 0)
    centred: Floats = share - 1 / BINS
    return centred
