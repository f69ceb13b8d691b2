"""Transfer: patches crafted on one network and judged on another, and what all of them reach.

Rows of one attack, goal, size, policy of places and set of images make one matrix; its seeds and
places are pooled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .. import metrics, statistics
from ..analysis.transfer import crafted_at
from ..errors import BadInput
from ..results import Store
from ..statistics import Cell
from ..types import Json
from . import words
from .document import Document
from .heat import draw_matrix
from .rows import Row
from .section import Figure, Section, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MATRICES = 4
"""Matrices that are drawn; the tables hold all."""


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
            victim: np.mean([_rate(cell) for cell in real if cell.victim == victim])
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


def transfer(document: Document) -> Section:
    """Crafted on x judged on, one matrix for each attack and setting."""
    found = matrices(document.rows)
    lines = [line for matrix in found for line in _lines(matrix)]
    whole = [_whole(one) for one in reached(document)]
    return Section(
        name="transfer",
        title="Transfer: crafted on, judged on",
        said=(
            "Rows are what a patch was crafted on, columns what it was judged on; * marks real "
            "engines. A dashed frame is the diagonal: crafted at the width it is judged at. The "
            "worst row is the network whose patches win most on the engines. A missing cell was "
            "not run.",
            "Aggregated is the strongest network's rate over all its seeds and places; any counts "
            "an image that the first patch of some network fools at the first places.",
        ) if lines else (),
        missing=() if lines else ("No patch crafted on a network was replayed.",),
        tables=(
            table(
                "Over all that patches were crafted on",
                ("attack", "places", "judged on", "kind", "networks", "strongest",
                 "aggregated ASR", "any ASR [95 %]"),
                rows=whole,
            ),
            table(
                "Transfer",
                ("attack", "places", "crafted on", "judged on", "kind", "in the matrix",
                 "fooled / eligible", "ASR [95 %]"),
                rows=lines,
            ),
        ) if lines else (),
        figures=tuple(
            _figure(f"transfer-{number}", matrix)
            for number, matrix in enumerate(found[:MATRICES], start=1)
        ),
    )  # fmt: skip


def _lines(matrix: Matrix) -> list[list[str]]:
    lines = []
    for cell in matrix.cells:
        interval = metrics.wilson(cell.fooled, cell.eligible)
        marks = ["diagonal"] if _is_diagonal(cell.victim, cell.judge) else []
        marks += ["worst row"] if cell.victim == matrix.worst else []
        lines.append([
            matrix.title, matrix.rows[0].result.placement, cell.victim, cell.judge,
            _kind(cell.real), ", ".join(marks) or "-", f"{cell.fooled} / {cell.eligible}",
            words.spread(_rate(cell), interval.low, high=interval.high),
        ])  # fmt: skip
    return lines


def _whole(one: Reached) -> list[str]:
    any_ = words.NOT_RUN
    if one.fooled is not None and one.eligible:
        interval = metrics.wilson(one.fooled, one.eligible)
        any_ = words.spread(one.fooled / one.eligible, interval.low, high=interval.high)
    return [
        one.attack, one.places, one.judge, _kind(one.real), str(one.surrogates),
        one.strongest, words.percent(one.aggregated), any_,
    ]  # fmt: skip


def _reached(matrix: Matrix, judge: str, *, real: bool, store: Store) -> Reached:
    cells = [cell for cell in matrix.cells if cell.judge == judge]
    best = max(cells, key=_rate)
    simulated = None if real else judge
    rows = [row for row in matrix.rows
            if judge in (f"{row.result.engine} {row.result.bits}-bit",
                         simulated and f"simulation {row.result.bits}-bit")]  # fmt: skip
    counts = _any(_first_of_each(rows), store, real=real)
    return Reached(
        attack=matrix.title, places=matrix.rows[0].result.placement, judge=judge, real=real,
        surrogates=len(cells), strongest=best.victim, aggregated=_rate(best),
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


def _is_diagonal(victim: str, judge: str) -> bool:
    """Whether patches crafted on ``victim`` are judged at that very width."""
    width = crafted_at(victim)
    return width is not None and judge.endswith(f" {width}-bit")


def _rate(cell: Cell) -> float:
    return metrics.rate(cell.fooled, cell.eligible)


def _kind(real: bool) -> str:
    return "engine" if real else "simulated"


def _figure(name: str, matrix: Matrix) -> Figure:
    victims, judges, cells = matrix.victims, matrix.judges, matrix.cells
    shares = {(cell.victim, cell.judge): _rate(cell) for cell in cells}
    filled = [[shares.get((victim, judge)) for judge, _ in judges] for victim in victims]
    worst = matrix.worst
    rows = [f"{victim} (worst)" if victim == worst else victim for victim in victims]
    columns = [f"{judge}{' *' if real else ''}" for judge, real in judges]
    framed = {
        (at, column)
        for at, victim in enumerate(victims)
        for column, (judge, _) in enumerate(judges)
        if _is_diagonal(victim, judge)
    }

    def draw(canvas: Canvas) -> None:
        draw_matrix(canvas, filled, rows=rows, columns=columns, framed=framed,
                    worst=None if worst is None else victims.index(worst))  # fmt: skip

    best = statistics.aggregated(cells)
    said = "; ".join(f"{judge}: at most {words.percent(rate)}" for judge, rate in best.items())
    said += "" if worst is None else f". Worst row: {worst}"
    return Figure(name, f"Transfer of {matrix.title}", said, draw,
                  (2.6 + 0.75 * len(judges), 1.3 + 0.4 * len(victims)))  # fmt: skip
