"""The checks that need extra runs, on the attack: 3, 4, 5, 8, 10, 11, 12, 16 and 21.

Each reads the probe that ``probes.run`` stored under its name; what a probe holds stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from .. import metrics, statistics
from ..types import Json
from .case import Case, Check, Status, count, counts, percent, wilson

CONVERGED = 0.01
"""Rise of the success rate under a doubled budget from which a rate is only "at least"."""

BROKEN_MASK = 0.9
"""Share of the unmasked model's success rate that the suite must reach behind planted masking."""

MOVING = 0.01
"""Share of images whose loss was still moving above which an attack has not converged."""

NOT_RUN = "not run; a suite runs it"


def more_steps(case: Case) -> Check:
    """3: a hundred steps beat one."""
    name, remedy = "iterative beats single step", "The steps or the gradients are wrong."
    steps = case.series("steps")
    if steps is None:
        return Check(3, name, "not run", NOT_RUN, None, remedy)
    one, many = steps[0], steps[-1]
    lead = _lead(many, one)
    saturated = count(one, "fooled") == count(one, "eligible")
    figure = f"{_rate(one)} after {count(one, 'steps')} step, {_rate(many)} after {many['steps']}"
    flagged = lead.value <= 0 and not saturated
    return Check(3, name, "flag" if flagged else "pass", figure, _interval(many), remedy)


def larger_patches(case: Case) -> Check:
    """4: a larger patch fools more; flagged where it falls beyond the paired interval."""
    name, remedy = "larger patch, higher rate", "The search is stuck: more steps or restarts."
    sizes = case.series("sizes")
    if sizes is None:
        return Check(4, name, "not run", NOT_RUN, None, remedy)
    falls = [(before, after) for before, after in pairwise(sizes) if _lead(after, before).high < 0]
    figure = ", ".join(f"{count(size, 'size_px')} px {_rate(size)}" for size in sizes)
    return Check(4, name, "flag" if falls else "pass", figure, _interval(sizes[-1]), remedy)


def unbounded(case: Case) -> Check:
    """5: a patch over all but a border fools every image."""
    name, remedy = "unbounded attack reaches the top", "The attack's loop is broken."
    found = case.probe("unbounded")
    if found is None:
        return Check(5, name, "not run", NOT_RUN, None, remedy)
    figure = f"{_rate(found)} of {count(found, 'eligible')} images"
    broken = count(found, "fooled") < count(found, "eligible")
    return Check(5, name, "flag" if broken else "pass", figure, _interval(found), remedy)


def beats_random(case: Case) -> Check:
    """8: optimised patches beat random ones that had as much freedom: one per image, anywhere.

    Compared on the images of the probe, and flagged beyond the paired interval. Tiers with less
    freedom (T1, T2, T5) are left out: a union over thousands of random patches and places is no
    match for one patch at a given place.
    """
    name, remedy = "optimisation beats random", "The attack does not optimise: check its loss."
    found = case.probe("random")
    tiers = [tier for tier in ("T3", "T4", "T6") if case.labelled(case.of_tiers(tier))]
    if found is None or not tiers:
        return Check(8, name, "not run", NOT_RUN, None, remedy)
    _, mine, theirs = np.intersect1d(case.ids(), counts(found, "ids"), return_indices=True)
    random = np.isin(counts(found, "ids"), counts(found, "fooled"))[theirs]
    able = case.able()[mine]
    figure = f"{percent(float(random[able].mean()))} at {count(found, 'draws')} random draws"
    beaten = False
    for tier in tiers:
        lead = statistics.compared(random[able], case.fooled(case.of_tiers(tier))[mine][able])
        figure += f", {tier} {100 * -lead.value:+.1f} points"
        beaten |= lead.low > 0
    interval = wilson(int(random[able].sum()), int(able.sum()))
    return Check(8, name, "flag" if beaten else "pass", figure, interval, remedy)


def loss_follows_success(case: Case) -> Check:
    """10: the loss is the margin of the judged label, and where it improves labels change."""
    name, remedy = "loss follows success", "Attack the margin of the label that is judged."
    found = case.probe("loss")
    if found is None:
        return Check(10, name, "not run", NOT_RUN, None, remedy)
    images, rose = count(found, "images"), count(found, "rose")
    fooled, disagree = count(found, "fooled"), count(found, "disagree")
    figure = (
        f"the loss improved on {rose} of {images} images and {fooled} changed their label; "
        f"its sign and the label disagree on {disagree}"
    )
    wrong_head = bool(found.get("softmax")) and found.get("objective") == "cross_entropy"
    if wrong_head:
        figure += "; cross-entropy on a softmax output"
    flagged = disagree > 0 or (rose > 0 and fooled == 0) or wrong_head
    return Check(10, name, "flag" if flagged else "pass", figure, None, remedy)


