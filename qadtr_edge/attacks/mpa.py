"""Monochrome and textured patches, searched on the engine by its scores.

After the patches of PatchAttack (Yang et al., arXiv 2004.05682), rectangles of one colour or of a
texture; not its reinforcement learning. This project's definition: a patch is seven whole numbers,
texture, period, phase, two colours and its place, and a random search changes some of them at a
time. A change stays when the margin did not fall: equal margins are accepted. So few numbers cannot
hide anything an attack on single pixels would need, and what wins can be printed in two inks. Draws
are a function of (seed, image id, query). Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import metrics, streams
from ..data.dataset import Dataset
from ..patch.paste import paste
from ..patch.placement import Policy, check_fit
from ..patch.shape import RECTANGLE, mask_of
from ..types import Json, Labels, Pixels, PlacedPatches, Placements
from .parameters import parameters_of
from .queries import Ledger, Logits, Model, Told, require_scores

TEXTURES = ("flat", "rows", "columns", "diagonals", "checks")
LEVELS = 4
"""Values of a channel: 0, 85, 170, 255."""

FIELDS = 7  # texture, period, phase, two colours, top, left
PLACE = 5  # the first of the two that are the place
DRAWS = 2 + FIELDS

ANEW = 0.1
"""Share of the proposals that draw all seven numbers anew."""

MOVED = 0.4
"""Share that moves the place and leaves the rest, where there is more than one."""

REACH = 0.5
"""How far the first moves go, as a share of the room; it falls linearly to one pixel."""


class Mpa:
    """One textured patch and one place for each image.

    ``queries``: the most per image; ``shape``: as of ``patch/shape.py``.
    """

    name = "mpa"
    tier = "T4"
    threat: Literal["T-C"] = "T-C"
    knowledge = "scores"
    placement = "searched"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        queries: int = 1000,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.queries = queries
        self.shape = shape

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def budget(self, image_px: tuple[int, int]) -> int:
        return self.queries

    def require(self, clean: Logits) -> None:
        require_scores(clean)

    def search(
        self, model: Model, data: Dataset, *, clean: Logits, seed: int, batch: int, told: Told
    ) -> PlacedPatches:
        image_px = (data.images.shape[2], data.images.shape[3])
        check_fit(Policy("plain"), self.patch_px, image_px=image_px)
        self.require(clean)
        space = _Space(self.patch_px, image_px, mask_of(self.shape, self.patch_px))
        ledger = Ledger(model, batch=batch)
        n, tied = len(data), 0
        codes = np.zeros((n, FIELDS), np.int64)
        won, lead = np.zeros(n, np.bool_), np.full(n, -np.inf, np.float32)
        queries = np.zeros(n, np.int64)
        open_ = np.arange(n)
        for it in range(self.queries):
            chance = streams.uniform(
                seed, f"{self.name}:{it}", indices=data.ids[open_], draws=DRAWS
            )
            left = 1.0 - it / self.queries
            to = space.proposed(codes[open_], chance, left=left) if it else space.drawn(chance)
            logits = ledger(space.shown(data.images[open_], to))
            truth = data.labels[open_]
            wins = metrics.succeeded(metrics.predicted(logits), truth, target=self.target)
            leads = metrics.margins(logits, truth, target=self.target)
            queries[open_] += 1
            tied += int((~wins & (leads == lead[open_])).sum())
            taken = wins | (leads >= lead[open_])
            rows = open_[taken]
            codes[rows], won[rows], lead[rows] = to[taken], wins[taken], leads[taken]
            told(len(open_) + int(wins.sum()) * (self.queries - it - 1), f"{won.mean():.0%} fooled")
            open_ = open_[~wins]
            if not len(open_):
                break
        return PlacedPatches(
            ids=data.ids,
            pixels=space.pixels(codes),
            mask=space.mask,
            placements=_placements(codes),
            target=self.target,
            queries=queries,
            origin={
                "attack": self.name, "parameters": self.parameters, "seed": seed,
                "tally": {"shown": ledger.shown, "proposed": ledger.shown - n, "tied": tied},
            },
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Space:
    """The patches of one size in images of one size, each as ``FIELDS`` whole numbers.

    ``mask``: ``(h, w) bool``, what is pasted of a patch.
    """

    patch_px: tuple[int, int]
    image_px: tuple[int, int]
    mask: NDArray[np.bool_]

    @property
    def ends(self) -> Labels:
        """``(FIELDS,)``: one more than the largest value of each number."""
        half = max(1, max(self.patch_px) // 2)
        room = np.subtract(self.image_px, self.patch_px) + 1
        return np.array([len(TEXTURES), half, 2 * half, LEVELS**3, LEVELS**3, *room], np.int64)

    def drawn(self, chance: NDArray[np.float64]) -> Labels:
        """Codes ``(M, FIELDS)``, all equally likely."""
        return (chance[:, 2:] * self.ends).astype(np.int64)

    def proposed(self, codes: Labels, chance: NDArray[np.float64], *, left: float) -> Labels:
        """Codes in place of ``codes (M, FIELDS)``; ``left``: share of the budget still there."""
        fresh, to = self.drawn(chance), codes.copy()
        anew = chance[:, 0] < ANEW
        share = MOVED if (self.ends[PLACE:] > 1).any() else 0.0
        moved = ~anew & (chance[:, 0] < ANEW + share)
        to[anew] = fresh[anew]
        reach = np.maximum(1, REACH * left * self.ends[PLACE:]).astype(np.int64)
        steps = (chance[moved, 2 + PLACE :] * (2 * reach + 1)).astype(np.int64) - reach
        to[moved, PLACE:] = np.clip(to[moved, PLACE:] + steps, 0, self.ends[PLACE:] - 1)
        rest = np.flatnonzero(~anew & ~moved)
        field = (chance[rest, 1] * PLACE).astype(np.int64)
        to[rest, field] = fresh[rest, field]
        return to

    def pixels(self, codes: Labels) -> Pixels:
        """The patches ``(M, 3, h, w) uint8``."""
        texture, period, phase = (codes[:, at, None, None] for at in range(3))
        down, across = (np.arange(side) for side in self.patch_px)
        down, across = down[:, None] + phase, across + phase
        stripe = period + 1
        rows, columns = down // stripe % 2, across // stripe % 2
        diagonals = (down + across) // stripe % 2
        second = np.choose(texture, [0 * rows, rows, columns, diagonals, rows ^ columns])
        inks = [_colours(codes[:, at])[:, :, None, None] for at in (3, 4)]
        return np.where(second[:, None] == 1, inks[1], inks[0])

    def shown(self, images: Pixels, codes: Labels) -> Pixels:
        """``images (M, 3, H, W)`` with the patches on them."""
        return paste(images, self.pixels(codes), mask=self.mask, placements=_placements(codes))


def _colours(codes: Labels) -> Pixels:
    """Colours ``(M, 3) uint8`` of codes below ``LEVELS`` cubed."""
    digits = codes[:, None] // LEVELS ** np.arange(3) % LEVELS
    return (digits * (255 // (LEVELS - 1))).astype(np.uint8)


def _placements(codes: Labels) -> Placements:
    top, left = codes[:, PLACE:].T.astype(np.float64)
    return Placements(top=top, left=left, degrees=np.zeros(len(top)), scale=np.ones(len(top)))
