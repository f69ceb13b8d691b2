"""Comparisons of two outcomes on the same images: differences, equivalence, families, curves.

Rates and single proportions are in ``metrics.py``, intervals by resampling images in
``resampling.py``. Everything here is paired by image: ``first`` and ``second`` are what two
engines, defences or attacks did to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .types import Labels, Result

MARGIN = 0.01
"""Half-width, as a fraction, of what counts as equal unless another is fixed beforehand."""

INDICATIVE_N = 1000
"""Images below which a rate is only indicative."""

_POWERED = 2.8
"""1.96 + 0.84: normal quantiles of a two-sided 5 % test and of 80 % power."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """First rate minus second rate on the same ``n`` images, with its interval, as fractions.

    ``first_only`` and ``second_only`` count the images on which the two differ.
    """

    value: float
    low: float
    high: float
    first_only: int
    second_only: int
    n: int


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (Schuirmann 1987): the 90 % interval lies within ``margin`` or not."""

    difference: Difference
    margin: float
    equivalent: bool


@dataclass(frozen=True)
class Censored:
    """A median of queries; ``reached`` is false where it is only known to be above ``value``."""

    value: float
    reached: bool


@dataclass(frozen=True)
class Cell:
    """One cell of a transfer matrix: patches crafted on ``victim``, judged on ``judge``.

    ``real``: the judge is an engine, not a simulation.
    """

    victim: str
    judge: str
    real: bool
    fooled: int
    eligible: int


def difference(
    first_only: int, second_only: int, *, n: int, confidence: float = 0.95
) -> Difference:
    """``(first_only - second_only) / n`` and its interval after Agresti and Min (2005).

    Half an image is added to each cell of the 2 x 2 table, so that the interval has a width even
    where no image differs. Raises ``ValueError`` for counts that no ``n`` images can give.
    """
    from scipy.stats import norm

    if n <= 0 or min(first_only, second_only) < 0 or first_only + second_only > n:
        raise ValueError(f"{first_only} and {second_only} of {n} images cannot differ")
    b, c, size = first_only + 0.5, second_only + 0.5, n + 2.0
    middle = (b - c) / size
    half = norm.ppf(0.5 + confidence / 2) * math.sqrt(b + c - (b - c) ** 2 / size) / size
    return Difference(
        value=(first_only - second_only) / n,
        low=max(-1.0, float(middle - half)),
        high=min(1.0, float(middle + half)),
        first_only=first_only,
        second_only=second_only,
        n=n,
    )


def compared(first: Flags, second: Flags, *, confidence: float = 0.95) -> Difference:
    """The difference of two outcomes ``(N,)`` on the same images."""
    table = metrics.paired(first, second)
    return difference(table.first_only, table.second_only, n=table.n, confidence=confidence)


def equivalence(
    first_only: int, second_only: int, *, n: int, margin: float = MARGIN
) -> Equivalence:
    """Whether two rates are the same to within ``margin``, tested at 5 %.

    The margin is fixed before the numbers are seen. A wide interval is "not shown", never "equal".
    """
    found = difference(first_only, second_only, n=n, confidence=0.90)
    return Equivalence(found, margin, equivalent=-margin < found.low and found.high < margin)


def discordant_bound(n: int) -> float:
    """Upper 95 % Wilson bound of the share of images that differ when none of ``n`` does."""
    return metrics.wilson(0, n).high


def holm(family: Mapping[str, float]) -> dict[str, float]:
    """The p values of a declared family, adjusted by Holm (1979), under the same names."""
    order = sorted(family, key=lambda name: family[name])
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * family[name]))
        adjusted[name] = floor
    return {name: adjusted[name] for name in family}


def detectable(first_only: int, second_only: int, *, n: int) -> float:
    """The difference that ``n`` images with so many discordant pairs show with 80 % power."""
    return _POWERED * math.sqrt(first_only + second_only) / n


