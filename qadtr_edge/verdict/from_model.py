"""The checks that need extra runs, on the model: 9 and 20."""

from __future__ import annotations

from .case import Case, Check, Status, count, percent, wilson
from .from_probes import NOT_RUN

ZERO = 0.01
"""Share of images without any gradient above which gradients are masked."""


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


CHECKS = (zero_gradients, randomness)
