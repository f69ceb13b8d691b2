"""The checks that need extra runs, on the model: 9, 17 and 20."""

from __future__ import annotations

from .. import statistics
from .case import Case, Check, Status, count, percent, wilson
from .from_probes import NOT_RUN

ZERO = 0.01
"""Share of images without any gradient above which gradients are masked."""

UNMASKABLE = ("T2", "T4", "T6")
"""Tiers that ask the engine and need no gradient."""


def zero_gradients(case: Case) -> Check:
    """9: hardly an image whose patch gradient is zero everywhere, straight-through rules used."""
    name, remedy = "no zero gradients", "Pass gradients straight through, or lower the temperature."
    found = case.probe("zero_gradients")
    if found is None:
        return Check(9, name, "not run", NOT_RUN, None, remedy)
    images, zero = count(found, "images"), count(found, "straight_through")
    figure = f"{percent(zero / images)} of {images} images"
    for key, words in (
        ("cross_entropy", "by cross-entropy"),
        ("temperature", "with temperature"),
        ("plain", "by plain autograd"),
    ):
        if found.get(key) is not None:
            figure += f", {percent(count(found, key) / images)} {words}"
    if found.get("plain") is not None and count(found, "plain"):
        figure += ": plain autograd is unusable here"
    status: Status = "flag" if zero > ZERO * images else "pass"
    return Check(9, name, status, figure, wilson(zero, images), remedy)


def ablation(case: Case) -> Check:
    """17: a gain of GIR in the gradient attack must show in the attacks without a gradient too."""
    name, remedy = "ablation", "Masking, not robustness: do not claim this part as a defence."
    steps = case.series("ablation")
    if steps is None:
        figure = "the network without GIR was not attacked"
        return Check(17, name, "not run", figure, None, "Train and attack the ablations.")
    gains = {
        str(step["tier"]): statistics.difference(
            count(step, "without_only"), count(step, "with_only"), n=count(step, "images")
        )
        for step in steps
    }
    figure = ", ".join(f"{tier} {100 * gain.value:+.1f}" for tier, gain in sorted(gains.items()))
    figure = f"points gained by GIR: {figure}"
    white = gains.get("T3")
    others = [gains[tier] for tier in UNMASKABLE if tier in gains]
    if white is None or not others:
        return Check(17, name, "not run", f"{figure}; needs T3 and T2, T4 or T6", None, remedy)
    masked = white.low > 0 and not any(gain.low > 0 for gain in others)
    figure += ": masking, not robustness" if masked else ""
    return Check(17, name, "flag" if masked else "pass", figure, (white.low, white.high), remedy)


def randomness(case: Case) -> Check:
    """20: the same bytes twice, in another order and one by one give the same labels."""
    name, remedy = "randomness", "A randomized path: average over it, and do not pair single runs."
    found = case.probe("randomness")
    if found is None:
        return Check(20, name, "not run", NOT_RUN, None, remedy)
    changed = {
        "shown twice": count(found, "repeated"),
        "in another order": count(found, "permuted"),
        "one by one": count(found, "single"),
    }
    listed = ", ".join(f"{number} {how}" for how, number in changed.items())
    figure = f"labels changed on {count(found, 'images')} images: {listed}"
    return Check(20, name, "flag" if any(changed.values()) else "pass", figure, None, remedy)


CHECKS = (zero_gradients, ablation, randomness)
