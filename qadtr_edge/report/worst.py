"""The deployed worst case: images that some attack makes wrong, of those the engine gets right.

Per image over tiers T1 to T6, as the attack suite's headline is; any wrong label counts, of
targeted patches too, so that the shares can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .. import metrics
from ..results import Store
from ..verdict.case import HEADLINE, Case
from .rows import Row, largest

THREATS = {
    "T-A": "one patch for all images, at places the attacker does not choose",
    "T-B": "one patch for all images, at places chosen for each image",
    "T-C": "a patch of its own for each image",
}


@dataclass(frozen=True)
class Worst:
    """``fooled`` of ``eligible`` images over ``attacks`` rows; ``unlabelled`` rows could not be
    counted, because the labels behind them are missing."""

    fooled: int
    eligible: int
    attacks: int
    unlabelled: int

    @property
    def asr(self) -> float:
        return metrics.rate(self.fooled, self.eligible)

    @property
    def interval(self) -> metrics.Interval:
        return metrics.wilson(self.fooled, self.eligible)


def worst_case(rows: Iterable[Row], store: Store, *, threat: str | None = None) -> Worst | None:
    """The union over the attack rows of one engine on its largest set of images.

    ``threat`` restricts it to one of ``THREATS``. ``None`` without a row that has labels.
    """
    chosen = [row.result for row in largest(row for row in rows if row.result.tier in HEADLINE)]
    if threat is not None:
        chosen = [result for result in chosen if result.threat == threat]
    case = Case(tuple(chosen), store)
    labelled = case.labelled(chosen)
    if not labelled:
        return None
    return Worst(
        fooled=int(case.fooled(labelled).sum()),
        eligible=int(case.able().sum()),
        attacks=len(chosen),
        unlabelled=len(chosen) - len(labelled),
    )
