"""The differentiable paste: what crafting optimises through.

Covers exactly the pixels the exact paste covers, in the same places; only the colour is bilinear
where the exact paste takes the nearest one. Each pasted pixel is a weighted sum of four patch
pixels, so the work is proportional to the patch, not to the image. Averaging its gradient over
random placements is expectation over transformation (Athalye et al., arXiv 1707.07397).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..patch.paste import FRACTION_BITS, footprint
from ..types import Placements

ONE = float(1 << FRACTION_BITS)


def paste(
    images: Tensor,
    pixels: Tensor,
    *,
    mask: NDArray[np.bool_],
    placements: Placements,
    which: NDArray[np.int64] | None = None,
) -> Tensor:
    """``images (N, 3, H, W)`` with a patch on each; differentiable in ``pixels``.

    ``pixels`` is ``(3, h, w)``, one patch for all images, or ``(P, 3, h, w)`` with ``which (N,)``
    telling the patch of each image. All are float32 on one scale. Outside the footprint the images
    come through bit for bit.
    """
    height, width = images.shape[2:]
    where = footprint(placements, mask=mask, image_px=(height, width))
    corners, weights = _bilinear(where.down, where.across, patch_px=mask.shape)
    if which is not None:
        corners += (which * mask.size)[where.image][:, None]
    colours = functional.embedding_bag(
        torch.from_numpy(corners).to(images.device),
        pixels.reshape(-1, 3, mask.size).transpose(1, 2).reshape(-1, 3),
        per_sample_weights=torch.from_numpy(weights).to(pixels),
        mode="sum",
    )
    image, row, column = (
        torch.from_numpy(index).to(images.device)
        for index in (where.image, where.row, where.column)
    )
    pasted = images.permute(0, 2, 3, 1).clone()
    return pasted.index_put((image, row, column), colours).permute(0, 3, 1, 2)


def to_bytes(values: Tensor) -> Tensor:
    """Values rounded to whole numbers in 0..255; the gradient passes straight through."""
    return values + (values.detach().round().clamp(0.0, 255.0) - values.detach())


def _bilinear(
    down: NDArray[np.int32], across: NDArray[np.int32], *, patch_px: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat patch index and weight, ``(M, 4)``, of the four pixels around each coordinate.

    Coordinates count from the corner, pixel centres lie at halves; the border is repeated.
    """
    steps, shares = [], []
    for coordinate, side in ((down, patch_px[0]), (across, patch_px[1])):
        position = coordinate / ONE - 0.5
        first = np.floor(position)
        share = (position - first).astype(np.float32)
        low = np.clip(first, 0, side - 1).astype(np.int64)
        high = np.clip(first + 1, 0, side - 1).astype(np.int64)
        steps.append((low, high))
        shares.append((1.0 - share, share))
    corners = [row * patch_px[1] + column for row in steps[0] for column in steps[1]]
    weights = [row * column for row in shares[0] for column in shares[1]]
    return np.stack(corners, axis=1), np.stack(weights, axis=1)
