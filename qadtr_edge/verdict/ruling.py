"""From checks to one verdict: the first that matches. None of them says robust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .. import metrics, statistics
from ..results import Store
from ..types import EngineFacts, Json, Result
from . import from_model, from_probes, from_rows, unions
from .ablation import ablation
from .case import Case, Check, Name, Verdict, of_baseline, of_engine

INCOMPLETE = (1, 13, 14, 18, 24)
"""Checks without which there is no headline: each must have run and passed."""

BROKEN = (3, 5, 8, 10, 15, 16)
UNCONVERGED = (4, 11, 12)
MASKED = (6, 7, 9, 17)

QUICK = "quick"
SIGNIFICANT = 0.05


def judge(
    rows: Sequence[Result],
    store: Store,
    *,
    suite: str | None,
    facts: EngineFacts,
    probes: Mapping[str, Json],
    baseline: tuple[Sequence[Result], Store] | None = None,
) -> Verdict:
    """The verdict on the engine of ``facts`` from its ``rows``, whose labels are in ``store``.

    ``suite``: its name, ``None`` when attacks were named one by one. ``probes``: what
    ``probes.run`` measured, and ``record`` and ``ablation`` where they are known. ``baseline``:
    the rows of the undefended network on the same kind of engine, and their store. Raises
    ``BadInput`` for labels or probes that cannot be read.
    """
    case = of_engine(rows, store, facts=facts, probes=probes)
    before = None if baseline is None else of_baseline(*baseline, facts=facts)
    checks = _checks(case, before)
    name, reason = _first(case, checks, before=before)
    if suite == QUICK and name in ("no_difference", "better"):
        reason = f"a quick run may show a failure and no more: {reason}"
        name = "measured"
    return Verdict(name, f"{reason}; {_scope(case, suite)}", checks)


def _checks(case: Case, baseline: Case | None) -> tuple[Check, ...]:
    """All 24, by number."""
    found = [
        *(check(case) for check in from_rows.CHECKS),
        *(check(case) for check in from_probes.CHECKS),
        *(check(case) for check in from_model.CHECKS),
        ablation(case),
        unions.white_box_against_search(case, baseline),
        unions.white_box_against_transfer(case),
        unions.works_undefended(case, baseline),
        unions.per_image_worst_case(case),
    ]
    return tuple(sorted(found, key=lambda check: check.number))


def _first(case: Case, checks: tuple[Check, ...], *, before: Case | None) -> tuple[Name, str]:
    """The first verdict that matches, and why."""
    by_number = {check.number: check for check in checks}
    indicators = case.probe("indicators")
    absent = [n for n in INCOMPLETE if by_number[n].status != "pass"]
    absent += [22] if by_number[22].status == "not run" else []
    broken = _flagged(by_number, BROKEN)
    broken += [21] if indicators and from_probes.failed_silently(indicators) else []
    moving = _flagged(by_number, UNCONVERGED)
    moving += [21] if indicators and from_probes.still_moving(indicators) else []
    masked = _flagged(by_number, MASKED)
    reasons: tuple[tuple[Name, list[int]], ...] = (
        ("incomplete", absent),
        ("attack_broken", broken),
        ("not_converged", moving),
        ("masked", masked),
    )
    for name, numbers in reasons:
        if numbers:
            return name, "; ".join(_said(by_number[number]) for number in sorted(numbers))
    if before is None:
        return "measured", "a lower bound, as good as the best attack tried"
    return _against(case, before)


def _against(case: Case, before: Case) -> tuple[Name, str]:
    """Worse, better or no difference shown, by exact paired tests adjusted by Holm.

    The family are the threat models both were attacked under; they are never averaged. Worse under
    one of them is worse.
    """
    found = unions.against(case, before)
    if not found:
        return "measured", "no attack in common with the baseline on images both get right"
    adjusted = statistics.holm(
        {
            threat: metrics.mcnemar(lead.first_only, lead.second_only)
            for threat, lead in found.items()
        }
    )
    shown = {threat: found[threat].value for threat in found if adjusted[threat] < SIGNIFICANT}
    listed = ", ".join(
        f"{threat} {100 * lead.value:+.1f} points [{100 * lead.low:.1f}, {100 * lead.high:.1f}], "
        f"p = {adjusted[threat]:.2g}"
        for threat, lead in found.items()
    )
    reason = f"{listed} against the baseline (Holm over {len(found)})"
    if any(value > 0 for value in shown.values()):
        return "worse", reason
    if shown:
        return "better", reason
    widest = max(found.values(), key=lambda lead: lead.high - lead.low)
    return "no_difference", f"{statistics.no_difference(widest).rstrip('.')}; {reason}"


def _flagged(checks: Mapping[int, Check], numbers: Iterable[int]) -> list[int]:
    return [number for number in numbers if checks[number].status == "flag"]


def _said(check: Check) -> str:
    return f"check {check.number}, {check.name}: {check.figure}"


def _scope(case: Case, suite: str | None) -> str:
    """Against what, on how many images."""
    n = case.rows[0].counts.n if case.rows else 0
    against = "against the attacks named" if suite is None else f"against the {suite} suite"
    note = statistics.size_note(n) if n else None
    return f"{against}, n = {n}" + (f" ({note})" if note else "")
