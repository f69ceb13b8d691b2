"""The probe behind check 11: one patch for all images, its gradient averaged over more places.

What is drawn at random in a deployment is where a patch for all images lands; an integer engine
itself draws nothing. So expectation over transformation is over places here: the same images at
each step, each shown at 1, 5 or 20 places.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import metrics, streams
from ..attacks import eot
from ..attacks.gap import Gap
from ..attacks.queries import Ledger
from ..attacks.universal import Best, Jury, as_bytes, blank, drawn, noise, split
from ..attacks.victim import Victim, frozen
from ..data.dataset import Dataset
from ..patch.paste import paste
from ..patch.placement import Policy, place, policy
from ..types import Json, Patch
from .asking import Flags, step

SAMPLES = (1, 5, 20)
IMAGES = 32
"""Crafting images of one step; each is shown at every sampled place."""

PLACES = 5
"""Draws of places at which a patch is judged; an image counts once some draw fools it."""


def by_samples(
    victim: Victim, ledger: Ledger, *, data: Dataset, crafting: Dataset, patch_px: tuple[int, int],
    steps: int, seed: int,
) -> list[Json]:  # fmt: skip
    """Patches of 1, 5 and 20 sampled places a step, each judged on the engine at ``PLACES`` draws.

    The patch is the suite's of T1, ``gap`` with its own places, ascended on the images of
    ``crafting``, of which none may be in ``data``. All judge the same places. Raises ``BadInput``
    when the victim is right on too few crafting images.
    """
    attack = Gap(patch_px=patch_px, steps=steps)
    how = policy(attack.placement, image_px=min(data.images.shape[2:]))
    found: list[Json] = []
    with frozen(victim):
        for samples in SAMPLES:
            patch = _crafted(attack, victim, crafting, how=how, samples=samples, seed=seed)
            won = _fooled_somewhere(ledger, data, patch=patch, how=how, seed=seed)
            found.append({"samples": samples, "places": PLACES, **step(data, won)})
    return found


def _crafted(
    attack: Gap, victim: Victim, crafting: Dataset, *, how: Policy, samples: int, seed: int
) -> Patch:
    """The patch of an ascent that averages over ``samples`` places of each image at every step.

    Whatever ``samples`` is, the start and the images of a step are the same, and the first places.
    """
    fit, held = split(victim, crafting, target=None)
    best = Best(Jury(victim, held, how, seed))
    like = blank(attack.patch_px, target=None)
    values = noise(streams.generator(seed, "eot", "start"), attack.patch_px).requires_grad_(True)
    views = [
        drawn(
            fit, how, patch_px=attack.patch_px, steps=attack.steps, batch=IMAGES,
            chance=streams.generator(seed, "eot", "images"), seed=seed, name=f"eot:{view}",
        )
        for view in range(samples)
    ]  # fmt: skip
    for seen in zip(*views, strict=True):
        total = torch.zeros_like(values)
        for now in seen:  # one place after another: the memory of one
            shown = eot.paste(now.images, 255.0 * values, mask=like.mask, placements=now.places)
            gain: Tensor = attack.gain(victim(eot.to_bytes(shown)), now.labels)
            total += torch.autograd.grad(gain, values)[0]
        number = seen[0].step
        stride = attack.learning_rate * (1.0 - 0.9 * (number - 1) / attack.steps)
        with torch.no_grad():
            values += stride * total.sign()
            values.clamp_(0.0, 1.0)
        if number % attack.judged_every == 0 or number == attack.steps:
            best.offer(as_bytes(values), like=like)
    return best.kept


def _fooled_somewhere(
    ledger: Ledger, data: Dataset, *, patch: Patch, how: Policy, seed: int
) -> Flags:
    """Images ``(N,)`` that the patch fools on the engine at one of ``PLACES`` draws at least."""
    rows, columns = data.images.shape[2:]
    each = []
    for draw in range(PLACES):
        places = place(
            how, data.ids, seed=streams.key(seed, "eot", "judged"), patch_px=patch.mask.shape,
            image_px=(rows, columns), draw=draw,
        )  # fmt: skip
        shown = paste(data.images, patch.pixels, mask=patch.mask, placements=places)
        each.append(metrics.succeeded(metrics.predicted(ledger(shown)), data.labels))
    return metrics.union(np.stack(each))
