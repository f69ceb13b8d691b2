"""Sections on attack success: simulation against engine, by width and attack, and transfer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import metrics, statistics
from ..analysis.figure import COLOURS
from ..types import FLOAT_BITS
from . import words
from .document import Document
from .heat import draw_matrix
from .rows import Row
from .section import Figure, Section, table
from .warnings import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MATRICES = 4
"""Transfer matrices that are drawn; the table holds all."""


def simulation(document: Document) -> Section:
    """Each attack on the engine and in simulation, image by image."""
    found = [row for row in document.rows if row.p_mcnemar is not None]
    lines = []
    for row in found:
        counts = row.result.counts
        b, c, n = counts.sim_only or 0, counts.engine_only or 0, counts.both_eligible or 0
        if not n:
            continue
        lead = statistics.difference(b, c, n=n)
        equal = statistics.equivalence(b, c, n=n).equivalent
        lines.append([
            *_head(row), words.percent(row.sim_asr), words.percent(row.asr), str(b), str(c), str(n),
            f"{row.p_mcnemar:.2g}",
            f"{100 * lead.value:+.2f} [{100 * lead.low:.2f}, {100 * lead.high:.2f}]",
            "shown" if equal else "not shown",
        ])  # fmt: skip
    unpaired = [row for row in document.rows if row.p_mcnemar is None and not row.is_control]
    missing = [f"{len(unpaired)} attack rows were not shown to a simulation."] if unpaired else []
    if not found:
        missing.append("No attack was run in simulation and on an engine.")
    return Section(
        name="simulation",
        title="Simulation against engine",
        said=(
            "The same bytes were shown to the fake-quantized network and to the engine. Sim only "
            "and engine only count the images on which just one of them was fooled, among those "
            "both get right without the patch; p is of McNemar's exact test. Equal to within "
            f"{100 * statistics.MARGIN:g} point is tested (two one-sided tests), never read off p.",
        ),
        missing=tuple(missing),
        tables=(
            table(
                "Simulation against engine, attack by attack",
                ("engine", "attack", "goal", "size px", "places", "ASR simulated", "ASR on engine",
                 "sim only", "engine only", "n", "p", "difference, points [95 %]", "equal"),
                rows=lines,
            ),
        ) if lines else (),
    )  # fmt: skip


def by_width(document: Document) -> Section:
    """Success by width and attack, with intervals; controls stand beside."""
    lines = [
        [*_head(row), row.result.threat, row.result.knowledge, row.result.victim,
         f"{row.result.counts.fooled} / {row.result.counts.eligible}", words.rate(row),
         *_control(row),
         words.percent(row.robust_accuracy), words.percent(row.clean_accuracy)]
        for row in document.rows
    ]  # fmt: skip
    engines = list(dict.fromkeys(row.result.engine for row in document.rows))
    return Section(
        name="asr",
        title="Attack success by width and attack",
        said=(
            "ASR = fooled / eligible; eligible images are right on this engine without the patch "
            "and, if the attack is targeted, not of the target class. Intervals are Wilson 95 %. "
            "Excess = ASR less that of the strongest of grey, noise and crop of the same size, "
            "places and images.",
        ),
        missing=() if lines else ("No attack was run: qadtr-edge attack.",),
        tables=(
            table(
                "Attack success, all rows",
                ("engine", "attack", "goal", "size px", "places", "threat", "knows", "made on",
                 "fooled / eligible", "ASR [95 %]", "control", "excess", "robust acc.",
                 "clean acc."),
                rows=lines,
            ),
        ) if lines else (),
        figures=tuple(_by_width_figure(document.rows, engine) for engine in engines),
    )  # fmt: skip


def transfer(document: Document) -> Section:
    """Crafted on x judged on, one matrix for each attack and setting."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in document.rows:
        if not row.is_control and row.result.tier == "T1":
            groups[_setting(row)].append(row)
    ordered = sorted(groups.values(), key=lambda group: (-len({r.result.victim for r in group}),
                                                         -len(group)))  # fmt: skip
    lines, figures = [], []
    for number, group in enumerate(ordered):
        cells = statistics.transfer_matrix([row.result for row in group])
        what = f"{group[0].result.attack}, {words.goal(group[0])}, {group[0].size} px"
        for cell in cells:
            interval = metrics.wilson(cell.fooled, cell.eligible)
            asr = metrics.rate(cell.fooled, cell.eligible)
            lines.append([
                what, group[0].result.placement, cell.victim, cell.judge,
                "engine" if cell.real else "simulated", f"{cell.fooled} / {cell.eligible}",
                words.spread(asr, interval.low, high=interval.high),
            ])  # fmt: skip
        if number < MATRICES:
            figures.append(_matrix(f"transfer-{number + 1}", what, cells=cells))
    return Section(
        name="transfer",
        title="Transfer: crafted on, judged on",
        said=(
            "Rows are what a patch was crafted on, columns what it was judged on; * marks real "
            "engines. A missing cell was not run.",
        ) if lines else (),
        missing=() if lines else ("No patch crafted on a network was replayed.",),
        tables=(
            table(
                "Transfer",
                ("attack", "places", "crafted on", "judged on", "kind", "fooled / eligible",
                 "ASR [95 %]"),
                rows=lines,
            ),
        ) if lines else (),
        figures=tuple(figures),
    )  # fmt: skip


