"""The section on transfer: patches crafted on one network and judged on another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import statistics
from ..analysis.transfer import crafted_at
from . import words
from .document import Document
from .heat import draw_matrix
from .matrix import Matrix, Reached, matrices, rate_of, reached
from .section import Figure, Section, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MATRICES = 4
"""Matrices that are drawn; the tables hold all."""


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
        marks = ["diagonal"] if _is_diagonal(cell.victim, cell.judge) else []
        marks += ["worst row"] if cell.victim == matrix.worst else []
        lines.append([
            matrix.title, matrix.rows[0].result.placement, cell.victim, cell.judge,
            _kind(cell.real), ", ".join(marks) or "-", f"{cell.fooled} / {cell.eligible}",
            words.share(cell.fooled, cell.eligible),
        ])  # fmt: skip
    return lines


def _whole(one: Reached) -> list[str]:
    any_ = words.NOT_RUN
    if one.fooled is not None and one.eligible:
        any_ = words.share(one.fooled, one.eligible)
    return [
        one.attack, one.places, one.judge, _kind(one.real), str(one.surrogates),
        one.strongest, words.percent(one.aggregated), any_,
    ]  # fmt: skip


def _is_diagonal(victim: str, judge: str) -> bool:
    """Whether patches crafted on ``victim`` are judged at that very width."""
    width = crafted_at(victim)
    return width is not None and judge.endswith(f" {width}-bit")


def _kind(real: bool) -> str:
    return "engine" if real else "simulated"


def _figure(name: str, matrix: Matrix) -> Figure:
    victims, judges, cells = matrix.victims, matrix.judges, matrix.cells
    shares = {(cell.victim, cell.judge): rate_of(cell) for cell in cells}
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
