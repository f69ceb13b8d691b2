"""What ``attack`` answers: the JSON document, the table, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import console, metrics
from ..attacks.controls import OCCLUSION
from ..report.rows import CONTROL_TIER, Row, rows
from ..report.warnings import title
from ..results import Store
from ..types import FLOAT_BITS, Json, Result

GRADIENT_FREE = {"T4", "T5", "T6"}
"""Tiers that search on the engine itself: the only evidence gradient masking cannot touch.

A location sweep, T2, is not among them: it asks the engine, but for places of a patch that
gradients made."""


@dataclass(frozen=True)
class AtWidth:
    """One engine at one width.

    ``worst_case_asr``: images that at least one attack makes wrong, among those it gets right;
    ``occlusion_asr``: the same of the strongest of grey, noise and crop.
    """

    engine: str
    bits: int
    precision: str
    n: int
    clean_accuracy: float
    occlusion_asr: float | None
    worst_case_asr: float | None


@dataclass(frozen=True, eq=False)
class Answer:
    """The rows of this command, and what follows from them. The extremes run over all widths."""

    rows: tuple[Row, ...]
    widths: tuple[AtWidth, ...]
    verdict: str
    verdict_reason: str

    @property
    def worst_case_asr(self) -> float | None:
        return max(
            (w.worst_case_asr for w in self.widths if w.worst_case_asr is not None), default=None
        )

    def as_json(self) -> dict[str, Json]:
        """The document under the stable names.

        With several widths ``clean_accuracy`` is the lowest, the other two rates the highest;
        ``by_width`` has each.
        """
        controls = [w.occlusion_asr for w in self.widths if w.occlusion_asr is not None]
        return {
            "results": [row.as_json() for row in self.rows],
            "clean_accuracy": min(width.clean_accuracy for width in self.widths),
            "occlusion_asr": max(controls, default=None),
            "worst_case_asr": self.worst_case_asr,
            "verdict": self.verdict,
            "verdict_reason": self.verdict_reason,
            "by_width": [
                {
                    "engine": width.engine,
                    "bits": width.bits,
                    "precision": width.precision,
                    "n": width.n,
                    "clean_accuracy": width.clean_accuracy,
                    "occlusion_asr": width.occlusion_asr,
                    "worst_case_asr": width.worst_case_asr,
                }
                for width in self.widths
            ],
        }


def answer(results: Sequence[Result], store: Store) -> Answer:
    """The answer of these results, whose labels are in ``store``."""
    verdict, reason = _verdict(results)
    pairs = dict.fromkeys((result.engine, result.bits) for result in results)
    widths = (
        [result for result in results if (result.engine, result.bits) == pair] for pair in pairs
    )
    return Answer(
        rows=rows(results),
        widths=tuple(_at_width(there, store) for there in widths),
        verdict=verdict,
        verdict_reason=reason,
    )


def _at_width(results: Sequence[Result], store: Store) -> AtWidth:
    first = results[0]
    attacks = [row for row in results if row.tier != CONTROL_TIER]
    occlusion = [row for row in results if row.attack in OCCLUSION]
    return AtWidth(
        engine=first.engine,
        bits=first.bits,
        precision=first.precision,
        n=first.counts.n,
        clean_accuracy=metrics.rate(first.counts.clean_correct, first.counts.n),
        occlusion_asr=max((_made_wrong([row], store) for row in occlusion), default=None),
        worst_case_asr=_made_wrong(attacks, store) if attacks else None,
    )


def _made_wrong(results: Sequence[Result], store: Store) -> float:
    """Share of the images right when clean that some of these patches make wrong.

    Any wrong label counts, of targeted patches too, so that the shares can be compared.
    """
    each = [store.outcomes(row.key) for row in results]
    truth, clean = each[0].truth, each[0].clean.labels
    able = metrics.eligible(clean, truth)
    won = metrics.union(np.stack([metrics.succeeded(one.patched.labels, truth) for one in each]))
    return metrics.rate(int((able & won).sum()), int(able.sum()))


def _verdict(results: Sequence[Result]) -> tuple[str, str]:
    """The verdict, and one sentence why. None of them says robust."""
    asked = {(row.engine, row.bits) for row in results if row.tier in GRADIENT_FREE}
    if {(row.engine, row.bits) for row in results} - asked:
        return "incomplete", (
            "no gradient-free attack made patches on every engine, so these rates are lower "
            "bounds that masked gradients could hide behind"
        )
    return "measured", "a lower bound, as good as the best attack tried"


COLUMNS = (
    "engine", "ran as", "attack", "goal", "ASR [95 %]", "fooled", "control", "excess", "clean",
    "robust", "sim / engine only (p)",
)  # fmt: skip


def show(found: Answer, *, class_names: Sequence[str]) -> None:
    """The answer as a table and two lines on stdout.

    The places stand in it when there are several kinds, the queries when a search ran.
    """
    lines = [_line(row, class_names) for row in found.rows]
    first, columns = found.rows[0].result, list(COLUMNS)
    if len({row.result.placement for row in found.rows}) > 1:
        _add(columns, lines, "places", [row.result.placement for row in found.rows])
    queries = [row.result.queries_median for row in found.rows]
    if any(median is not None for median in queries):
        _add(columns, lines, "queries", ["" if q is None else f"{q:g}" for q in queries])
    console.print_table(
        columns,
        lines,
        title=f"{first.patch_size_px} px patch on {first.counts.n} images, seed {first.seed}",
    )
    for width in found.widths:
        console.answer(_sentence(width))
    console.answer(f"Verdict: {found.verdict}: {found.verdict_reason}.")


def _add(columns: list[str], lines: list[list[str]], name: str, cells: list[str]) -> None:
    """Puts a column before the success rates."""
    at = columns.index("ASR [95 %]")
    columns.insert(at, name)
    for line, cell in zip(lines, cells, strict=True):
        line.insert(at, cell)


def _sentence(width: AtWidth) -> str:
    """One engine at one width in words."""
    said = [f"{title(width.engine, width.bits)} is right on {_percent(width.clean_accuracy)}"]
    if width.worst_case_asr is not None:
        said.append(f"of those, some attack fools {_percent(width.worst_case_asr)}")
    if width.occlusion_asr is not None:
        said.append(f"a square without an attack fools {_percent(width.occlusion_asr)}")
    return "; ".join(said) + "."


def _line(row: Row, class_names: Sequence[str]) -> list[str]:
    result, counts = row.result, row.result.counts
    goal = "any other" if result.target is None else class_names[result.target]
    ran_as = "float32" if result.bits == FLOAT_BITS else result.precision
    paired = (
        ""
        if row.p_mcnemar is None
        else (f"{counts.sim_only} / {counts.engine_only} ({row.p_mcnemar:.2g})")
    )
    interval = f"[{100 * row.interval.low:.1f}, {100 * row.interval.high:.1f}]"
    return [
        title(result.engine, result.bits),
        ran_as,
        result.attack,
        goal,
        f"{_percent(row.asr)} {interval}",
        f"{counts.fooled} / {counts.eligible}",
        "" if row.is_control else _percent(row.control_asr),
        "" if row.asr_excess is None else f"{100 * row.asr_excess:+.1f}",
        _percent(row.clean_accuracy),
        _percent(row.robust_accuracy),
        paired,
    ]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
