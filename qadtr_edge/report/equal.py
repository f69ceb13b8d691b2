"""Whether an engine equals its simulation: one test each, on all that either was fooled by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import metrics, statistics
from ..errors import BadInput
from ..results import Store
from ..statistics import Equivalence
from ..types import Json
from ..verdict.case import HEADLINE
from .document import Document
from .rows import Row, largest
from .warnings import title

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Tested:
    """One engine against its simulation: the unions over ``attacks`` rows, on the images right on
    both without a patch."""

    engine: str
    bits: int
    attacks: int
    found: Equivalence

    @property
    def said(self) -> str:
        """The verdict, what it rests on, and what so many images can show at all."""
        return f"{title(self.engine, self.bits)}: {_said(self.attacks, self.found)}"

    def as_json(self) -> dict[str, Json]:
        lead = self.found.difference
        return {
            "engine": self.engine,
            "bits": self.bits,
            "attacks": self.attacks,
            "n": lead.n,
            "sim_only": lead.first_only,
            "engine_only": lead.second_only,
            "difference": lead.value,
            "low_90": lead.low,
            "high_90": lead.high,
            "margin": self.found.margin,
            "equivalent": self.found.equivalent,
        }


def tested(document: Document) -> list[Tested]:
    """One for each engine whose attacks were shown to its simulation too and have labels."""
    made = []
    for line in document.lines:
        try:
            simulated, real = _won(line.rows, document.evidence.store)
        except BadInput:  # damaged labels
            continue
        if not len(simulated) or not simulated.shape[1]:
            continue
        pairs = metrics.paired(metrics.union(simulated), metrics.union(real))
        found = statistics.equivalence(pairs.first_only, pairs.second_only, n=pairs.n)
        made.append(Tested(line.engine.engine, line.engine.bits, len(real), found))
    return made


def _won(rows: Sequence[Row], store: Store) -> tuple[Flags, Flags]:
    """What each row of the headline wins in simulation and on the engine, ``(A, N)`` both.

    On the images right on both without a patch; of the rows that were shown to both.
    """
    simulated, real = [], []
    for row in largest(row for row in rows if row.result.tier in HEADLINE):
        if row.sim_asr is None:
            continue
        kept = store.outcomes(row.result.key)
        if kept.sim_clean is None or kept.sim_patched is None:
            continue
        able = metrics.eligible(kept.clean.labels, kept.truth)
        able &= metrics.eligible(kept.sim_clean.labels, kept.truth)
        simulated.append(metrics.succeeded(kept.sim_patched.labels, kept.truth)[able])
        real.append(metrics.succeeded(kept.patched.labels, kept.truth)[able])
    none = np.zeros((0, 0), np.bool_)
    return (np.stack(simulated), np.stack(real)) if real else (none, none)


def _said(rows: int, found: Equivalence) -> str:
    lead, points = found.difference, 100 * found.margin
    verdict = (
        f"engine equals simulation within {points:g} point"
        if found.equivalent
        else f"that the engine equals the simulation within {points:g} point is not shown"
    )
    needed = 100 * statistics.discordance_bound(lead.n, margin=found.margin)
    note = statistics.size_note(lead.n)
    return (
        f"{verdict}. Over the images that some of {rows} attacks wins, simulation less engine is "
        f"{100 * lead.value:+.2f} points, 90 % interval [{100 * lead.low:.2f}, "
        f"{100 * lead.high:.2f}], {lead.first_only} fooled in simulation only and "
        f"{lead.second_only} on the engine only, n = {lead.n}. So many images can show it where "
        f"fewer than {needed:.2g} % of them differ" + (f" ({note})." if note else ".")
    )
