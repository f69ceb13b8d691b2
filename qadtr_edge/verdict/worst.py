"""The deployed worst case: images that some attack makes wrong, of those the engine gets right.

Per image over tiers T1 to T6; any wrong label counts, of targeted patches too, so that the shares
can be compared. Threat models are read cumulatively: who may choose the place may also leave it to
chance, and who may make a patch for each image may also make one for all. So what T-A counts is
part of T-B, and that part of T-C, which holds every attack of the headline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .. import metrics
from ..types import Json, Result
from .case import Case

THREATS = {
    "T-A": "one patch for all images, at places the attacker does not choose",
    "T-B": "that, and one patch for all images at places chosen for each image",
    "T-C": "all that, and a patch of its own for each image",
}
"""From the weakest attacker to the strongest; each may do what those before may."""


@dataclass(frozen=True)
class Worst:
    """``fooled`` of ``eligible`` images over ``attacks`` rows; ``unlabelled`` rows could not be
    counted, because the labels behind them are missing."""

    fooled: int
    eligible: int
    attacks: int
    unlabelled: int = 0

    @property
    def asr(self) -> float:
        return metrics.rate(self.fooled, self.eligible)

    @property
    def interval(self) -> metrics.Interval:
        return metrics.wilson(self.fooled, self.eligible)

    def as_json(self) -> dict[str, Json]:
        return {
            "fooled": self.fooled,
            "eligible": self.eligible,
            "asr": self.asr,
            "asr_low": self.interval.low,
            "asr_high": self.interval.high,
        }


def worst(case: Case, rows: Iterable[Result]) -> Worst | None:
    """The union over ``rows`` of a case; ``None`` without a row that has labels."""
    chosen = tuple(rows)
    labelled = case.labelled(chosen)
    if not labelled:
        return None
    return Worst(
        fooled=int(case.fooled(labelled).sum()),
        eligible=int(case.able().sum()),
        attacks=len(chosen),
        unlabelled=len(chosen) - len(labelled),
    )


def within(rows: Iterable[Result], threat: str) -> tuple[Result, ...]:
    """What an attacker of ``threat`` may do: its own rows and those of weaker attackers.

    A row of a threat that is none of ``THREATS`` counts for the strongest alone. Where a threat
    model has no row of its own there is nothing of it to report, and the answer is empty.
    """
    order = list(THREATS)
    last = len(order) - 1
    ranks = [(row, order.index(row.threat) if row.threat in THREATS else last) for row in rows]
    wanted = order.index(threat)
    if all(rank != wanted for _, rank in ranks):
        return ()
    return tuple(row for row, rank in ranks if rank <= wanted)


def by_threat(case: Case) -> dict[str, Worst | None]:
    """The worst case of each threat model, over the attacks of the headline."""
    return {threat: worst(case, within(case.attacks, threat)) for threat in THREATS}
