"""Labels in, numbers out: every rate, interval and test of the project, defined once.

Per image, on the engine under test: ``clean`` is the label it gives without the patch, ``patched``
the label with it, ``labels`` the truth. An engine is never judged by another model's clean errors.
Definitions follow the usual ones of PBAT, ImageNet-Patch and Adversarial Patch; ``excess`` is this
project's. Arrays are ``(N,)`` unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import Labels

Flags = NDArray[np.bool_]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a rate, as fractions."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """How one set of images splits by two yes-or-no outcomes."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.first_only + self.second_only + self.neither


def predicted(logits: Float32) -> Labels:
    """Labels ``(N,) int64`` of logits ``(N, K)``: the lowest index among the maxima.

    Integer logits tie often; this rule is the same on every engine and in the judge.
    """
    best: Labels = np.argmax(logits, axis=1).astype(np.int64, copy=False)
    return best


def margins(logits: Float32, labels: Labels, *, target: int | None = None) -> Float32:
    """How far an attack has got on each image, in logits: larger is better for the attacker.

    Untargeted: best wrong class minus true class. Targeted: target minus best other class. Success
    is a changed label, never the sign of this number, because of ties.
    """
    wanted = labels if target is None else np.full(len(labels), target)
    each = np.arange(len(logits))
    others = logits.copy()
    others[each, wanted] = -np.inf
    lead: Float32 = others.max(axis=1) - logits[each, wanted]
    return lead if target is None else -lead


def eligible(clean: Labels, labels: Labels, *, target: int | None = None) -> Flags:
    """Images an attack can win: right when clean and, if targeted, not of the target class."""
    right: Flags = clean == labels
    return right if target is None else right & (labels != target)


def succeeded(patched: Labels, labels: Labels, *, target: int | None = None) -> Flags:
    """Images whose patched label is wrong or, if targeted, is the target."""
    won: Flags = patched != labels if target is None else patched == target
    return won


def accuracy(labels_given: Labels, labels: Labels) -> float:
    """Share of right labels. On patched images this is robust accuracy."""
    return rate(int((labels_given == labels).sum()), len(labels))


def attack_success_rate(
    clean: Labels, patched: Labels, *, labels: Labels, target: int | None = None
) -> float:
    """Fooled among eligible. Raises ``ValueError`` when no image is eligible."""
    able = eligible(clean, labels, target=target)
    return rate(int((able & succeeded(patched, labels, target=target)).sum()), int(able.sum()))


def prediction_change_rate(clean: Labels, patched: Labels) -> float:
    """Share of all images whose label differs with and without the patch, right or wrong."""
    return rate(int((clean != patched).sum()), len(clean))


def target_hit_rate(patched: Labels, *, target: int) -> float:
    """Share of all images labelled as the target, its own images included (ImageNet-Patch)."""
    return rate(int((patched == target).sum()), len(patched))


def robust_error(clean: Labels, patched: Labels, *, labels: Labels) -> float:
    """Share of all images wrong with or without the patch (PBAT's RErr)."""
    return rate(int(((clean != labels) | (patched != labels)).sum()), len(labels))


def excess(attack_rate: float, control_rate: float) -> float:
    """What the attack adds to mere occlusion: a difference of two rates, may be negative.

    The control has the same size, places, images and number of tries. This project's definition.
    """
    return attack_rate - control_rate


def union(won: NDArray[np.bool_]) -> Flags:
    """Images fooled by at least one attack, from ``(A, N)``: the per-image worst case."""
    anywhere: Flags = np.logical_or.reduce(won, axis=0)
    return anywhere


@dataclass(frozen=True)
class Drawn:
    """Attack success where an engine is drawn anew for each image, and on the worst of them."""

    rate: float
    worst: float


def drawn(fooled: Sequence[int], eligible: Sequence[int]) -> Drawn:
    """Random precision at inference over engines, from the counts of each, in the same order.

    ``rate``: all fooled over all eligible, the expectation for patches that do not depend on the
    draw; ``worst``: the largest rate of a single engine, which an attacker who knows the draw
    gets. Raises ``ValueError`` when there is nothing to count.
    """
    whole = rate(sum(fooled), sum(eligible))
    counts = zip(fooled, eligible, strict=True)
    return Drawn(whole, worst=max(rate(won, able) for won, able in counts if able))


def paired(first: Flags, second: Flags) -> Paired:
    """The 2 x 2 table of two outcomes on the same images."""
    return Paired(
        both=int((first & second).sum()),
        first_only=int((first & ~second).sum()),
        second_only=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )


def rate(count: int, total: int) -> float:
    """``count / total`` as a fraction. Raises ``ValueError`` when there is nothing to count."""
    if total <= 0:
        raise ValueError("a rate of nothing")
    return count / total


def wilson(count: int, total: int) -> Interval:
    """The Wilson score interval (1927) of ``count`` out of ``total``, 95 %, without correction."""
    from scipy.stats import binomtest

    if total <= 0:
        raise ValueError("a rate of nothing")
    found = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test: the discordant pairs against a fair coin.

    1 when there is no discordant pair.
    """
    from scipy.stats import binomtest

    discordant = first_only + second_only
    return float(binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0