def no_difference(found: Difference) -> str:
    """The sentence for a difference that was not shown. It never says "equal"."""
    b, c, n = found.first_only, found.second_only, found.n
    said = (
        f"No difference shown: {100 * found.value:.1f} points "
        f"[{100 * found.low:.1f}, {100 * found.high:.1f}], b = {b}, c = {c}, n = {n}"
    )
    if b + c == 0:
        return f"{said}; at most {100 * discordant_bound(n):.2g} % of images differ."
    power = 100 * detectable(b, c, n=n)
    return f"{said}; this n detects about {power:.1f} points with 80 % power."


def size_note(n: int) -> str | None:
    """What must be said of a rate over so few images; ``None`` from 1,000 on."""
    if n >= INDICATIVE_N:
        return None
    widest = metrics.wilson(n // 2, n)
    half = 50 * (widest.high - widest.low)
    return f"{n} images: indicative, an interval may be ±{half:.1f} points wide"


def censored_median(queries: Labels, fooled: Flags, *, budget: int) -> Censored:
    """The median of the queries ``(N,)`` that images needed; those never fooled needed more.

    Never a mean over successes. When half or more of the images were not fooled, the median is only
    known to be above ``budget``. Raises ``ValueError`` when there is no image.
    """
    if not len(queries):
        raise ValueError("a median of nothing")
    needed = np.sort(np.where(fooled, queries.astype(np.float64), np.inf))
    middle = float(needed[(len(needed) - 1) // 2 : len(needed) // 2 + 1].mean())
    return Censored(middle, True) if math.isfinite(middle) else Censored(float(budget), False)


def success_curve(queries: Labels, fooled: Flags, *, at: Sequence[int]) -> tuple[float, ...]:
    """The share of images ``(N,)`` fooled within each number of queries in ``at``."""
    return tuple(metrics.rate(int((fooled & (queries <= q)).sum()), len(queries)) for q in at)


def transfer_matrix(rows: Sequence[Result]) -> tuple[Cell, ...]:
    """Crafted at x judged on, of the rows of one attack: each engine, and the simulation beside it.

    Patches of several seeds and places are pooled. Raises ``ValueError`` for rows that differ in
    attack, goal, size or placement, whose mean would say nothing.
    """
    kinds = {
        (row.attack, row.target, row.patch_rows_px, row.patch_columns_px, row.placement,
         row.data_digest)
        for row in rows
    }  # fmt: skip
    if len(kinds) > 1:
        raise ValueError(f"rows of several attacks make no matrix: {sorted(map(str, kinds))}")
    counts: dict[tuple[str, str, bool], NDArray[np.int64]] = {}
    for row in rows:
        found = [(f"{row.engine} {row.bits}-bit", True, row.counts.fooled, row.counts.eligible)]
        if row.counts.sim_fooled is not None and row.counts.sim_eligible is not None:
            simulation = f"simulation {row.bits}-bit"
            found.append((simulation, False, row.counts.sim_fooled, row.counts.sim_eligible))
        for judge, real, fooled, eligible in found:
            key = (row.victim, judge, real)
            counts[key] = counts.get(key, np.zeros(2, np.int64)) + np.array([fooled, eligible])
    return tuple(Cell(*key, int(fooled), int(able)) for key, (fooled, able) in counts.items())


def aggregated(matrix: Sequence[Cell]) -> dict[str, float]:
    """For each judge the highest rate over the victims that patches were crafted on."""
    best: dict[str, float] = {}
    for cell in matrix:
        if cell.eligible:
            share = metrics.rate(cell.fooled, cell.eligible)
            best[cell.judge] = max(share, best.get(cell.judge, 0.0))
    return best


def any_surrogate(won: Flags, able: Flags) -> tuple[int, int]:
    """How many of the images ``able (N,)`` a patch of some surrogate wins, ``won (S, N)``; of how
    many."""
    return int((metrics.union(won) & able).sum()), int(able.sum())


def discordance_bound(n: int, *, margin: float = MARGIN) -> float:
    """The share of ``n`` images that may differ if equal rates are to be shown equal.

    Two one-sided tests at 5 % succeed where ``1.645 sqrt(share / n) < margin``, at a net difference
    of zero: 3.7 % of 1,000 images, 29 % of 7,980.
    """
    from scipy.stats import norm

    return min(1.0, float(n * (margin / norm.ppf(0.95)) ** 2))
