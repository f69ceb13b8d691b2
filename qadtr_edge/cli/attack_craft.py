"""Patches crafted for single images on a network that gives gradients: the units to replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .. import console, replay
from ..patch.placement import Policy
from . import attack_names
from .attack_names import PER_IMAGE
from .attack_plan import Plan

if TYPE_CHECKING:
    from ..attacks.per_image import PerImage


def each(plan: Plan, name: str, *, bits: int) -> replay.Unit:
    """The patch and place of the attack ``name`` for each scored image, crafted now or before."""
    import torch

    from .. import craft

    torch.set_num_threads(plan.threads)
    given = {"placement": plan.placement, "steps": plan.steps, **plan.options}
    made = attack_names.built(
        PER_IMAGE, name, options={"patch_px": plan.patch_px, "target": plan.target, **given}
    )
    attack = cast("PerImage", made)
    prey = craft.prey(plan.run, plan.victim, bits=bits)
    total = len(plan.test) * attack.budget
    with console.Progress(f"Crafting {name} on {prey.name}", total, unit="steps") as bar:
        patches = craft.craft_each(
            attack,
            prey,
            data=plan.test,
            folder=plan.run.patches,
            seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )
    said = replay.Attacked(name, prey.knowledge, prey.name, attack.tier, attack.threat)
    return replay.Unit(said, patches, Policy(attack.placement), plan.seed)
