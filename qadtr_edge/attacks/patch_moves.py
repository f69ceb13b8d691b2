"""How Patch-RS starts and what it tries next, for a batch of images at once.

The schedules and moves of Sparse-RS (Croce et al., arXiv 2006.12834). Colours are 0 or 255 in each
channel, so adding -1 or +1 to every channel of a square and clipping is painting it with one of
eight colours, and another colour is an exclusive or. Needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .. import streams
from ..errors import BadInput
from ..patch.shape import mask_of
from ..types import Labels, Pixels

PAINTED = 1000
"""Sub-squares painted over black to start from."""

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of a budget of 10,000, after which the share of the patch that is changed halves."""

REACH = 0.75
"""How far the first shifts go, as a share of the image; it falls linearly to 0."""

DRAWS = 3
"""Random numbers a proposal takes, whatever its kind."""

LEAST_SHARE = 0.5
"""Of its rectangle that a shape must fill to be searched by squares."""

Chance = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Squares:
    """Patches and places of M images: ``pixels (M, 3, h, w) uint8``, ``corners (M, 2) int64``."""

    pixels: Pixels
    corners: Labels

    def only(self, kept: NDArray[np.bool_]) -> Squares:
        return Squares(self.pixels[kept], self.corners[kept])


@dataclass(frozen=True, eq=False)
class Schedule:
    """The kind and size of each query's change.

    - ``patch_px``, ``image_px``: rows and columns. ``queries``: the budget, the start included.
    - ``sides``: ``(queries,) int64``, side of the square that query ``it`` changes.
    - ``flips_from``: from this query on single channels are flipped.
    - ``shift_every``: every so many queries the place is changed instead.
    """

    patch_px: tuple[int, int]
    image_px: tuple[int, int]
    queries: int
    sides: Labels
    flips_from: int
    shift_every: int

    @property
    def room(self) -> Labels:
        """``(2,) int64``: the last top and the last left at which the patch is inside."""
        return np.subtract(self.image_px, self.patch_px).astype(np.int64)

    def shift(self, it: int) -> Labels:
        """``(2,) int64``: how many rows and columns query ``it`` may shift the place by."""
        left = (self.queries - it) / self.queries
        return np.floor(REACH * left * np.array(self.image_px)).astype(np.int64)


def require_full(name: str, shape: str, *, patch_px: tuple[int, int]) -> None:
    """Raises ``BadInput`` for a shape on which most squares that are tried would change nothing."""
    share = mask_of(shape, patch_px).mean()
    if share < LEAST_SHARE:
        raise BadInput(
            f"{name} changes squares of a rectangle, of which this shape is {share:.0%}: most of "
            "its queries would change nothing.",
            f"Leave out {name}, or give a fuller shape.",
        )


def schedule(
    patch_px: tuple[int, int],
    image_px: tuple[int, int],
    *,
    queries: int,
    alpha: float,
    shift_every: int,
) -> Schedule:
    """The schedule of a budget. ``alpha``: share of the patch that is changed at first."""
    scaled = np.arange(queries) * 10_000 // queries
    share = alpha / 2.0 ** np.searchsorted(HALVINGS, scaled, side="left")
    sides = np.floor(np.sqrt(share * patch_px[0] * patch_px[1])).astype(np.int64)
    sides = np.clip(sides, 1, min(patch_px))
    single = np.flatnonzero(sides[1:] == 1)
    first = int(single[0]) + 1 if len(single) else queries
    return Schedule(
        patch_px=patch_px,
        image_px=image_px,
        queries=queries,
        sides=sides,
        flips_from=first + (queries - first) // 2,
        shift_every=shift_every,
    )


def start(plan: Schedule, ids: Labels, *, seed: int, name: str) -> Squares:
    """What the images ``ids (M,)`` begin with.

    Black, painted over with 1000 squares of random sides, places and colours; any place is equally
    likely. The squares are gone through backwards, since the last one painted is the one seen.
    """
    n, (height, width) = len(ids), plan.patch_px
    largest = max(1, math.ceil(math.sqrt(min(plan.patch_px))) - 1)
    pixels = np.zeros((n, 3, height, width), np.uint8)
    bare = np.ones((n, height, width), np.bool_)
    down, across = np.arange(height)[:, None], np.arange(width)
    for number in reversed(range(PAINTED)):
        chance = streams.uniform(seed, f"{name}:paint:{number}", indices=ids, draws=4)
        side = 1 + np.floor(chance[:, 0] * largest)
        top = np.floor(chance[:, 1] * (height - side + 1))[:, None, None]
        left = np.floor(chance[:, 2] * (width - side + 1))[:, None, None]
        side = side[:, None, None]
        seen = bare & (down >= top) & (down < top + side)
        seen &= (across >= left) & (across < left + side)
        pixels |= seen[:, None] * _colours(_below(chance[:, 3], 8))[:, :, None, None]
        bare &= ~seen
        if not bare.any():
            break
    chance = streams.uniform(seed, f"{name}:place", indices=ids, draws=2)
    return Squares(pixels, _below(chance, plan.room + 1))


def proposed(plan: Schedule, from_: Squares, *, it: int, chance: Chance) -> Squares:
    """What query ``it`` shows instead. ``chance``: ``(M, DRAWS)``, uniform in [0, 1)."""
    room, reach = plan.room, plan.shift(it)
    if it % plan.shift_every == 0 and (reach > 0).any() and (room > 0).any():
        moved = from_.corners + _below(chance[:, :2], 2 * reach + 1) - reach
        return Squares(from_.pixels, np.clip(moved, 0, room))
    pixels, each = from_.pixels.copy(), np.arange(len(from_.pixels))
    side = 1 if it >= plan.flips_from else int(plan.sides[it])
    row, column = _below(chance[:, :2], np.array(plan.patch_px) - side + 1).T
    if it >= plan.flips_from:
        pixels[each, _below(chance[:, 2], 3), row, column] ^= 255
    elif side == 1:
        pixels[each, :, row, column] ^= _colours(1 + _below(chance[:, 2], 7))
    else:
        windows = sliding_window_view(pixels, (side, side), axis=(2, 3), writeable=True)
        windows[each, :, row, column] = _colours(_below(chance[:, 2], 8))[:, :, None, None]
    return Squares(pixels, from_.corners)


def _below(chance: Chance, ends: Labels | int) -> Labels:
    """Uniform integers from 0 up to, not including, ``ends``."""
    return (chance * ends).astype(np.int64)


def _colours(codes: Labels) -> Pixels:
    """Colours ``(N, 3) uint8`` of codes 0 to 7: a bit for each channel."""
    return (((codes[:, None] >> np.arange(3)) & 1) * 255).astype(np.uint8)
