"""The searches an ``attack`` names, which ask the engine itself, and the controls that match."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import console, replay, search
from ..attacks import controls
from ..attacks.patch_rs import PatchRs
from ..attacks.queries import Search
from ..attacks.sweep import Sweep
from ..errors import BadInput
from ..patch.placement import Policy
from ..runs import width_name
from ..types import EngineFacts, Patch, PatchPerImage
from . import attack_plan
from .attack_plan import NOTHING, Plan

SWEPT = "gap"
"""Whose patch is swept when no attack that makes one for all images is named."""

QUERIES = 1000
PLACES = 8
"""Places along a side of the image, or one more, without ``--stride``."""

MANY_TIES = 0.3
"""Share of tied proposals above which the scores of an engine are said to be coarse."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The engine that is searched, and what was observed of it."""

    subject: replay.Subject
    facts: EngineFacts


def check(searches: tuple[str, ...], *, queries: int | None, stride: int | None) -> None:
    """Raises ``BadInput`` for an option of a search that was not named."""
    for option, value, name in (
        ("--queries", queries, PatchRs.name),
        ("--stride", stride, Sweep.name),
    ):
        if value is not None and name not in searches:
            raise BadInput(
                f"{option} is an option of {name}, which was not named.",
                f"Add --attack {name}, or leave {option} out.",
            )


def units(
    plan: Plan, asked: Asked, *, beside: list[replay.Unit]
) -> tuple[list[replay.Unit], list[replay.Unit]]:
    """What the named searches find on this engine, and the controls that had as many tries.

    ``beside``: the attacks named beside them; patches of theirs made for all images are swept.
    """
    found: list[replay.Unit] = []
    matched: list[replay.Unit] = []
    if Sweep.name in plan.searches:
        seen = set()
        for maker, patch in _patches(plan, asked, beside):
            victim = f"{maker.name} on {maker.victim}"
            found.append(_searched(plan, asked, attack=_sweep(plan, patch), victim=victim))
            setting = (patch.mask.shape, patch.mask.tobytes(), patch.target)
            if setting not in seen:
                matched += _swept_controls(plan, asked, patch)
            seen.add(setting)
    if PatchRs.name in plan.searches:
        given = None if plan.given is None else beside[0].patch.target
        walk = PatchRs(
            patch_px=plan.patch_px,
            target=given if plan.target is None else plan.target,
            queries=QUERIES if plan.queries is None else plan.queries,
        )
        victim = f"{asked.facts.engine}-{width_name(asked.facts.bits)}"
        found.append(_searched(plan, asked, attack=walk, victim=victim))
    return found, matched


def _patches(
    plan: Plan, asked: Asked, beside: list[replay.Unit]
) -> list[tuple[replay.Attacked, Patch]]:
    """The patches to sweep: those named beside it, else that of the default attack."""
    named = [(unit.attacked, unit.patch) for unit in beside if isinstance(unit.patch, Patch)]
    if named:
        return named
    default = attack_plan.units(replace(plan, names=(SWEPT,)), asked.facts.bits)
    return [(unit.attacked, unit.patch) for unit in default if isinstance(unit.patch, Patch)]


def _swept_controls(plan: Plan, asked: Asked, patch: Patch) -> list[replay.Unit]:
    """Grey and noise, swept over the same places as the patch."""
    made: dict[str, Patch | PatchPerImage] = {
        "grey": controls.grey(patch),
        "noise": controls.noise(patch, seed=plan.seed),
    }
    swept = {name: _sweep(plan, control) for name, control in made.items()}
    return [
        replay.Unit(
            replace(NOTHING, name=name, threat=attack.threat),
            _searched(plan, asked, attack=attack, victim="none", spoken=name).patch,
            Policy(attack.placement),
            plan.seed,
        )
        for name, attack in swept.items()
    ]


def _sweep(plan: Plan, patch: Patch | PatchPerImage) -> Sweep:
    shorter = min(plan.test.images.shape[2:])
    stride = max(1, shorter // PLACES) if plan.stride is None else plan.stride
    return Sweep(patch, stride=stride)


def _searched(
    plan: Plan, asked: Asked, *, attack: Search, victim: str, spoken: str | None = None
) -> replay.Unit:
    """The unit of what a search finds, searched now or found in the run's folder of patches."""
    images = plan.test.images
    total = len(images) * attack.budget((images.shape[2], images.shape[3]))
    where = f"{asked.facts.engine} {width_name(asked.facts.bits)}"
    what = attack.name if spoken is None else f"{attack.name} of {spoken}"
    with console.Progress(f"Searching {where} by {what}", total, unit="queries") as bar:
        patches = search.search(
            attack,
            asked.subject,
            folder=plan.run.patches,
            seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )
    if (tied := search.tied_share(patches) or 0.0) > MANY_TIES:
        console.say(
            f"{tied:.0%} of the proposals of {attack.name} scored what stood before: the scores of "
            f"{where} are coarse."
        )
    said = replay.Attacked(
        attack.name,
        knowledge=attack.knowledge,
        victim=victim,
        tier=attack.tier,
        threat=attack.threat,
    )
    return replay.Unit(said, patches, Policy(attack.placement), plan.seed)