def _head(row: Row) -> list[str]:
    """The cells that name a row."""
    return [
        title(row.result.engine, row.result.bits),
        f"{row.result.attack} (control)" if row.is_control else row.result.attack,
        words.goal(row),
        row.size,
        row.result.placement,
    ]


def _control(row: Row) -> tuple[str, str]:
    """What the matched control reaches and how much the attack adds; controls have none."""
    if row.is_control:
        return "-", "-"
    return words.percent(row.control_asr), words.points(row.asr_excess)


def _setting(row: Row) -> tuple[object, ...]:
    result = row.result
    return (result.attack, result.target, result.patch_rows_px, result.patch_columns_px,
            result.placement, result.data_digest)  # fmt: skip


def _by_width_figure(rows: Sequence[Row], engine: str) -> Figure:
    best: dict[tuple[str, int], Row] = {}
    for row in rows:
        key = (row.result.attack, row.result.bits)
        if row.result.engine == engine and row.result.goal == "untargeted":
            best[key] = max(row, best.get(key, row), key=lambda one: one.asr)
    widths = sorted({bits for _, bits in best}, reverse=True)
    attacks = sorted({name for name, _ in best}, key=lambda name: (name not in _MAIN, name))

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for number, name in enumerate(attacks):
            there = [bits for bits in widths if (name, bits) in best]
            chosen = [best[name, bits] for bits in there]
            at = [
                widths.index(bits) + 0.5 * (number / max(1, len(attacks)) - 0.5) for bits in there
            ]
            rates = [100 * row.asr for row in chosen]
            spans = [
                [max(0.0, 100 * (row.asr - row.interval.low)) for row in chosen],
                [max(0.0, 100 * (row.interval.high - row.asr)) for row in chosen],
            ]
            marker = "x" if chosen[0].is_control else "o"
            axes.errorbar(at, rates, yerr=spans, fmt=marker, label=name, capsize=2, markersize=4,
                          color=COLOURS[number % len(COLOURS)])  # fmt: skip
        names = ["float" if bits == FLOAT_BITS else f"{bits}-bit" for bits in widths]
        axes.set_xticks(range(len(widths)), names)
        axes.set_ylabel("ASR, % [95 %]")
        axes.set_ylim(0, 100)
        if attacks:
            axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return Figure(
        f"asr-{engine}",
        f"{engine}: attack success by width, strongest untargeted row of each attack",
        "; ".join(
            f"{name} at {'float' if bits == FLOAT_BITS else f'{bits} bits'} {words.rate(row)}"
            for (name, bits), row in sorted(best.items(), key=lambda item: (-item[1].asr))[:12]
        ) or "No untargeted row.",
        draw,
        (7.0, 3.0),
    )  # fmt: skip


_MAIN = ("gap", "lavan", "dpr", "mpa", "loap", "pgd")


def _matrix(name: str, what: str, *, cells: Sequence[statistics.Cell]) -> Figure:
    victims = list(dict.fromkeys(cell.victim for cell in cells))
    judges = list(dict.fromkeys((cell.judge, cell.real) for cell in cells))
    shares = {
        (cell.victim, cell.judge): metrics.rate(cell.fooled, cell.eligible)
        for cell in cells
        if cell.eligible
    }
    table = [[shares.get((victim, judge)) for judge, _ in judges] for victim in victims]
    columns = [f"{judge}{' *' if real else ''}" for judge, real in judges]

    def draw(canvas: Canvas) -> None:
        draw_matrix(canvas, table, rows=victims, columns=columns)

    best = statistics.aggregated(cells)
    said = "; ".join(f"{judge}: at most {words.percent(rate)}" for judge, rate in best.items())
    return Figure(name, f"Transfer of {what}", said, draw,
                  (2.2 + 0.75 * len(judges), 1.3 + 0.4 * len(victims)))  # fmt: skip
