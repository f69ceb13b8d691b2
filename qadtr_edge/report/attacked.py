"""Sections on attack success: simulation against engine, and by width and attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import statistics
from ..analysis.figure import COLOURS
from ..types import FLOAT_BITS
from . import equal, spread, words
from .document import Document
from .rows import Row
from .section import Figure, Section, table
from .warnings import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def simulation(document: Document) -> Section:
    """Each attack on the engine and in simulation, image by image."""
    found = [row for row in document.rows if row.p_mcnemar is not None and _common(row)]
    adjusted = statistics.holm({row.result.key: row.p_mcnemar or 0.0 for row in found})
    unpaired = [row for row in document.rows if row.p_mcnemar is None and not row.is_control]
    missing = [f"{len(unpaired)} attack rows were not shown to a simulation."] if unpaired else []
    if not found:
        missing.append("No attack was run in simulation and on an engine.")
    points = 100 * statistics.MARGIN
    return Section(
        name="simulation",
        title="Simulation against engine",
        said=(
            "The same bytes were shown to the fake-quantized network and to the engine. Sim only, "
            "engine only, both and neither count the images by which of them was fooled, among "
            "those both get right without the patch; p is of McNemar's exact test, adjusted by "
            f"Holm over the {len(found)} rows tested. Equal to within {points:g} point is tested "
            "(two one-sided tests), never read off p.",
            *(one.said for one in equal.tested(document)),
        ),
        missing=tuple(missing),
        tables=(
            table(
                "Simulation against engine, attack by attack",
                ("engine", "attack", "goal", "size px", "places", "ASR simulated", "ASR on engine",
                 "sim only", "engine only", "both / neither", "n", "p", "p (Holm)",
                 "difference, points [95 %]", "equal"),
                rows=[_compared(row, adjusted[row.result.key]) for row in found],
            ),
        ) if found else (),
    )  # fmt: skip


def _common(row: Row) -> int:
    """Images that are right without the patch on the engine and in simulation."""
    return row.result.counts.both_eligible or 0


def _compared(row: Row, p_holm: float) -> list[str]:
    counts, n = row.result.counts, _common(row)
    both, b, c = counts.both_fooled or 0, counts.sim_only or 0, counts.engine_only or 0
    lead = statistics.difference(b, c, n=n)
    shown = statistics.equivalence(b, c, n=n).equivalent
    return [
        *_head(row), words.percent(row.sim_asr), words.percent(row.asr), str(b), str(c),
        f"{both} / {n - both - b - c}", str(n), f"{row.p_mcnemar:.2g}", f"{p_holm:.2g}",
        f"{100 * lead.value:+.2f} [{100 * lead.low:.2f}, {100 * lead.high:.2f}]",
        "shown" if shown else "not shown",
    ]  # fmt: skip


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
            *spread.tables(document),
        ) if lines else (),
        figures=tuple(_by_width_figure(document.rows, engine) for engine in engines),
    )  # fmt: skip


def _head(row: Row) -> list[str]:
    """The cells that name a row."""
    return [
        title(row.result.engine, row.result.bits),
        words.attack(row),
        words.goal(row),
        row.size,
        row.result.placement,
    ]


def _control(row: Row) -> tuple[str, str]:
    """What the matched control reaches and how much the attack adds; controls have none."""
    if row.is_control:
        return "-", "-"
    return words.percent(row.control_asr), words.points(row.asr_excess)


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
