"""The checks that compare attacks image by image: 6, 7, 15 and 18; and what a headline rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import metrics, statistics
from ..results import Store
from ..types import EngineFacts, Json, Result
from .case import Case, Check, Flags, Status, count, of_engine, percent, wilson
from .worst import THREATS, within

MISSED = 0.002
"""Share of images found by the engine search alone above which gradients are said to be masked
(AutoAttack's threshold for Square)."""


WHITE = "T3"


def is_white_box(row: Result) -> bool:
    """Whether an attack followed gradients of the network that was deployed."""
    return row.tier == WHITE and row.knowledge != "surrogate"


@dataclass(frozen=True, eq=False)
class Missed:
    """Images ``(N,)`` that a search on the engine fools and the white-box attack does not.

    ``able``: those right when clean, of which they are a share.
    """

    flags: Flags
    able: Flags

    @property
    def share(self) -> float:
        return metrics.rate(int(self.flags.sum()), int(self.able.sum()))


def missed(case: Case) -> Missed | None:
    """What the white-box attack misses; ``None`` where it or the search did not run."""
    white = case.labelled(row for row in case.rows if is_white_box(row))
    black = case.labelled(case.of_tiers("T4", "T6"))
    if not white or not black:
        return None
    return Missed(case.fooled(black) & ~case.fooled(white), case.able())


def white_box_leaves_headline(case: Case) -> bool:
    """Whether the white-box number may not be quoted as the strength of a gradient attack.

    So it is when searches on the engine fool more than 0.2 points of the images that it does not.
    Its images still count in every union: they fall.
    """
    found = missed(case)
    return found is not None and found.share > MISSED


def record(rows: Sequence[Result], store: Store, *, facts: EngineFacts) -> dict[str, Json]:
    """What is to be remembered of a baseline, for check 15 of later runs: the probe ``record``."""
    case = of_engine(rows, store, facts=facts, probes={})
    found = missed(case)
    return {
        "fooled": int(case.fooled(case.attacks).sum()),
        "eligible": int(case.able().sum()),
        "missed": None if found is None else int(found.flags.sum()),
    }


def white_box_against_search(case: Case, baseline: Case | None) -> Check:
    """6: a white-box attack is at least as strong as a search that knows less.

    Against a baseline it is flagged only where the share exceeds the baseline's on the same images:
    a search finds some images that too few restarts miss where there is nothing to mask.
    """
    name = "white-box is at least black-box"
    remedy = "Raise restarts; if it stays, gradients are masked: quote the engine search instead."
    found = missed(case)
    if found is None:
        figure = "needs a white-box attack and a search on the engine"
        return Check(6, name, "not run", figure, None, "Add --attack pgd,patch_rs.")
    share = found.share
    interval = wilson(int(found.flags.sum()), int(found.able.sum()))
    figure = f"{percent(share)} of the images fall to the engine search alone"
    flagged = share > MISSED
    before = None if baseline is None else missed(baseline)
    if before is not None and baseline is not None:
        mine, theirs = _same_images(case, baseline, found.able, before.able)
        more = statistics.compared(found.flags[mine], before.flags[theirs])
        figure += f"; {percent(before.share)} of the baseline's, {100 * more.value:+.1f} points"
        figure += f" [{100 * more.low:.1f}, {100 * more.high:.1f}] on the same images"
        flagged = flagged and more.low > 0
    return Check(6, name, "flag" if flagged else "pass", figure, interval, remedy)


def white_box_against_transfer(case: Case) -> Check:
    """7: patches made on the simulation do at least as well as patches made on a surrogate."""
    name = "white-box is at least transfer"
    remedy = "The simulation's gradients mislead: check its backward rules and temperature."
    groups: dict[tuple[object, ...], dict[str, list[Result]]] = {}
    for row in case.labelled(case.of_tiers("T1", "T3")):
        setting = (row.attack, row.target, row.mask_digest, row.placement, row.seed)
        groups.setdefault(setting, {}).setdefault(row.knowledge, []).append(row)
    found = []
    for group in groups.values():
        if {"surrogate", "simulation"} <= set(group):
            transferred, own = (_strongest(group[kind]) for kind in ("surrogate", "simulation"))
            lead = statistics.compared(case.fooled([transferred]), case.fooled([own]))
            found.append((lead, own.attack))
    if not found:
        figure = "no attack was crafted both on the simulation and on a surrogate"
        return Check(7, name, "not run", figure, None, "Craft on both, or use a suite.")
    lead, attack = max(found, key=lambda pair: pair[0].low)
    figure = (
        f"{100 * lead.value:+.1f} points for the surrogate's {attack}, the most of {len(found)}"
    )
    status: Status = "flag" if lead.low > 0 else "pass"
    return Check(7, name, status, figure, (lead.low, lead.high), remedy)


def works_undefended(case: Case, baseline: Case | None) -> Check:
    """15: the same attacks reach the baseline's recorded rate, and miss no more than recorded."""
    name, remedy = "attack works undefended", "The attack is broken: repair it before any claim."
    known = case.probe("record")
    if baseline is None or known is None:
        figure = "no baseline" if baseline is None else "no recorded rate of the baseline"
        return Check(15, name, "not run", figure, None, "Name a baseline run and its record.")
    if not baseline.labelled(baseline.attacks):
        return Check(15, name, "not run", "no attack ran on the baseline", None, remedy)
    fooled = int(baseline.fooled(baseline.attacks).sum())
    able = int(baseline.able().sum())
    before = count(known, "fooled"), count(known, "eligible")
    broken = metrics.rate(fooled, able) < wilson(*before)[0]
    figure = f"{percent(fooled / able)} on the baseline, recorded {percent(before[0] / before[1])}"
    now = missed(baseline)
    if now is not None and known.get("missed") is not None:
        limit = wilson(count(known, "missed"), before[1])[1]
        if now.share > max(MISSED, limit):
            broken = True
            figure += f"; the search alone fools {percent(now.share)} of it, beyond its record"
    return Check(15, name, "flag" if broken else "pass", figure, wilson(fooled, able), remedy)


def per_image_worst_case(case: Case) -> Check:
    """18: the headline is a union over attacks on each image, not the best mean."""
    name, remedy = "per-image worst case", "Run the attack again: the labels of some rows are gone."
    attacks = case.attacks
    if not attacks:
        return Check(18, name, "not run", "no attack was run", None, "Add --attack, or a suite.")
    if len(case.labelled(attacks)) < len(attacks):
        lost = len(attacks) - len(case.labelled(attacks))
        return Check(18, name, "flag", f"{lost} attacks have means only", None, remedy)
    able = int(case.able().sum())
    fooled = int(case.fooled(attacks).sum())
    tiers = sorted({row.tier for row in attacks})
    each = [f"{tier} {percent(case.fooled(case.of_tiers(tier)).sum() / able)}" for tier in tiers]
    figure = f"{percent(fooled / able)} fall to some attack ({', '.join(each)})"
    return Check(18, name, "pass", figure, wilson(fooled, able), remedy)


def against(case: Case, baseline: Case) -> dict[str, statistics.Difference]:
    """Headline unions of case minus baseline, for each threat model, over the attacks of both."""
    groups = {threat: partial(within, threat=threat) for threat in THREATS}
    return compared(case, baseline, groups=groups)


def compared(
    case: Case, other: Case, *, groups: Mapping[str, Callable[[Sequence[Result]], Sequence[Result]]]
) -> dict[str, statistics.Difference]:
    """Unions of case minus other over the rows that each of ``groups`` chooses, by its name.

    Over the attacks of both alone. Two engines have two sets of images they get right: paired on
    the intersection. Groups without an attack in common, or all without such an image, are left
    out.
    """
    mine, theirs = _same_images(case, other, case.able(), other.able())
    both = {_kind(row) for row in case.labelled(case.attacks)}
    both &= {_kind(row) for row in other.labelled(other.attacks)}
    found: dict[str, statistics.Difference] = {}
    for name, chosen in groups.items() if len(mine) else ():
        own, others = (
            chosen([row for row in one.attacks if _kind(row) in both]) for one in (case, other)
        )
        if own:
            found[name] = statistics.compared(case.fooled(own)[mine], other.fooled(others)[theirs])
    return found


def _kind(row: Result) -> tuple[str, ...]:
    """What two engines must have been attacked with for a union over both to be fair."""
    shape = (str(row.target), row.mask_digest, row.placement, str(row.seed), row.knowledge,
             str(row.kappa))  # fmt: skip
    return (row.threat, row.tier, row.attack, *shape)


def _same_images(case: Case, baseline: Case, *able: Flags) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both, of the images that are eligible on both, in one order."""
    _, mine, theirs = np.intersect1d(case.ids(), baseline.ids(), return_indices=True)
    both = able[0][mine] & able[1][theirs]
    return mine[both], theirs[both]


def _strongest(rows: Sequence[Result]) -> Result:
    return max(rows, key=lambda row: metrics.rate(row.counts.fooled, row.counts.eligible))
