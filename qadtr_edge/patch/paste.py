"""Pasting, exactly: the integers here define which byte lands where, in every implementation.

The map from image to patch is an inverse affine in signed 16.16 fixed point. Its four coefficients
are computed once per image in float64 and rounded; after that only integers are added and shifted,
so NumPy, C++ and CUDA give the same bytes. Pixels and mask are taken from the nearest neighbour.

With pixel (r, c) covering [r, r+1) x [c, c+1), the centre of the placed patch at (y, x), rotation t
and scale s, the patch coordinates of the centre of pixel (r, c) are

    across = u + a*c - b*r        a = cos(t)/s     u = w/2 + a*(0.5 - x) - b*(0.5 - y)
    down   = v + b*c + a*r        b = sin(t)/s     v = h/2 + b*(0.5 - x) + a*(0.5 - y)

and the pixel of the patch is (down >> 16, across >> 16), if that lies in the patch. Perspective
(``perspective.py``) and light (``light.py``) come before this where a placement has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..types import Pixels, Placements
from . import light, perspective
from .placement import box
from .places import copies

FRACTION_BITS = 16
ONE = 1 << FRACTION_BITS
Int32 = NDArray[np.int32]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Footprint:
    """Every pasted pixel of a batch, M in all, ordered by image.

    - ``image``, ``row``, ``column``: ``(M,) int64``, where it lands.
    - ``down``, ``across``: ``(M,) int32``, 16.16 patch coordinates of its centre, counted from the
      patch's top-left corner.
    """

    image: Index
    row: Index
    column: Index
    down: Int32
    across: Int32


def paste(
    images: Pixels, pixels: Pixels, *, mask: NDArray[np.bool_], placements: Placements
) -> Pixels:
    """A copy of ``images (N, 3, H, W) uint8`` with the patch on each; all else is untouched.

    ``pixels`` is ``(3, h, w) uint8``, one patch for all images, or ``(N, 3, h, w)``, one for each;
    ``mask`` is ``(h, w) bool``. What lies outside the image is cut off.
    """
    assert images.dtype == pixels.dtype == np.uint8, "pixels are uint8 outside a model"
    assert pixels.shape[-2:] == mask.shape
    assert len(placements.top) == len(images)
    pasted = images.copy()
    for one in copies(placements):
        shown = pixels if light.is_plain(one) else light.lit(pixels, one)
        if _is_upright(one, patch_px=mask.shape, image_px=images.shape[2:]):
            _paste_upright(pasted, shown, mask=mask, placements=one)
        else:
            _paste_anyhow(pasted, shown, mask=mask, placements=one)
    return pasted


def _paste_anyhow(
    images: Pixels, pixels: Pixels, *, mask: NDArray[np.bool_], placements: Placements
) -> None:
    """Writes patches into ``images``, pixel by pixel of their footprint."""
    where = footprint(placements, mask=mask, image_px=(images.shape[2], images.shape[3]))
    source = (where.down >> FRACTION_BITS) * mask.shape[1] + (where.across >> FRACTION_BITS)
    plane = images.shape[2] * images.shape[3]
    landing = where.image * (3 * plane) + where.row * images.shape[3] + where.column
    flat = images.reshape(-1)
    for channel in range(3):
        if pixels.ndim == 3:
            colours = pixels[channel].reshape(-1)[source]
        else:
            colours = pixels[:, channel].reshape(len(images), -1)[where.image, source]
        flat[landing + channel * plane] = colours


def footprint(
    placements: Placements, *, mask: NDArray[np.bool_], image_px: tuple[int, int]
) -> Footprint:
    """Which pixels of each ``image_px`` image the masked patch covers, and what each one shows.

    Of one copy: those of several are pasted one after the other.
    """
    assert not placements.more, "the footprint of one copy"
    fixed, corner, side = coefficients(placements, patch_px=mask.shape, image_px=image_px)
    rows: Int32 = np.add.outer(corner[0], np.arange(side[0], dtype=np.int32))
    columns: Int32 = np.add.outer(corner[1], np.arange(side[1], dtype=np.int32))
    seen = _seen if placements.corners is None else perspective.seen
    found, down, across = seen(fixed, rows=rows, columns=columns, patch_px=mask.shape)
    if not mask.all():
        kept = mask[down >> FRACTION_BITS, across >> FRACTION_BITS]
        found, across, down = found[kept], across[kept], down[kept]
    image, within = np.divmod(found, side[0] * side[1])
    row, column = np.divmod(within, side[1])
    return Footprint(
        image=image,
        row=np.add(row, corner[0][image]),
        column=np.add(column, corner[1][image]),
        down=down,
        across=across,
    )


def coefficients(
    placements: Placements, *, patch_px: tuple[int, ...], image_px: tuple[int, int]
) -> tuple[list[Int32], list[Int32], list[int]]:
    """[a, b, u, v] as ``(N, 1)`` 16.16 integers; corner ``(N,)`` and size of the windows to search.

    In perspective they are the nine of ``perspective.py``. A window holds every pixel the patch can
    cover; all windows of a batch have one size.
    """
    height, width = (placements.scale * side for side in patch_px)
    y, x = placements.top + height / 2, placements.left + width / 2
    a = np.cos(np.radians(placements.degrees)) / placements.scale
    b = np.sin(np.radians(placements.degrees)) / placements.scale
    u = patch_px[1] / 2 + a * (0.5 - x) - b * (0.5 - y)
    v = patch_px[0] / 2 + b * (0.5 - x) + a * (0.5 - y)
    farthest = np.abs(u) + np.abs(v) + (np.abs(a) + np.abs(b)) * max(image_px)
    assert farthest.max(initial=0.0) < 1 << 15, "coordinates leave the range of 16.16"
    boxes = box(height, width, degrees=placements.degrees)
    corners: list[Int32] = []
    sides: list[int] = []
    for middle, extent, limit in zip((y, x), boxes, image_px, strict=True):
        side = min(limit, int(np.ceil(extent.max(initial=0.0))) + 1)
        start = np.floor(middle - extent / 2).astype(np.int32)
        corners.append(np.clip(start, 0, limit - side))
        sides.append(side)
    if placements.corners is not None:
        bent = perspective.coefficients(placements, [a, b, u, v], patch_px=patch_px)
        return bent, corners, sides
    fixed = [np.rint(value * ONE).astype(np.int32)[:, None] for value in (a, b, u, v)]
    return fixed, corners, sides


def _seen(
    fixed: list[Int32], *, rows: Int32, columns: Int32, patch_px: tuple[int, ...]
) -> tuple[Index, Int32, Int32]:
    """Which pixels of the windows show the patch, and their down and across in 16.16.

    ``rows (N, R)``, ``columns (N, C)`` of the windows; indices are flat in ``(N, R, C)``.
    """
    a, b, u, v = fixed
    across: Int32 = (u + a * columns)[:, None, :] - (b * rows)[:, :, None]
    down: Int32 = (v + a * rows)[:, :, None] + (b * columns)[:, None, :]
    # A negative coordinate read as unsigned is huge: one comparison tests both ends.
    inside = across.view(np.uint32) < np.uint32(patch_px[1] << FRACTION_BITS)
    inside &= down.view(np.uint32) < np.uint32(patch_px[0] << FRACTION_BITS)
    found = np.flatnonzero(inside)
    return found, down.reshape(-1)[found], across.reshape(-1)[found]


def _is_upright(
    placements: Placements, *, patch_px: tuple[int, ...], image_px: tuple[int, ...]
) -> bool:
    """Whether every patch is unrotated, unscaled, seen straight on, on whole pixels and inside."""
    if placements.corners is not None:
        return False
    if placements.degrees.any() or (placements.scale != 1.0).any():
        return False
    for start, side, limit in zip(
        (placements.top, placements.left), patch_px, image_px, strict=True
    ):
        if (start < 0).any() or (start > limit - side).any() or (start != np.rint(start)).any():
            return False
    return True


def _paste_upright(
    images: Pixels, pixels: Pixels, *, mask: NDArray[np.bool_], placements: Placements
) -> None:
    """Writes unrotated patches into ``images`` as blocks."""
    rows, columns = placements.top.astype(np.intp), placements.left.astype(np.intp)
    windows = sliding_window_view(images, mask.shape, axis=(2, 3), writeable=True)
    at = (np.arange(len(images)), slice(None), rows, columns)
    windows[at] = pixels if mask.all() else np.where(mask, pixels, windows[at])
