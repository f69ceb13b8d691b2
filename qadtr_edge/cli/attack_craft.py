"""Patches crafted for single images on a network that gives gradients: the units to replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from .. import console, replay
from ..patch.placement import Policy, spoken
from . import attack_beside, attack_names
from .attack_names import PER_IMAGE
from .attack_plan import Plan

if TYPE_CHECKING:
    from ..attacks.per_image import PerImage


def each(plan: Plan, name: str, *, bits: int, kappas: Sequence[float] = ()) -> list[replay.Unit]:
    """The patch and place of the attack ``name`` for each scored image, crafted now or before.

    The best, and the first that led by each of ``kappas``.
    """
    import torch

    from .. import craft

    torch.set_num_threads(plan.threads)
    given = {"placement": plan.placement, "steps": plan.steps, **plan.options}
    made = attack_names.built(
        PER_IMAGE, name, options={"patch_px": plan.patch_px, "target": plan.target, **given}
    )
    attack = cast("PerImage", made)
    prey = craft.prey(plan.run, plan.victim, bits=bits)
    if name in attack_beside.DIFFERENTIAL:
        prey = craft.beside_float(plan.run, prey, bits=bits)
    total = len(plan.test) * attack.budget
    with console.Progress(f"Crafting {name} on {prey.name}", total, unit="steps") as bar:
        found = craft.craft_each(
            attack,
            prey,
            data=plan.test,
            folder=plan.run.patches,
            seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
            kappas=kappas,
        )
    said = replay.Attacked(name, prey.knowledge, prey.name, attack.tier, attack.threat)
    kept = [(said, found.best)]
    kept += [(replace(said, kappa=kappa), found.first[kappa]) for kappa in kappas]
    how = Policy(spoken(attack.placement))
    return [replay.Unit(maker, patches, how, plan.seed) for maker, patches in kept]
