"""What attacks on single images keep: the best patch of each, and the first by some lead.

A patch kept at the first wrong label dies wherever the engine computes a little otherwise; how much
lead a patch needs to get across is seen by replaying the first that led by each kappa.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..patch.shape import RECTANGLE, mask_of
from ..types import Json, Labels, PlacedPatches
from . import upright
from .ascent import KAPPAS, Ascended

Flags = NDArray[np.bool_]


class Found(NamedTuple):
    """``best``: the patch of largest score of each image.

    ``first``: by kappa, the first patch that led by so many logits where it was crafted; the best
    one of those images where none did.
    """

    best: PlacedPatches
    first: Mapping[float, PlacedPatches]


class Kept:
    """The patches of N images, to which what each start found is offered."""

    def __init__(self, ids: Labels, patch_px: tuple[int, int], *, shape: str = RECTANGLE) -> None:
        self.ids = ids
        self.score = np.full(len(ids), -np.inf, np.float32)
        self._best = _Patches(len(ids), patch_px)
        self._first = {kappa: _Patches(len(ids), patch_px) for kappa in KAPPAS}
        self._reached = {kappa: np.zeros(len(ids), np.bool_) for kappa in KAPPAS}
        self._mask = mask_of(shape, patch_px)

    def offer(self, found: Ascended, rows: Labels) -> None:
        """Keeps of ``found``, whose images are the ``rows`` of all, what scores more, or is first.

        Starts are to be offered in their order.
        """
        score = found.score.numpy()
        better = score > self.score[rows]
        self._best.put(found.pixels, found.corners, where=better, rows=rows)
        self.score[rows] = np.maximum(self.score[rows], score)
        for kappa, first in zip(KAPPAS, found.first, strict=False):
            new = first.reached.numpy() & ~self._reached[kappa][rows]
            self._first[kappa].put(first.pixels, first.corners, where=new, rows=rows)
            self._reached[kappa][rows] |= new

    def found(self, *, target: int | None, origin: Mapping[str, Json], first: bool = True) -> Found:
        """All that was kept; without ``first``, for attacks that gave no lead, the best alone."""
        firsts = {}
        for kappa in KAPPAS if first else ():
            there = self._reached[kappa]
            patches = self._best.but(self._first[kappa], where=there)
            firsts[kappa] = self._placed(patches, target, origin={**origin, "kappa": kappa})
        return Found(self._placed(self._best, target, origin=origin), firsts)

    def _placed(
        self, patches: _Patches, target: int | None, *, origin: Mapping[str, Json]
    ) -> PlacedPatches:
        return PlacedPatches(
            ids=self.ids,
            pixels=patches.pixels,
            mask=self._mask,
            placements=upright.placements(torch.from_numpy(patches.corners)),
            target=target,
            origin=origin,
        )


class _Patches:
    """Pixels ``(N, 3, h, w) uint8`` and corners ``(N, 2) int64``."""

    def __init__(self, images: int, patch_px: tuple[int, int]) -> None:
        self.pixels = np.zeros((images, 3, *patch_px), np.uint8)
        self.corners = np.zeros((images, 2), np.int64)

    def put(self, pixels: Tensor, corners: Tensor, *, where: Flags, rows: Labels) -> None:
        """Writes those of the patches that ``where`` names into the ``rows`` of all."""
        self.pixels[rows[where]] = pixels.numpy()[where].astype(np.uint8)
        self.corners[rows[where]] = corners.numpy()[where]

    def but(self, other: _Patches, *, where: Flags) -> _Patches:
        """These, and the other's at the images ``where`` names."""
        found = _Patches(len(where), (self.pixels.shape[2], self.pixels.shape[3]))
        found.pixels[:] = np.where(where[:, None, None, None], other.pixels, self.pixels)
        found.corners[:] = np.where(where[:, None], other.corners, self.corners)
        return found
