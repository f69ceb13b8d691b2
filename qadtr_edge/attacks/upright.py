"""Patches that stand unrotated on whole pixels, one for each image: paste, read back, places.

What per-image attacks ascend through. Exact by construction: the same pixels land in the same
places as in ``patch/paste.py``, and a gradient of the pasted image, read back at the patch, is the
gradient of the patch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BadInput
from ..patch import region
from ..patch.placement import Policy, check_fit
from ..types import Labels, Placements


def paste(images: Tensor, pixels: Tensor, *, corners: Tensor, mask: Tensor | None = None) -> Tensor:
    """A copy of ``images (N, 3, H, W)`` with ``pixels (N, 3, h, w)`` at ``corners (N, 2) int64``.

    A corner is row and column of the patch's first pixel. ``mask (h, w) bool``: what is pasted of
    it, ``None`` for all. All else comes through bit for bit.
    """
    shown, window = images.clone(), _window(corners, pixels.shape)
    colours, there = pixels.permute(0, 2, 3, 1), shown.permute(0, 2, 3, 1)
    there[window] = colours if mask is None else colours.where(mask[:, :, None], there[window])
    return shown


def read(images: Tensor, corners: Tensor, *, patch_px: tuple[int, int]) -> Tensor:
    """What ``images (N, 3, H, W)`` hold where a patch of that size stands, ``(N, 3, h, w)``."""
    window = _window(corners, patch_px)
    return images.permute(0, 2, 3, 1)[window].permute(0, 3, 1, 2)


def corners_of(
    image_px: tuple[int, int], patch_px: tuple[int, int], *, avoid_px: int = 0,
    within: str | None = None,
) -> Labels:  # fmt: skip
    """Every corner ``(M, 2) int64`` at which a patch lies inside and misses the central square.

    ``avoid_px``: side of that square, 0 for none; 10 in an image of 32 are rows and columns 11 to
    20. ``within``: the region, as text, that it must lie in. Raises ``BadInput`` when no place is
    left.
    """
    check_fit(Policy("plain", within=within), patch_px, image_px=image_px)
    allowed = allowed_at(image_px, patch_px, avoid_px=avoid_px, within=within)
    if not allowed.any():
        raise BadInput(
            f"A {patch_px[0]}x{patch_px[1]} patch has no place in a {image_px[0]}x{image_px[1]} "
            f"image outside its central {avoid_px}x{avoid_px} square.",
            "Make the patch or the square smaller.",
        )
    return np.argwhere(allowed).astype(np.int64)


def allowed_at(
    image_px: tuple[int, int], patch_px: tuple[int, int], *, avoid_px: int,
    within: str | None = None,
) -> NDArray[np.bool_]:  # fmt: skip
    """``(H - h + 1, W - w + 1) bool``: the corners that ``corners_of`` lists."""
    allowed = np.ones([o - i + 1 for o, i in zip(image_px, patch_px, strict=True)], np.bool_)
    if within is not None:
        allowed[:] = False
        allowed[tuple(region.corners(within, patch_px).T)] = True
    if not avoid_px:
        return allowed
    touches = []
    for outer, inner in zip(image_px, patch_px, strict=True):
        first = (outer - avoid_px + 1) // 2
        corner = np.arange(outer - inner + 1)
        touches.append((corner + inner > first) & (corner < first + avoid_px))
    allowed &= ~np.logical_and.outer(*touches)
    return allowed


def placements(corners: Tensor) -> Placements:
    """The noun for ``corners (N, 2) int64``."""
    top, left = corners.cpu().numpy().T.astype(np.float64)
    return Placements(top=top, left=left, degrees=np.zeros(len(top)), scale=np.ones(len(top)))


def _window(corners: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of each patch pixel, broadcastable to ``(N, h, w)``."""
    rows, columns = (torch.arange(side, device=corners.device) for side in shape[-2:])
    images = torch.arange(len(corners), device=corners.device)[:, None, None]
    return (
        images,
        (corners[:, 0, None] + rows)[:, :, None],
        (corners[:, 1, None] + columns)[:, None, :],
    )
