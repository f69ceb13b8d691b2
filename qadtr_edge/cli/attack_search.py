"""The searches an ``attack`` names, which ask the engine itself, and the controls that match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from .. import console, replay, search
from ..attacks import controls
from ..attacks.patch_rs_differential import Original
from ..attacks.queries import Search, UniversalSearch
from ..attacks.sweep import Sweep
from ..patch.placement import Policy
from ..runs import width_name
from ..types import FLOAT_BITS, EngineFacts, Patch, PatchPerImage, PlacedPatches
from . import attack_names, attack_plan
from .attack_beside import DIFFERENTIAL
from .attack_names import SEARCH, UNIVERSAL_SEARCH
from .attack_plan import NOTHING, Plan

SWEPT = "gap"
"""Whose patch is swept when no attack that makes one for all images is named."""

PLACES = 8
"""Places along a side of the image, or one more, without a stride."""

MANY_TIES = 0.3
"""Share of tied proposals above which the scores of an engine are said to be coarse."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The engine that is searched, and what was observed of it.

    ``original``: the float model beside it, where an attack is to leave that right.
    """

    subject: replay.Subject
    facts: EngineFacts
    original: replay.Subject | None = None


def units(
    plan: Plan, asked: Asked, *, beside: list[replay.Unit]
) -> tuple[list[replay.Unit], list[replay.Unit]]:
    """What the named searches find on this engine, and the controls that had as many tries.

    ``beside``: the attacks named beside them; patches of theirs made for all images are those that
    searches show, which look for a place or a start.
    """
    given = beside[0].patch.target if plan.given else None
    plan = replace(plan, target=given if plan.target is None else plan.target)
    found: list[replay.Unit] = []
    matched: list[replay.Unit] = []
    for name in plan.searches:
        if "patch" in attack_names.takes(SEARCH, name):
            shown = _patches(plan, asked, beside)
            found += [shows(plan, asked, name=name, maker=maker, patch=p) for maker, p in shown]
            if name == Sweep.name:
                matched += swept_controls(plan, asked, patches=[patch for _, patch in shown])
        else:
            found.append(walks(plan, asked, name=name))
    return found, matched


def shows(
    plan: Plan, asked: Asked, *, name: str, maker: replay.Attacked, patch: Patch
) -> replay.Unit:
    """What a search finds that starts from a patch made for all images."""
    victim = f"{maker.name} on {maker.victim}"
    return _searched(plan, asked, attack=_built(plan, name, patch), victim=victim)


def walks(plan: Plan, asked: Asked, *, name: str) -> replay.Unit:
    """What a search finds that starts from nothing."""
    victim, original = f"{asked.facts.engine}-{width_name(asked.facts.bits)}", None
    if name in DIFFERENTIAL:
        assert asked.original is not None, "no float model is open"
        original = Original(asked.original.model, asked.original.digest)
        victim = f"{victim}+{width_name(FLOAT_BITS)}"
    attack = _built(plan, name, None, original=original)
    return _searched(plan, asked, attack=attack, victim=victim)


def one(plan: Plan, asked: Asked, *, name: str) -> replay.Unit:
    """The patch for all images that a search on the engine finds on the crafting images."""
    given = {"placement": plan.placement, **plan.options}
    made = attack_names.built(
        UNIVERSAL_SEARCH, name,
        options={"patch_px": plan.patch_px, "target": plan.target, **given},
    )  # fmt: skip
    attack = cast(UniversalSearch, made)
    how = plan.policy(attack.placement)
    where = f"{asked.facts.engine} {width_name(asked.facts.bits)}"
    with console.Progress(f"Searching {where} by {name}", attack.queries, unit="patches") as bar:
        patch = search.universal(
            attack, asked.subject, data=plan.craft, folder=plan.run.patches, seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )  # fmt: skip
    victim = f"{asked.facts.engine}-{width_name(asked.facts.bits)}"
    said = replay.Attacked(name, attack.knowledge, victim, attack.tier, attack.threat)
    return replay.Unit(said, patch, how, plan.seed)


def swept_controls(plan: Plan, asked: Asked, *, patches: Sequence[Patch]) -> list[replay.Unit]:
    """Grey and noise, swept over the same places as the patches, once for each setting."""
    settings: dict[tuple[object, ...], Patch] = {}
    for patch in patches:
        settings.setdefault((patch.mask.shape, patch.mask.tobytes(), patch.target), patch)
    return [unit for patch in settings.values() for unit in _swept_controls(plan, asked, patch)]


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
    swept = {name: _built(plan, Sweep.name, control) for name, control in made.items()}
    return [
        replay.Unit(
            replace(NOTHING, name=name, threat=attack.threat),
            _searched(plan, asked, attack=attack, victim="none", spoken=name).patch,
            Policy(attack.placement),
            plan.seed,
        )
        for name, attack in swept.items()
    ]


def _built(
    plan: Plan, name: str, patch: Patch | PatchPerImage | None, *, original: Original | None = None
) -> Search:
    """The search ``name``, with the stride a sweep has where none was given.

    Where it begins with other pictures, those are the crafting images, none of which is scored.
    """
    stride = max(1, min(plan.test.images.shape[2:]) // PLACES)
    made = attack_names.built(
        SEARCH, name,
        options={"stride": stride, **plan.options, "patch_px": plan.patch_px,
                 "target": plan.target, "patch": patch, "pool": plan.craft.images,
                 "original": original},
    )  # fmt: skip
    return cast(Search, made)


def _searched(
    plan: Plan, asked: Asked, *, attack: Search, victim: str, spoken: str | None = None
) -> replay.Unit:
    """The unit of what a search finds, searched now or found in the run's folder of patches."""
    images = plan.test.images
    total = len(images) * attack.budget((images.shape[2], images.shape[3]))
    where = f"{asked.facts.engine} {width_name(asked.facts.bits)}"
    what = attack.name if spoken is None else f"{attack.name} of {spoken}"
    with console.Progress(f"Searching {where} by {what}", total, unit="queries") as bar:
        unit = search.unit(
            attack,
            asked.subject,
            victim=victim,
            folder=plan.run.patches,
            seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )
    assert isinstance(unit.patch, PlacedPatches)
    if (tied := search.tied_share(unit.patch) or 0.0) > MANY_TIES:
        console.say(
            f"{tied:.0%} of the proposals of {attack.name} scored what stood before: the scores of "
            f"{where} are coarse."
        )
    return unit
