"""What ``attack`` shows on stdout: tables, and one line for each engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import console
from ..report import words
from ..report.rows import Row
from ..report.warnings import title
from ..types import FLOAT_BITS
from ..verdict.unions import WHITE
from ..verdict.worst import Worst
from . import attack_beyond
from .attack_answer import Answer, AtWidth

COLUMNS = (
    "engine", "ran as", "attack", "goal", "ASR [95 %]", "fooled", "control", "excess", "clean",
    "robust", "sim / engine only (p)",
)  # fmt: skip


def show(found: Answer, *, class_names: Sequence[str]) -> None:
    """The answer as tables and lines on stdout.

    Of a suite: one line for each attack, the tiers, the checks; else one line for each row.
    """
    if found.suite is None:
        _show_rows(found, class_names=class_names)
    else:
        _show_suite(found, class_names=class_names)
    for width in found.widths:
        console.answer(_sentence(width))
    for line in attack_beyond.lines(found):
        console.answer(line)
    for width in found.widths:
        spoken = f" ({title(width.engine, width.bits)})" if len(found.widths) > 1 else ""
        console.answer(f"Verdict{spoken}: {_verdict(width)}")


def _verdict(width: AtWidth) -> str:
    return f"{width.verdict.name.replace('_', ' ')}: {width.verdict.reason}."


def _show_rows(found: Answer, *, class_names: Sequence[str]) -> None:
    """The places stand in the table when there are several kinds, the queries when one searched."""
    lines = [_line(row, class_names) for row in found.rows]
    columns = list(COLUMNS)
    if len({row.result.placement for row in found.rows}) > 1:
        _add(columns, lines, "places", [row.result.placement for row in found.rows])
    queries = [row.result.queries_median for row in found.rows]
    if any(median is not None for median in queries):
        _add(columns, lines, "queries", ["" if q is None else f"{q:g}" for q in queries])
    console.print_table(columns, lines, title=_title(found))


def _title(found: Answer) -> str:
    first = found.rows[0].result
    title = f"{first.patch_size_px} px patch on {first.counts.n} images"
    return f"{title}, seed {first.seed}" if found.suite is None else f"{title}, {found.suite} suite"


def _show_suite(found: Answer, *, class_names: Sequence[str]) -> None:
    console.print_table(ATTACKS, _attacks(found.rows, class_names), title=_title(found))
    attack_beyond.show_margins(found)
    tiers = [
        [title(width.engine, width.bits), name, _union(union) + (
            ", not to be quoted: searches on the engine beat it"
            if name == WHITE and width.white_box_leaves else "")]
        for width in found.widths
        for name, union in (*width.by_tier.items(), *width.by_threat.items(), ("all", width.worst))
    ]  # fmt: skip
    console.print_table(
        TIERS, tiers, title="Some attack of it wins, per image; T-B counts T-A too, T-C all"
    )
    for width in found.widths:
        checks = [
            [
                str(check.number), check.name,
                check.status if check.status == "pass" else check.status.upper(), check.figure,
                "" if check.interval is None
                else f"[{100 * check.interval[0]:.1f}, {100 * check.interval[1]:.1f}]",
                "" if check.status == "pass" else check.remedy,
            ]
            for check in width.verdict.checks
        ]  # fmt: skip
        console.print_table(CHECKS, checks, title=f"Checks of {title(width.engine, width.bits)}")


ATTACKS = ("engine", "tier", "attack", "made on", "goal", "threat", "rows", "ASR, least to most")
TIERS = ("engine", "tier or threat", "ASR [95 %]")
CHECKS = ("check", "rule", "status", "found", "95 %", "remedy")


def _attacks(rows: Iterable[Row], class_names: Sequence[str]) -> list[list[str]]:
    """One line for all rows of an attack, by tier: how far they spread, never a mean of them."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        result = row.result
        key = (
            title(result.engine, result.bits), result.tier, words.attack(row), result.victim,
            _goal(row, class_names), result.threat,
        )  # fmt: skip
        groups.setdefault(key, []).append(row)
    return [
        [*key, str(len(group)), _spread([row.asr for row in group])]
        for key, group in sorted(groups.items(), key=lambda item: item[0][:2])
    ]


def _spread(rates: Sequence[float]) -> str:
    least, most = min(rates), max(rates)
    return _percent(least) if least == most else f"{_percent(least)} to {_percent(most)}"


def _union(found: Worst | None) -> str:
    return words.NOT_RUN if found is None else words.rate(found)


def _goal(row: Row, class_names: Sequence[str]) -> str:
    target = row.result.target
    return "any other" if target is None else class_names[target]


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
    ran_as = "float32" if result.bits == FLOAT_BITS else result.precision
    paired = (
        ""
        if row.p_mcnemar is None
        else (f"{counts.sim_only} / {counts.engine_only} ({row.p_mcnemar:.2g})")
    )
    return [
        title(result.engine, result.bits),
        ran_as,
        result.attack,
        _goal(row, class_names),
        words.rate(row),
        f"{counts.fooled} / {counts.eligible}",
        "" if row.is_control else _percent(row.control_asr),
        "" if row.asr_excess is None else f"{100 * row.asr_excess:+.1f}",
        _percent(row.clean_accuracy),
        _percent(row.robust_accuracy),
        paired,
    ]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
