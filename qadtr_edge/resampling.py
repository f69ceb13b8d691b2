"""Intervals by resampling images: all values of one image are one cluster (Efron's bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import metrics, streams
from .types import Json, Labels

RESAMPLES = 10_000
_CHUNK = 250
_DIGITS = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval by resampling images; NaN where nothing was measured."""

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


def difference(
    first: Floats, second: Floats, *, ids: Labels, patches: Labels | None = None, seed: int = 0
) -> Estimate:
    """Mean of ``first - second`` over rows ``(R,)``, by a bootstrap whose unit is the image.

    ``ids (R,)``: the image of each row, with all its placements drawn together, since rows of one
    image are never independent. ``patches (R,)``: the patch of each row, resampled too when the
    claim is about the attack and not about these patches. Where no row differs it is the bound on
    the share of images that do.
    """
    lead = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    images = np.unique(ids, return_inverse=True)[1].reshape(-1)
    made = np.zeros_like(images) if patches is None else np.unique(patches, return_inverse=True)[1]
    shape = (int(images.max()) + 1, int(made.max()) + 1)
    if not lead.any():
        bound = metrics.wilson(0, shape[0]).high
        return Estimate(0.0, -bound, bound)
    total, rows = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (images, made), lead)
    np.add.at(rows, (images, made), 1.0)
    drawn = resampled_sums(np.concatenate([total, rows], axis=1), seed=seed)
    times = np.ones((RESAMPLES, 1)) if patches is None else _times(shape[1], seed=seed)
    totals, counts = ((side * times).sum(axis=1) for side in np.split(drawn, 2, axis=1))
    with np.errstate(invalid="ignore"):
        return estimate(float(lead.mean()), totals / counts)


def number(value: float) -> float | None:
    """``value`` to six decimals for a JSON document; ``None`` for NaN, which JSON has not."""
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _times(patches: int, *, seed: int) -> Floats:
    """How often each of so many patches is drawn, ``(RESAMPLES, patches)``."""
    chance = streams.generator(seed, "bootstrap", "patches")
    shares = np.full(patches, 1.0 / patches)
    return chance.multinomial(patches, shares, size=RESAMPLES).astype(np.float64)
