"""Intervals by resampling images: every value of one image is one cluster (Efron's bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import streams
from ..types import Json

RESAMPLES = 10_000
_CHUNK = 250
_DIGITS = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Json]:
        return {
            "value": number(self.value),
            "low": number(self.low),
            "high": number(self.high),
        }


def resampled_sums(columns: Floats, *, seed: int) -> Floats:
    """Sums over N drawn images, ``(RESAMPLES, M)``, of ``columns (N, M)``.

    Images are drawn with replacement; all columns share the draws, so a function of several sums
    has its joint spread.
    """
    n = len(columns)
    chance = streams.generator(seed, "bootstrap")
    parts = []
    for start in range(0, RESAMPLES, _CHUNK):
        rows = min(_CHUNK, RESAMPLES - start)
        drawn = chance.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n)
        parts.append(times.astype(np.float64) @ columns)
    return np.concatenate(parts)


def estimate(value: float, samples: Floats) -> Estimate:
    """``value`` with the middle 95 % of its resampled ``samples``; NaN among these are left out."""
    known = samples[np.isfinite(samples)]
    if not len(known) or not np.isfinite(value):
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Estimate(float(value), float(low), float(high))


def means(values: Floats, *, seed: int) -> list[Estimate]:
    """The mean of each column of ``values (N, M)`` over the images where it is not NaN."""
    known = np.isfinite(values)
    columns = np.concatenate([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)
    width = values.shape[1]
    drawn = resampled_sums(columns, seed=seed)
    whole = columns.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = whole[:width] / whole[width:]
        samples = drawn[:, :width] / drawn[:, width:]
    return [estimate(value[at], samples[:, at]) for at in range(width)]


def number(value: float) -> float | None:
    """``value`` to six decimals for a JSON document; ``None`` for NaN, which JSON has not."""
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def shown(value: float, *, digits: int = 2) -> str:
    """``value`` for a table; ``-`` for NaN."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def percent(found: Estimate) -> str:
    """``12.3 % [10.1, 14.9]`` of a rate."""
    if not np.isfinite(found.value):
        return "-"
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
