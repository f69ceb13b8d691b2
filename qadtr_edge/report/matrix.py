"""Patches crafted on one network and judged on another: matrices, and what all networks reach.

Rows of one attack, goal, size, policy of places and set of images make one matrix; its seeds and
places are pooled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import metrics, statistics
from ..errors import BadInput
from ..results import Store
from ..statistics import Cell
from ..types import Json
from . import words
from .document import Document
from .rows import Row


@dataclass(frozen=True, eq=False)
class Matrix:
    """The rows of one setting, and their cells by what was crafted on and judged on."""

    rows: tuple[Row, ...]

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return statistics.transfer_matrix([row.result for row in self.rows])

    @property
    def victims(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.victim for cell in self.cells))

    @property
    def judges(self) -> tuple[tuple[str, bool], ...]:
        """Each judge, and whether it is a real engine."""
        return tuple(dict.fromkeys((cell.judge, cell.real) for cell in self.cells))

    @property
    def title(self) -> str:
        first = self.rows[0]
        return f"{first.result.attack}, {words.goal(first)}, {first.size} px"

    @property
    def worst(self) -> str | None:
        """The network whose patches win most on real engines, by their mean rate, of several."""
        if len(self.victims) < 2:
            return None
        real = [cell for cell in self.cells if cell.real]
        each = {
            victim: np.mean([rate_of(cell) for cell in real if cell.victim == victim])
            for victim in dict.fromkeys(cell.victim for cell in real)
        }
        return max(each, key=lambda victim: each[victim], default=None)


@dataclass(frozen=True)
class Reached:
    """What the patches of all surrogates reach on one judge.

    ``aggregated``: the rate of the strongest surrogate, ``strongest``; ``fooled`` of ``eligible``
    images fall to the first patch of some surrogate at the first places, ``None`` where labels are
    missing.
    """

    attack: str
    places: str
    judge: str
    real: bool
    surrogates: int
    strongest: str
    aggregated: float
    fooled: int | None
    eligible: int | None

    @property
    def any(self) -> float | None:
        if self.fooled is None or not self.eligible:
            return None
        return metrics.rate(self.fooled, self.eligible)

    def as_json(self) -> dict[str, Json]:
        return {
            "attack": self.attack,
            "placement": self.places,
            "judge": self.judge,
            "real": self.real,
            "surrogates": self.surrogates,
            "strongest": self.strongest,
            "asr_aggregated": self.aggregated,
            "asr_any": self.any,
        }


def matrices(rows: Sequence[Row]) -> list[Matrix]:
    """One for each setting of patches made for all images, those with most networks first."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if not row.is_control and row.result.tier == "T1":
            groups[_setting(row)].append(row)
    found = [Matrix(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda one: (-len(one.victims), -len(one.rows)))


def reached(document: Document) -> list[Reached]:
    """Aggregated and any-surrogate success on every judge of every matrix."""
    return [
        _reached(matrix, judge, real=real, store=document.evidence.store)
        for matrix in matrices(document.rows)
        for judge, real in matrix.judges
    ]


def rate_of(cell: Cell) -> float:
    return metrics.rate(cell.fooled, cell.eligible)


def _reached(matrix: Matrix, judge: str, *, real: bool, store: Store) -> Reached:
    cells = [cell for cell in matrix.cells if cell.judge == judge]
    best = max(cells, key=rate_of)
    simulated = None if real else judge
    rows = [row for row in matrix.rows
            if judge in (f"{row.result.engine} {row.result.bits}-bit",
                         simulated and f"simulation {row.result.bits}-bit")]  # fmt: skip
    counts = _any(_first_of_each(rows), store, real=real)
    return Reached(
        attack=matrix.title, places=matrix.rows[0].result.placement, judge=judge, real=real,
        surrogates=len(cells), strongest=best.victim, aggregated=rate_of(best),
        fooled=counts and counts[0], eligible=counts and counts[1],
    )  # fmt: skip


def _first_of_each(rows: Sequence[Row]) -> list[Row]:
    """Of each victim the row of its first seed, at the first places: all had as many tries."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.result.seed, row.result.patch_seed or 0)):
        first.setdefault(row.result.victim, row)
    return list(first.values())


def _any(rows: Sequence[Row], store: Store, *, real: bool) -> tuple[int, int] | None:
    """Images that some of the rows fool, on the engine or in simulation; of how many."""
    won, able = [], None
    target = rows[0].result.target
    for row in rows:
        try:
            kept = store.outcomes(row.result.key)
        except BadInput:
            return None
        clean, patched = (kept.clean, kept.patched) if real else (kept.sim_clean, kept.sim_patched)
        if clean is None or patched is None:
            continue
        able = metrics.eligible(clean.labels, kept.truth, target=target)
        won.append(metrics.succeeded(patched.labels, kept.truth, target=target))
    return None if able is None else statistics.any_surrogate(np.stack(won), able)


def _setting(row: Row) -> tuple[object, ...]:
    result = row.result
    return (result.attack, result.target, result.patch_rows_px, result.patch_columns_px,
            result.placement, result.data_digest)  # fmt: skip
