"""Making a patch harder to see: smaller, more transparent, flatter. Exact in bytes.

This project's definitions. Shares are counted in 256ths, so that every implementation gives the
same bytes: 1/4, 1/2 and 3/4 are exact, and halves round up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..types import Patch, Pixels

ONE = 256


def blend(images: Pixels, pasted: Pixels, *, opacity: float) -> Pixels:
    """``images + opacity * (pasted - images)``, halves rounded up; shapes equal, ``uint8``.

    ``pasted`` is ``images`` with a patch on them, so nothing outside the mask changes. Opacity 1
    gives ``pasted`` and 0 gives ``images``, byte for byte.
    """
    assert images.dtype == pasted.dtype == np.uint8, "pixels are uint8 outside a model"
    step = pasted.astype(np.int32) - images
    step *= _in_256ths(opacity)
    step += ONE // 2
    step >>= 8  # an arithmetic shift rounds down, of negative numbers too
    step += images
    return step.astype(np.uint8)


def contrast(patch: Patch, share: float) -> Patch:
    """Each colour of the patch moved towards its channel's mean inside the mask: ``share`` is left.

    1 gives the patch itself, 0 a square of its mean colour. Halves are rounded up.
    """
    inside = patch.pixels[:, patch.mask].astype(np.int64)
    count, kept = inside.shape[1], _in_256ths(share)
    total = inside.sum(axis=1, keepdims=True)
    scaled = kept * count * inside + (ONE - kept) * total  # in units of 1 / (256 * count)
    pixels = patch.pixels.copy()
    pixels[:, patch.mask] = ((2 * scaled + ONE * count) // (2 * ONE * count)).astype(np.uint8)
    return replace(patch, pixels=pixels)


def resized(patch: Patch, longer_px: int) -> Patch:
    """The patch with its longer side at ``longer_px`` pixels, each from its nearest neighbour.

    The shorter side keeps the proportion, and at least one pixel.
    """
    height, width = patch.mask.shape
    longest = max(height, width)
    rows, columns = (
        _nearest(side, max(1, (2 * side * longer_px + longest) // (2 * longest)))
        for side in (height, width)
    )
    mask = patch.mask[rows][:, columns]
    return replace(patch, pixels=patch.pixels[:, rows][:, :, columns], mask=mask)


def _nearest(side: int, wanted: int) -> NDArray[np.int64]:
    """For each of ``wanted`` pixels the one of ``side`` whose span holds its centre."""
    at: NDArray[np.int64] = (2 * np.arange(wanted) + 1) * side // (2 * wanted)
    return at


def _in_256ths(share: float) -> int:
    assert 0.0 <= share <= 1.0, "a share of opacity or contrast"
    return round(ONE * share)
