"""A patch seen in perspective: a projective map from image to patch, in fixed point.

Each corner of the patch stands further in by a share of its sides, so it never leaves the square it
had. The stored patch is mapped to that quadrangle by the one projective map of a square to four
points (Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989); what is rounded is its
inverse, after the rotation, scale and place of ``paste.py``. With (r, c) a pixel of the image,

    across = ((p0*c + p1*r + p2) << 22) / W      p: 16.16, q: 16.16
    down   = ((q0*c + q1*r + q2) << 22) / W      W = w0*c + w1*r + w2: 10.22, 1 at the centre

are 16.16 patch coordinates, divided in 64-bit integers, rounded down. Where W is not positive the
pixel lies beyond the horizon and shows nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..types import Placements

FRACTION_BITS = 16
DEPTH_BITS = 22

Numbers = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


def coefficients(
    places: Placements, flat: list[Numbers], *, patch_px: tuple[int, ...]
) -> list[Int32]:
    """[p0, p1, p2, q0, q1, q2, w0, w1, w2] as ``(N, 1)`` integers.

    ``flat``: [a, b, u, v] of ``paste.py`` before they are rounded.
    """
    assert places.corners is not None
    assert (places.corners >= 0.0).all(), "corners move inwards"
    assert (places.corners < 1 / 3).all(), "a corner is dented"
    a, b, u, v = flat
    height, width = patch_px
    # From pixels to shares of the patch's sides: rows of a 3x3 matrix on (c, r, 1).
    square = [[a / width, -b / width, u / width], [b / height, a / height, v / height]]
    inverse, centre = _inverse(places.corners)
    rows = [
        [(x * square[0][k] + y * square[1][k] + (z if k == 2 else 0.0)) / centre for k in range(3)]
        for x, y, z in inverse
    ]
    sides = (width << FRACTION_BITS, height << FRACTION_BITS, 1 << DEPTH_BITS)
    numbers = [value * side for row, side in zip(rows, sides, strict=True) for value in row]
    for number in numbers:
        assert np.abs(number).max(initial=0.0) < 1 << 31, "coordinates leave the fixed point"
    return [np.rint(number).astype(np.int32)[:, None] for number in numbers]


def seen(
    maps: list[Int32], *, rows: Int32, columns: Int32, patch_px: tuple[int, ...]
) -> tuple[Int64, Int32, Int32]:
    """Which pixels of the windows show the patch, and their down and across in 16.16.

    ``rows (N, R)``, ``columns (N, C)`` of the windows; indices are flat in ``(N, R, C)``.
    """
    across, down, depth = (
        (x * columns.astype(np.int64) + z)[:, None, :] + (y * rows.astype(np.int64))[:, :, None]
        for x, y, z in zip(maps[0::3], maps[1::3], maps[2::3], strict=True)
    )
    inside = depth > 0
    for numerator, side in ((across, patch_px[1]), (down, patch_px[0])):
        # Equal to 0 <= quotient < side in 16.16, without the division.
        inside &= numerator >= 0
        inside &= (numerator << (DEPTH_BITS - FRACTION_BITS)) < side * depth
    found = np.flatnonzero(inside)
    below = depth.reshape(-1)[found]
    shown = [
        ((numerator.reshape(-1)[found] << DEPTH_BITS) // below).astype(np.int32)
        for numerator in (down, across)
    ]
    return found, shown[0], shown[1]


def _inverse(corners: Numbers) -> tuple[list[list[Numbers]], Numbers]:
    """Rows of the map from the quadrangle to the unit square, and its depth at the centre."""
    down, right = corners[:, :, 0].T, corners[:, :, 1].T
    x = [right[0], 1.0 - right[1], 1.0 - right[2], right[3]]
    y = [down[0], down[1], 1.0 - down[2], 1.0 - down[3]]
    far_x, far_y = x[0] - x[1] + x[2] - x[3], y[0] - y[1] + y[2] - y[3]
    one_x, one_y, two_x, two_y = x[1] - x[2], y[1] - y[2], x[3] - x[2], y[3] - y[2]
    whole = one_x * two_y - two_x * one_y
    g, h = (far_x * two_y - two_x * far_y) / whole, (one_x * far_y - far_x * one_y) / whole
    a, b, c = x[1] - x[0] + g * x[1], x[3] - x[0] + h * x[3], x[0]
    d, e, f = y[1] - y[0] + g * y[1], y[3] - y[0] + h * y[3], y[0]
    rows = [
        [e - f * h, c * h - b, b * f - c * e],
        [f * g - d, a - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * rows[0][0] + b * rows[1][0] + c * rows[2][0]
    return rows, determinant / (1.0 + (g + h) / 2.0)
