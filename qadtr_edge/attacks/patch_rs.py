"""Patch-RS, the patch search of Sparse-RS (Croce et al., arXiv 2006.12834): scores, no gradient.

A random search for each image: a square of saturated colours and its place are changed a little at
a time, and a change stays when the loss did not rise. Equal losses are accepted: logits of integer
engines are coarse, and a search that asks for less stalls on their plateaus. Success is a changed
label, never the sign of the margin. Draws are a function of (seed, image id, query), so that no
image sways another's. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import metrics, streams
from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.paste import paste
from ..patch.placement import Policy, check_fit
from ..patch.shape import RECTANGLE, mask_of
from ..types import Json, Labels, PlacedPatches, Placements
from .parameters import Described, parameters_of
from .patch_moves import DRAWS, Squares, proposed, require_full, schedule, start
from .queries import Ledger, Logits, Model, Told, require_scores

Accept = Literal["ties", "strict"]
Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


class Judged(NamedTuple):
    """Of M images: which reach the goal, the lead of those that do, and what is to rise."""

    won: Flags
    lead: NDArray[np.float32]
    score: Scores


Judge = Callable[[Logits, Labels], Judged]
"""From logits ``(M, K)`` and true labels ``(M,)`` to what they are worth to the attacker."""


class PatchRs:
    """One patch of {0, 255} colours and one place for each image, by random search.

    - ``queries``: the most per image, all ``restarts`` together.
    - ``kappa``: the search goes on to this margin, in logits; ``None``: to the changed label.
    - ``accept``: ``ties``: a change that is not worse; ``strict``: one that is better.
    - ``shape``: as of ``patch/shape.py``.

    Published: 40 % of the patch changed at first when untargeted and 10 % when targeted; the place
    shifted every 4th query, targeted every 10th; the loss the margin, targeted the cross-entropy.
    """

    name = "patch_rs"
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
        restarts: int = 1,
        kappa: float | None = None,
        accept: Accept = "ties",
        shape: str = RECTANGLE,
    ) -> None:
        if not 1 <= restarts <= queries:
            raise BadInput(
                f"{queries} queries cannot be shared by {restarts} starts.",
                "Give at least one query to each.",
            )
        self.patch_px = patch_px
        self.target = target
        self.queries = queries
        self.restarts = restarts
        self.kappa = kappa
        self.accept = accept
        self.shape = shape
        require_full(self.name, shape, patch_px=patch_px)

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
        self.require(clean)
        return self.walked(
            Ledger(model, batch=batch), data, clean=clean, judge=self.judged, said=self, seed=seed,
            told=told,
        )  # fmt: skip

    def judged(self, logits: Logits, truth: Labels) -> Judged:
        """The margin; targeted, the negative cross-entropy is what is to rise."""
        lead = metrics.margins(logits, truth, target=self.target)
        return Judged(
            metrics.succeeded(metrics.predicted(logits), truth, target=self.target),
            lead,
            lead.astype(np.float64) if self.target is None else _log_share(logits, self.target),
        )

    def walked(
        self, ledger: Ledger, data: Dataset, *, clean: Logits, judge: Judge, said: Described,
        seed: int, told: Told,
    ) -> PlacedPatches:  # fmt: skip
        """What the search finds by the answers of ``ledger``, as ``judge`` values them.

        ``said``: the attack it is part of, whose name and parameters the patches carry.
        """
        image_px = (data.images.shape[2], data.images.shape[3])
        check_fit(Policy("plain"), self.patch_px, image_px=image_px)
        plan = schedule(
            self.patch_px,
            image_px,
            queries=self.queries // self.restarts,
            alpha=0.4 if self.target is None else 0.1,
            shift_every=4 if self.target is None else 10,
        )
        board = _Board(ledger, data, clean=clean, judge=judge, attack=self)
        open_ = np.arange(len(data))
        for run in range(self.restarts):
            if not len(open_):
                break
            name, later = f"{said.name}:{run}", self.queries - (run + 1) * plan.queries
            walk = board.first(open_, start(plan, data.ids[open_], seed=seed, name=name))
            for it in range(1, plan.queries + 1):
                done = board.done(walk.rows)
                told(len(done) + int(done.sum()) * (plan.queries - it + later), board.told)
                walk = walk.only(~done) if done.any() else walk
                if it == plan.queries or not len(walk.rows):
                    break
                chance = streams.uniform(
                    seed, f"{name}:{it}", indices=data.ids[walk.rows], draws=DRAWS
                )
                board.step(walk, proposed(plan, walk.at, it=it, chance=chance))
            open_ = walk.rows
        told(len(open_) * (self.queries % self.restarts), board.told)
        return board.found(said, seed=seed)


@dataclass(frozen=True, eq=False)
class _Walk:
    """Where the search stands on M images, ``rows`` of the data.

    ``at``: what was last accepted; ``won``: it reaches the goal; ``score``: what is to rise.
    """

    rows: Labels
    at: Squares
    won: Flags
    score: Scores

    def only(self, kept: Flags) -> _Walk:
        return _Walk(self.rows[kept], self.at.only(kept), self.won[kept], self.score[kept])


class _Board:
    """Shows patches to the engine and keeps the best of each image, over all starts."""

    def __init__(
        self, ledger: Ledger, data: Dataset, *, clean: Logits, judge: Judge, attack: PatchRs
    ) -> None:
        n, patch_px = len(data), attack.patch_px
        self.ledger = ledger
        self.data = data
        self.judge = judge
        self.attack = attack
        self.able = metrics.eligible(metrics.predicted(clean), data.labels, target=attack.target)
        self.mask = mask_of(attack.shape, patch_px)
        self.pixels = np.zeros((n, 3, *patch_px), np.uint8)
        self.corners = np.zeros((n, 2), np.int64)
        self.won = np.zeros(n, np.bool_)
        self.lead = np.full(n, -np.inf, np.float32)
        self.queries = np.zeros(n, np.int64)
        self.proposed = self.tied = 0

    def first(self, rows: Labels, squares: Squares) -> _Walk:
        """A walk that begins there."""
        return _Walk(rows, squares, *self._judge(rows, squares))

    def step(self, walk: _Walk, to: Squares) -> None:
        """Shows what is proposed; the walk goes there on the images where it is accepted."""
        won, score = self._judge(walk.rows, to)
        same = (won == walk.won) & (score == walk.score)
        better = (won & ~walk.won) | ((won == walk.won) & (score > walk.score))
        self.proposed += len(same)
        self.tied += int(same.sum())
        taken = better | same if self.attack.accept == "ties" else better
        walk.at.pixels[taken], walk.at.corners[taken] = to.pixels[taken], to.corners[taken]
        walk.won[taken], walk.score[taken] = won[taken], score[taken]

    def _judge(self, rows: Labels, squares: Squares) -> tuple[Flags, Scores]:
        """Whether each patch reaches the goal on its image, and the score that is to rise."""
        places = _placements(squares.corners)
        logits = self.ledger(
            paste(self.data.images[rows], squares.pixels, mask=self.mask, placements=places)
        )
        won, lead, score = self.judge(logits, self.data.labels[rows])
        had = self.won[rows]
        self.queries[rows] += ~had
        better = (won & ~had) | ((won == had) & (lead > self.lead[rows]))
        kept, best = rows[better], squares.only(better)
        self.pixels[kept], self.corners[kept] = best.pixels, best.corners
        self.won[kept], self.lead[kept] = won[better], lead[better]
        return won, score

    def done(self, rows: Labels) -> Flags:
        """Images that need no further query."""
        if self.attack.kappa is None:
            return self.won[rows]
        done: Flags = self.won[rows] & (self.lead[rows] >= self.attack.kappa)
        return done

    @property
    def told(self) -> str:
        """A note for the progress line."""
        return f"{self.won[self.able].mean() if self.able.any() else 0.0:.0%} fooled"

    def found(self, said: Described, *, seed: int) -> PlacedPatches:
        """The best patch and place of each image."""
        return PlacedPatches(
            ids=self.data.ids,
            pixels=self.pixels,
            mask=self.mask,
            placements=_placements(self.corners),
            target=self.attack.target,
            queries=self.queries,
            origin={
                "attack": said.name,
                "parameters": said.parameters,
                "seed": seed,
                "tally": {
                    "shown": self.ledger.shown,
                    "proposed": self.proposed,
                    "tied": self.tied,
                },
            },
        )


def _placements(corners: Labels) -> Placements:
    """Unrotated places at the ``corners (N, 2)``, top and left."""
    top, left = corners.T.astype(np.float64)
    return Placements(top=top, left=left, degrees=np.zeros(len(top)), scale=np.ones(len(top)))


def _log_share(logits: Logits, target: int) -> Scores:
    """Logarithm of the softmax share of ``target``: the negative cross-entropy."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    share: Scores = exact[:, target] - np.log(np.exp(exact).sum(axis=1))
    return share
