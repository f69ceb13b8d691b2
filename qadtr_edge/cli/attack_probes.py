"""The extra runs of a suite that its checks ask for, done now or found in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from .. import console, replay
from ..errors import BadInput
from ..files import read_json, write_json
from ..patch import bank
from ..runs import width_name
from ..types import Json, Patch
from ..verdict import probes
from .attack_plan import Plan
from .attack_search import Asked
from .attack_work import Work

if TYPE_CHECKING:
    from ..attacks.victim import Victim

RECIPE = 3
"""Grows when the code of the probes changes what they measure."""


def measured(plan: Plan, asked: Asked, *, work: Work, suite: str) -> dict[str, Json]:
    """What the probes of the suite found on this engine and its simulation.

    Without a simulation there are none, which is said. The patches shown behind planted masking
    are those made for all images on the deployed network itself, untargeted.
    """
    try:
        import torch

        from .. import craft
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        console.say("torch is not installed: the checks that need gradients are not run.")
        return {}
    torch.set_num_threads(plan.threads)
    try:
        prey = craft.prey(plan.run, "twin", bits=asked.facts.bits)
    except BadInput as error:
        console.say(f"The checks that need gradients are not run: {error.fact}")
        return {}
    made = [unit.patch for unit in work.paired if unit.attacked.victim == prey.name]
    patches = [patch for patch in made if isinstance(patch, Patch) and patch.target is None]
    budget = probes.BUDGETS[suite]
    recipe: dict[str, Json] = {
        "recipe": RECIPE,
        "engine": asked.subject.digest,
        "victim": prey.digest,
        "data": replay.data_digest(plan.test),
        "crafting": plan.craft.digest,
        "patch_px": list(plan.patch_px),
        "patches": [bank.digest(patch) for patch in patches],
        "seed": plan.seed,
        "budget": asdict(budget),
    }
    path = plan.run.folder / "probes" / f"{bank.key(recipe)}.json"
    if path.is_file():
        return dict(_object(read_json(path)))
    label = f"Probing {asked.facts.engine} {width_name(asked.facts.bits)}"
    with console.Progress(label, len(probes.NAMES), unit="probes") as bar:
        found = probes.run(
            asked.subject.model,
            prey.victim,
            data=plan.test,
            patch_px=plan.patch_px,
            seed=plan.seed,
            budget=budget,
            patches=patches,
            plain=_plain(prey.victim),
            crafting=plan.craft,
            batch=plan.batch,
            told=lambda name: bar.advance(note=name),
        )
    write_json(path, found)
    return found


def _plain(victim: Victim) -> Victim | None:
    """The deployed integers without straight-through rules; ``None`` where nothing is rounded."""
    from ..integer.twin import Twin

    return Twin(victim.graph, backward="autograd") if isinstance(victim, Twin) else None


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise BadInput("The stored probes are no JSON object.", "Delete the run's folder probes.")
    return value