def enough_samples(case: Case) -> Check:
    """11: the rate no longer rises from 5 to 20 sampled places, the one thing drawn at random."""
    name, remedy = "EOT large enough", "Average more places a step of the patches of T1."
    steps = case.series("eot")
    if steps is None:
        return Check(11, name, "not run", NOT_RUN, None, remedy)
    listed = ", ".join(f"{count(step, 'samples')} a step {_rate(step)}" for step in steps)
    figure = f"places averaged: {listed}; fooled at one of {count(steps[-1], 'places')} places"
    rises = len(steps) > 1 and _lead(steps[-1], steps[-2]).low > 0
    return Check(11, name, "flag" if rises else "pass", figure, _interval(steps[-1]), remedy)


def converged(case: Case) -> Check:
    """12: continuing to twice the budget adds less than a point to the union over attacks.

    Steps, restarts and queries are each continued and each told; what a rate rests on is their
    union, the last entry.
    """
    name, remedy = "converged", "Quote the rate as at least; double the budget until it stays."
    steps = case.series("doubled")
    if steps is None:
        return Check(12, name, "not run", NOT_RUN, None, remedy)
    gains = {
        str(step["what"]): statistics.difference(
            count(step, "gained"), count(step, "lost"), n=count(step, "eligible")
        )
        for step in steps
    }
    whole = list(gains.values())[-1]
    figure = ", ".join(
        f"twice the {what} {100 * gain.value:+.1f} points" for what, gain in gains.items()
    )
    status: Status = "flag" if whole.value >= CONVERGED else "pass"
    return Check(12, name, status, figure, (whole.low, whole.high), remedy)


def planted(case: Case) -> Check:
    """16: the suite breaks planted masking that defeats a plain gradient attack."""
    name, remedy = "breaks planted masking", "The suite is broken: it would be fooled by masking."
    steps = case.series("planted")
    if steps is None:
        return Check(16, name, "not run", NOT_RUN, None, remedy)
    shares = {
        str(step["masking"]): count(step, "fooled") / max(1, count(step, "unmasked"))
        for step in steps
    }
    figure = ", ".join(f"{masking} {percent(share)}" for masking, share in shares.items())
    held = [masking for masking, share in shares.items() if share < BROKEN_MASK]
    return Check(
        16, name, "flag" if held else "pass", f"{figure} of the unmasked rate", None, remedy
    )


def indicators(case: Case) -> Check:
    """21: six indicators of attack failure (Pintor et al., arXiv 2106.09947), counted by image."""
    name, remedy = "indicators of attack failure", "Look at the images counted; mend the attack."
    found = case.probe("indicators")
    if found is None:
        return Check(21, name, "not run", NOT_RUN, None, remedy)
    named = {key: count(found, key) for key in INDICATORS}
    figure = ", ".join(f"{key.replace('_', ' ')} {number}" for key, number in named.items())
    flagged = failed_silently(found) or still_moving(found)
    figure = f"of {count(found, 'images')} images: {figure}"
    return Check(21, name, "flag" if flagged else "pass", figure, None, remedy)


INDICATORS = (
    "unavailable_gradients", "unstable_predictions", "silent_success", "incomplete_optimisation",
    "transfer_failure", "unconstrained_failure",
)  # fmt: skip


def failed_silently(indicators: Mapping[str, Json]) -> bool:
    """Whether one image shows that the attack is broken."""
    return count(indicators, "silent_success") + count(indicators, "unconstrained_failure") > 0


def still_moving(indicators: Mapping[str, Json]) -> bool:
    """Whether more than 1 % of the images were still moving at the end."""
    return count(indicators, "incomplete_optimisation") > MOVING * count(indicators, "images")


def _lead(first: Mapping[str, Json], second: Mapping[str, Json]) -> statistics.Difference:
    """First minus second of two steps of a series, on the same images."""
    ids, won = set(counts(first, "ids").tolist()), set(counts(second, "ids").tolist())
    return statistics.difference(len(ids - won), len(won - ids), n=count(first, "eligible"))


def _rate(step: Mapping[str, Json]) -> str:
    return percent(metrics.rate(count(step, "fooled"), count(step, "eligible")))


def _interval(step: Mapping[str, Json]) -> tuple[float, float]:
    return wilson(count(step, "fooled"), count(step, "eligible"))


CHECKS = (
    more_steps, larger_patches, unbounded, beats_random, loss_follows_success, enough_samples,
    converged, planted, indicators,
)  # fmt: skip
