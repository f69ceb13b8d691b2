"""Label-only search on the engine: no score is read, so a head that gives none is no defence.

This project's definition. For half of the queries patches of random saturated colours are thrown on
random places: nothing asks less of an engine, and many images fall to it. What still stands meets
the boundary attack (Brendel et al., arXiv 1712.04248) carried over to patches: an image is covered
whole by a foreign picture, which changes its label, and the covered rectangle is then made smaller,
a side at a time, as long as the label stays changed. How far it must still shrink is the only
guidance, and it needs labels alone. A patch that is no rectangle is stretched over the one that is
covered, and covers no more of it. Where it no longer shrinks, pixels inside are changed at random
while the label stays changed, and it is tried again; a search that stands still begins anew with
another picture. Draws are a function of (seed, image id, query). Needs no torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import metrics, streams
from ..data.dataset import Dataset
from ..patch.placement import Policy, check_fit
from ..patch.shape import RECTANGLE, mask_of
from ..types import Json, Labels, Pixels, PlacedPatches, Placements
from .parameters import parameters_of
from .queries import Ledger, Logits, Model, Told, require_classes

DRAWS = 8
CELLS = 3 * 8 * 8
PATIENCE = 40
"""Refusals in a row, at the smallest step, after which a search begins anew."""

THROWN = 0.5
"""Share of the queries that show random patches, first."""

CHANGED = 0.3
"""Share of the proposals that change pixels and not the rectangle."""


class LabelSearch:
    """One patch and one place for each image, from the engine's labels.

    - ``queries``: the most per image, all beginnings together.
    - ``pool``: pictures ``(M, 3, H, W) uint8`` to begin with, which must hold none of the images
      searched on; without it, textures of saturated colours.
    - ``shape``: as of ``patch/shape.py``.
    """

    name = "label_search"
    tier = "T6"
    threat: Literal["T-C"] = "T-C"
    knowledge = "labels"
    placement = "searched"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        queries: int = 1000,
        pool: Pixels | None = None,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.queries = queries
        self.pool = pool
        self.shape = shape

    @property
    def parameters(self) -> dict[str, Json]:
        pool = None if self.pool is None else hashlib.sha256(self.pool.tobytes()).hexdigest()
        known = parameters_of(self, at_rest={"shape": RECTANGLE})
        return {**known, "pool": pool, "thrown": THROWN}

    def budget(self, image_px: tuple[int, int]) -> int:
        return self.queries

    def require(self, clean: Logits) -> None:
        require_classes(clean)

    def search(
        self, model: Model, data: Dataset, *, clean: Logits, seed: int, batch: int, told: Told
    ) -> PlacedPatches:
        image_px = (data.images.shape[2], data.images.shape[3])
        check_fit(Policy("plain"), self.patch_px, image_px=image_px)
        self.require(clean)
        ledger = Ledger(model, batch=batch)
        board = _Board(data, mask=mask_of(self.shape, self.patch_px))
        open_ = np.arange(len(data))
        thrown = int(THROWN * self.queries)
        for it in range(self.queries):
            chance = streams.uniform(
                seed, f"{self.name}:{it}", indices=data.ids[open_],
                draws=DRAWS if it >= thrown else 2 + CELLS,
            )  # fmt: skip
            due = open_[board.fresh[open_]]
            if it >= thrown and len(due):
                board.renew(due, self._pictures(data, due, board.starts[due], seed=seed))
            to = board.proposed(open_, chance) if it >= thrown else board.thrown(open_, chance)
            labels = metrics.predicted(ledger(board.shown(open_, to)))
            changed = metrics.succeeded(labels, data.labels[open_], target=self.target)
            if it >= thrown:
                board.adapt(open_, to, changed=changed)
            board.accept(open_, to, changed=changed)
            left = ~(board.won[open_] & board.small(open_))
            told(len(open_) + int((~left).sum()) * (self.queries - it - 1), "")
            open_ = open_[left]
            if not len(open_):
                break
        return board.found(
            {
                "attack": self.name, "parameters": self.parameters, "seed": seed,
                "tally": {"shown": ledger.shown},
            },
            target=self.target,
        )  # fmt: skip

    def _pictures(self, data: Dataset, rows: Labels, starts: Labels, *, seed: int) -> Pixels:
        """What covers each image at its ``starts``-th beginning."""
        shape = data.images.shape[1:]
        made = np.empty((len(rows), *shape), np.uint8)
        for start in np.unique(starts):
            own = starts == start
            chance = streams.uniform(
                seed, f"{self.name}:start:{start}", indices=data.ids[rows[own]], draws=1 + CELLS
            )
            if self.pool is None:
                made[own] = _textures(chance[:, 1:], shape)
            else:
                made[own] = self.pool[(chance[:, 0] * len(self.pool)).astype(np.int64)]
        return made


def _textures(chance: NDArray[np.float64], shape: tuple[int, ...]) -> Pixels:
    """A grid of eight by eight saturated colours, stretched over ``shape``, cut where smaller."""
    colours = np.where(chance < 0.5, 0, 255).astype(np.uint8).reshape(-1, 3, 8, 8)
    rows = np.arange(shape[1]) * 8 // shape[1]
    columns = np.arange(shape[2]) * 8 // shape[2]
    return colours[:, :, rows[:, None], columns[None, :]]


@dataclass(frozen=True, eq=False)
class _Proposal:
    """On M images: the boxes to try, what is shown in them, and where that was recoloured."""

    box: Labels
    canvas: Pixels
    recoloured: NDArray[np.bool_]


class _Board:
    """Where the search stands on each image: a picture, and the rectangle of it that is shown.

    ``mask``: ``(h, w) bool``, what is pasted of the patch; stretched, what is shown of a rectangle.
    ``box``: ``(N, 4)``: top, left, bottom, right. ``step``: lines that are cut off at once.
    """

    def __init__(self, data: Dataset, *, mask: NDArray[np.bool_]) -> None:
        n = len(data)
        self.data, self.mask, self.patch_px = data, mask, mask.shape
        self.whole = np.array([0, 0, *data.images.shape[2:]], np.int64)
        self.canvas = np.zeros_like(data.images)
        self.box = np.tile(self.whole, (n, 1))
        self.step = np.full(n, max(self.whole) // 4, np.int64)
        self.refused = np.zeros(n, np.int64)
        self.starts = np.zeros(n, np.int64)
        self.fresh = np.ones(n, np.bool_)
        self.won = np.zeros(n, np.bool_)  # whether what stands has changed the label
        self.queries = np.zeros(n, np.int64)
        self.least = np.full(n, np.iinfo(np.int64).max)
        self.best_box = self.box.copy()
        self.best_canvas = self.canvas.copy()

    def renew(self, rows: Labels, pictures: Pixels) -> None:
        """Begins there, with these pictures."""
        self.canvas[rows], self.box[rows] = pictures, self.whole
        self.step[rows], self.refused[rows] = max(self.whole) // 4, 0
        self.won[rows], self.fresh[rows] = False, False

    def thrown(self, rows: Labels, chance: NDArray[np.float64]) -> _Proposal:
        """A patch of random colours at a random place."""
        spare = self.whole[2:] - np.array(self.patch_px) + 1
        corner = (chance[:, :2] * spare).astype(np.int64)
        canvas = self.canvas[rows]
        down, across = (corner[:, [a]] + np.arange(self.patch_px[a]) for a in (0, 1))
        each = np.arange(len(rows))[:, None, None]
        pixels = _textures(chance[:, 2:], (3, *self.patch_px))
        canvas[each, :, down[:, :, None], across[:, None, :]] = pixels.transpose(0, 2, 3, 1)
        box = np.concatenate([corner, corner + self.patch_px], axis=1)
        return _Proposal(box, canvas, np.zeros(len(rows), np.bool_))

    def proposed(self, rows: Labels, chance: NDArray[np.float64]) -> _Proposal:
        """A side cut off, or four neighbouring pixels recoloured; at first, nothing changed."""
        box, canvas = self.box[rows].copy(), self.canvas[rows]
        size = box[:, 2:] - box[:, :2]
        spare, each = size - np.array(self.patch_px), np.arange(len(rows))
        recoloured = self.won[rows] & ((chance[:, 0] < CHANGED) | (spare.max(axis=1) <= 0))
        axis = np.where(chance[:, 1] < 0.5, 0, 1)
        axis = np.where(spare[each, axis] > 0, axis, 1 - axis)
        cut = np.minimum(self.step[rows], spare[each, axis]) * (self.won[rows] & ~recoloured)
        far = chance[:, 2] < 0.5
        box[each, np.where(far, 2 + axis, axis)] += np.where(far, -cut, cut)
        at = np.flatnonzero(recoloured)
        corner = self._squares(self.box[rows[at]], chance[at, 3:5])
        colours = np.where(chance[at, 5:8] < 0.5, 0, 255).astype(np.uint8)
        for down, across in np.ndindex(2, 2):
            canvas[at, :, corner[:, 0] + down, corner[:, 1] + across] = colours
        return _Proposal(box, canvas, recoloured)

    def shown(self, rows: Labels, to: _Proposal) -> Pixels:
        """The images with what is proposed on them."""
        return np.where(self._covered(to.box)[:, None], to.canvas, self.data.images[rows])

    def accept(self, rows: Labels, to: _Proposal, *, changed: NDArray[np.bool_]) -> None:
        """Goes where the label stays changed, which has asked once of each of ``rows``."""
        taken = rows[changed]
        self.queries[rows] += 1
        self.canvas[taken], self.box[taken] = to.canvas[changed], to.box[changed]
        self.won[taken] = True
        self._remember(taken)

    def adapt(self, rows: Labels, to: _Proposal, *, changed: NDArray[np.bool_]) -> None:
        """Cuts more where the label stayed changed, less where not, and in the end begins anew."""
        begins = ~self.won[rows]
        cut = ~to.recoloured & ~begins
        kept, lost = rows[changed & cut], rows[~changed & cut]
        self.step[kept] *= 2
        self.refused[kept] = 0
        self.refused[lost] += self.step[lost] <= 1
        self.step[lost] = np.maximum(self.step[lost] // 2, 1)
        tired = rows[(begins & ~changed) | (self.refused[rows] >= PATIENCE)]
        self.fresh[tired] = True
        self.starts[tired] += 1

    def small(self, rows: Labels) -> NDArray[np.bool_]:
        """Where what stands fits the patch."""
        box = self.box[rows]
        fits = (box[:, 2] - box[:, 0] <= self.patch_px[0]) & (
            box[:, 3] - box[:, 1] <= self.patch_px[1]
        )
        return np.asarray(fits)

    def found(self, origin: dict[str, Json], *, target: int | None) -> PlacedPatches:
        """The smallest rectangle of each image, cut to the patch where it is larger."""
        rows, columns = self.patch_px
        top = np.minimum(self.best_box[:, 0], self.whole[2] - rows)
        left = np.minimum(self.best_box[:, 1], self.whole[3] - columns)
        down, across = top[:, None] + np.arange(rows), left[:, None] + np.arange(columns)
        each = np.arange(len(self.data))[:, None, None]
        pixels = self.best_canvas[each, :, down[:, :, None], across[:, None, :]]
        return PlacedPatches(
            ids=self.data.ids,
            pixels=np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)),
            mask=self.mask,
            placements=Placements(
                top=top.astype(np.float64), left=left.astype(np.float64),
                degrees=np.zeros(len(top)), scale=np.ones(len(top)),
            ),
            target=target,
            queries=self.queries,
            origin=origin,
        )  # fmt: skip

    def _covered(self, box: Labels) -> NDArray[np.bool_]:
        """What is shown of boxes ``(M, 4)``, each at least as large as the patch: ``(M, H, W)``."""
        inside, cells = [], []
        for axis, patch in enumerate(self.patch_px):
            size = box[:, [2 + axis]] - box[:, [axis]]
            at = np.arange(self.whole[2 + axis]) - box[:, [axis]]
            inside.append((at >= 0) & (at < size))
            cells.append(at * patch // size % patch)  # of the patch stretched over the box
        covered: NDArray[np.bool_] = inside[0][:, :, None] & inside[1][:, None, :]
        if not self.mask.all():
            covered &= self.mask[cells[0][:, :, None], cells[1][:, None, :]]
        return covered

    def _squares(self, box: Labels, chance: NDArray[np.float64]) -> Labels:
        """Corners ``(M, 2)`` of two by two pixels, of which some are shown of the boxes."""
        if self.mask.all():
            size = box[:, 2:] - box[:, :2]
            corner = (box[:, :2] + chance * (size - 1)).astype(np.int64)
        else:
            covered = self._covered(box).reshape(len(box), int(np.prod(self.whole[2:])))
            number = (chance[:, 0] * covered.sum(axis=1)).astype(np.int64)
            pixel = (covered.cumsum(axis=1, dtype=np.int32) > number[:, None]).argmax(axis=1)
            corner = np.stack(np.divmod(pixel, self.whole[3]), axis=1)
        squares: Labels = np.minimum(corner, self.whole[2:] - 2)
        return squares

    def _remember(self, rows: Labels) -> None:
        box = self.box[rows]
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        better = rows[area <= self.least[rows]]
        self.least[better] = area[area <= self.least[rows]]
        self.best_box[better], self.best_canvas[better] = self.box[better], self.canvas[better]
