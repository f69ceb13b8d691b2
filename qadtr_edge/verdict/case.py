"""What checks are made of: the rows of one engine on one set of images, and the probes beside them.

A check reads and never runs anything. What was not run is "not run", never "pass".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..errors import BadInput
from ..results import Outcomes, Store
from ..types import EngineFacts, Json, Labels, Result

Status = Literal["pass", "flag", "not run"]
Name = Literal[
    "incomplete", "attack_broken", "not_converged", "masked", "worse", "no_difference", "better",
    "measured",
]  # fmt: skip
Flags = NDArray[np.bool_]

CONTROLS = "T0"
HEADLINE = ("T1", "T2", "T3", "T4", "T5", "T6")
"""Tiers whose per-image union is the headline; differential patches and certificates are apart."""


@dataclass(frozen=True)
class Check:
    """One automatic check. ``figure``: what was found, in words; ``remedy``: what a flag asks for.

    ``interval``: 95 %, of the number the figure begins with, as fractions; ``None`` without one.
    """

    number: int
    name: str
    status: Status
    figure: str
    interval: tuple[float, float] | None
    remedy: str


@dataclass(frozen=True)
class Verdict:
    """The first verdict that matches, one sentence why, and all checks by number."""

    name: Name
    reason: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """One engine on one set of images.

    ``rows``: its attacks and controls; ``facts`` is ``None`` for a baseline, of which only the rows
    are known. ``probes``: what ``probes.run`` measured, by name. The labels of a row are read once.
    """

    rows: tuple[Result, ...]
    store: Store
    facts: EngineFacts | None = None
    probes: Mapping[str, Json] = field(default_factory=dict)
    _wrong: dict[str, Flags] = field(default_factory=dict, init=False, repr=False)

    @property
    def attacks(self) -> tuple[Result, ...]:
        return tuple(row for row in self.rows if row.tier in HEADLINE)

    def of_tiers(self, *tiers: str) -> tuple[Result, ...]:
        return tuple(row for row in self.rows if row.tier in tiers)

    def has_labels(self, row: Result) -> bool:
        """Whether the labels behind a row are in the store."""
        return (self.store.labels / f"{row.key}.npz").is_file()

    def outcomes(self, row: Result) -> Outcomes:
        return self.store.outcomes(row.key)

    @cached_property
    def seen(self) -> Outcomes | None:
        """Ids, truth and clean answers, which all rows share; ``None`` without a labelled row."""
        labelled = next((row for row in self.rows if self.has_labels(row)), None)
        return None if labelled is None else self.outcomes(labelled)

    def fooled(self, rows: Iterable[Result]) -> Flags:
        """Images right when clean that some of these patches make wrong, ``(N,)``.

        Any wrong label counts, of targeted patches too. Raises ``ValueError`` for no rows.
        """
        each = [self.wrong(row) for row in rows if self.has_labels(row)]
        if not each:
            raise ValueError("no labels to form a union of")
        return self.able() & metrics.union(np.stack(each))

    def wrong(self, row: Result) -> Flags:
        """Images that are labelled wrong with the patch of a row, ``(N,)``."""
        if row.key not in self._wrong:
            kept = self.outcomes(row)
            self._wrong[row.key] = metrics.succeeded(kept.patched.labels, kept.truth)
        return self._wrong[row.key]

    def labelled(self, rows: Iterable[Result]) -> tuple[Result, ...]:
        return tuple(row for row in rows if self.has_labels(row))

    def ids(self) -> Labels:
        """The ids of the images, in the order of every union."""
        seen = self.seen
        return np.zeros(0, np.int64) if seen is None else seen.ids

    def able(self) -> Flags:
        """Images right when clean, ``(N,)``."""
        seen = self.seen
        if seen is None:
            return np.zeros(0, np.bool_)
        return metrics.eligible(seen.clean.labels, seen.truth)

    def probe(self, name: str) -> Mapping[str, Json] | None:
        """The probe of that name, or ``None`` when it did not run."""
        found = self.probes.get(name)
        if found is not None and not isinstance(found, dict):
            raise _malformed(name)
        return found

    def series(self, name: str) -> list[Mapping[str, Json]] | None:
        """The steps of a probe that is a list, or ``None`` when it did not run."""
        found = self.probes.get(name)
        if found is None:
            return None
        if not isinstance(found, list) or not found:
            raise _malformed(name)
        steps: list[Mapping[str, Json]] = []
        for step in found:
            if not isinstance(step, dict):
                raise _malformed(name)
            steps.append(step)
        return steps


def of_engine(
    rows: Sequence[Result], store: Store, *, facts: EngineFacts, probes: Mapping[str, Json]
) -> Case:
    """The rows of the engine file of ``facts``, on the largest set of images among them."""
    mine = [
        row
        for row in rows
        if (row.engine, row.bits, row.engine_digest) == (facts.engine, facts.bits, facts.digest)
    ]
    return Case(_largest(mine), store, facts=facts, probes=probes)


def of_baseline(rows: Sequence[Result], store: Store, *, facts: EngineFacts) -> Case | None:
    """The rows of a baseline on the same kind of engine, of its newest file, or ``None``."""
    mine = [row for row in rows if (row.engine, row.bits) == (facts.engine, facts.bits)]
    newest = [row for row in mine if row.engine_digest == mine[-1].engine_digest]
    return Case(_largest(newest), store) if newest else None


def count(entry: Mapping[str, Json], name: str) -> int:
    """A count of a probe. Raises ``BadInput`` when it is missing or is none."""
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(name)
    return value


def counts(entry: Mapping[str, Json], name: str) -> Labels:
    """A list of whole numbers of a probe."""
    value = entry.get(name)
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise _malformed(name)
    return np.array(value, np.int64)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def wilson(fooled: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate as a pair."""
    found = metrics.wilson(fooled, total)
    return found.low, found.high


def _largest(rows: Sequence[Result]) -> tuple[Result, ...]:
    """The rows of one set of images: of the largest, at a tie of the one with most rows."""
    sets = {row.data_digest for row in rows}
    groups = [tuple(row for row in rows if row.data_digest == name) for name in sorted(sets)]
    return max(groups, key=lambda group: (group[0].counts.n, len(group)), default=())


def _malformed(name: str) -> BadInput:
    return BadInput(
        f"The stored probes hold no {name!r} of the kind the checks read.",
        "Delete them and run the same attack command again.",
    )
