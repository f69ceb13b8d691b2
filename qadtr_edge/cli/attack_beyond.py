"""What ``attack`` shows beyond success rates: what only the engine gets wrong, certificates."""

from __future__ import annotations

from collections.abc import Iterator

from .. import console
from ..report import beyond, words
from ..report.rows import Row
from ..report.warnings import title
from .attack_answer import Answer


def lines(found: Answer) -> Iterator[str]:
    """One line for each row whose patches the float model was shown too, one for a certificate."""
    for row in found.rows:
        if row.differential is not None:
            yield beyond.differential(row)
    for width in found.widths:
        if width.certified is not None:
            yield beyond.certified(width.certified)


MARGINS = (
    "engine", "attack", "made on", "kept", "wins in simulation", "on the engine", "gap",
    "sim / engine only",
)  # fmt: skip


def show_margins(found: Answer) -> None:
    """Of patches kept at several leads: how many each loses from the simulation to the engine."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in found.rows:
        result = row.result
        key = (result.engine, result.bits, result.attack, result.victim, result.tier, result.seed)
        if result.counts.both_eligible:
            groups.setdefault((*key, result.patch_seed), []).append(row)
    several = [group for group in groups.values()
               if any(row.result.kappa is not None for row in group)]  # fmt: skip
    lines = [
        _margin(row)
        for group in several
        for row in sorted(group, key=lambda row: (row.result.kappa is None, row.result.kappa or 0))
    ]
    if lines:
        console.print_table(MARGINS, lines, title="By the lead in logits at which a patch is kept")


def _margin(row: Row) -> list[str]:
    result, counts = row.result, row.result.counts
    both, simulated, lost = counts.both_eligible, counts.both_fooled, counts.sim_only
    alone = counts.engine_only
    assert both is not None
    assert simulated is not None
    assert lost is not None
    assert alone is not None
    return [
        title(result.engine, result.bits),
        result.attack,
        result.victim,
        "best" if result.kappa is None else f"first by {result.kappa:g}",
        words.share(simulated + lost, both),
        words.share(simulated + alone, both),
        f"{100 * (lost - alone) / both:+.1f}",
        f"{lost} / {alone}",
    ]
