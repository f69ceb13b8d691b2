"""A suite on one engine: its lines, tier by tier, become what is to be replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .. import console, metrics, replay
from ..errors import BadInput, QadtrError, UnknownName, Unsupported
from ..search import only
from ..suite import CONTROL_PLACES, DIFFERENTIAL, MARGINS, SELECTED_ON, SUITES, Line
from ..types import Patch
from . import attack_beside, attack_craft, attack_names, attack_plan, attack_search
from .attack_ahead import Ahead
from .attack_names import PER_IMAGE, SEARCH, UNIVERSAL, UNIVERSAL_SEARCH
from .attack_plan import Plan
from .attack_search import Asked
from .attack_work import Work


def check(suite: str, given: Mapping[str, object]) -> None:
    """Raises ``BadInput`` for an unknown suite, and for options that say what a suite says."""
    if suite not in SUITES:
        raise UnknownName("suite", suite, SUITES)
    for name, value in given.items():
        if value is not None:
            raise BadInput(
                f"A suite is the same for everyone, and {name} would change it.",
                f"Leave out {name}, or name attacks with --attack in place of --suite.",
            )


def absent(suite: str) -> list[str]:
    """Attacks of the suite that this installation does not have, with their tier."""
    return sorted({f"{line.attack} ({line.tier})" for line in SUITES[suite]
                   if attack_names.kind_of(line.attack) is None})  # fmt: skip


def work(plan: Plan, asked: Asked, *, suite: str) -> Work:
    """Everything the suite replays on this engine, crafted, searched or found, controls included.

    Attacks that cannot be made here, for want of a width or a file, are said and left out.
    """
    lines, beyond = SUITES[suite], DIFFERENTIAL[suite] if plan.differential else ()
    with Ahead(threads=plan.threads) as ahead:
        crafting = [
            ahead.make(partial(_crafted, plan, asked, line, kappas=MARGINS[suite]))
            for line in lines
        ]
        parting = [ahead.make(partial(_crafted, plan, asked, line, kappas=())) for line in beyond]
        searched = [_searched(plan, asked, line) for line in lines]
        # What shows the patches of T1 comes after what needs none: meanwhile they are made.
        made = [
            unit
            for line, crafted in zip(lines, crafting, strict=True)
            if attack_names.kind_of(line.attack) == UNIVERSAL
            for unit in crafted.result()
        ]
        shown = [_shown(plan, asked, line, made=made) for line in lines]
        units = [
            [*crafted.result(), *found, *showing]
            for crafted, found, (showing, _) in zip(crafting, searched, shown, strict=True)
        ]
        parted = [_searched(plan, asked, line) for line in beyond]
        both = [
            unit
            for crafted, found in zip(parting, parted, strict=True)
            for unit in (*crafted.result(), *found)
        ]
    done = Work(paired=[unit for found in units for unit in found])
    for line, found, (_, matched) in zip(lines, units, shown, strict=True):
        # The simulation sees the first places; that engine and simulation agree needs one.
        done.alone.extend(again for unit in found for again in _elsewhere(unit, line.places))
        done.alone.extend(matched)
    for unit in _settings([unit for unit in done.paired if isinstance(unit.patch, Patch)]):
        places = [unit, *_elsewhere(unit, CONTROL_PLACES[suite])]
        done.alone.extend(attack_plan.control_units(plan, places))
    done.differential.extend([*both, *attack_beside.ordinary(done.paired)] if both else [])
    return done


def _crafted(plan: Plan, asked: Asked, line: Line, *, kappas: Sequence[float]) -> list[replay.Unit]:
    """What a line finds that is made on networks and needs no engine."""
    kind = attack_names.kind_of(line.attack)
    if kind == UNIVERSAL:
        return _universal(plan, asked, line)
    return _each(plan, asked, line, kappas=kappas) if kind == PER_IMAGE else []


def _universal(plan: Plan, asked: Asked, line: Line) -> list[replay.Unit]:
    """The patches of a line of T1, at the first places."""
    found = []
    for victim in line.victims:
        for target in _targets(line, plan.classes):
            for seed in _seeds(plan, line):
                variant = replace(
                    plan, victim=victim, target=target, seed=seed, options=line.options
                )
                try:
                    unit = attack_plan.crafted(variant, line.attack, bits=asked.facts.bits)
                except BadInput as error:
                    _left_out(line, victim, error)
                    break
                found.append(replace(unit, seed=plan.seed))
    return found


def _each(plan: Plan, asked: Asked, line: Line, *, kappas: Sequence[float]) -> list[replay.Unit]:
    """What a line of T3 finds for each image: the best, and the first that led by each kappa."""
    found = []
    for victim in line.victims:
        for seed in _seeds(plan, line):
            variant = replace(plan, victim=victim, seed=seed, options=line.options)
            try:
                found += attack_craft.each(
                    variant, line.attack, bits=asked.facts.bits, kappas=kappas
                )
            except BadInput as error:
                _left_out(line, victim, error)
                break
    return found


def _searched(plan: Plan, asked: Asked, line: Line) -> list[replay.Unit]:
    """What a line of searches that start from nothing finds on the engine."""
    kind = attack_names.kind_of(line.attack)
    variants = [replace(plan, seed=seed, options=line.options) for seed in _seeds(plan, line)]
    if kind == UNIVERSAL_SEARCH:
        return [attack_search.one(variant, asked, name=line.attack) for variant in variants]
    if kind != SEARCH or _shows(line):
        return []
    try:
        return [attack_search.walks(variant, asked, name=line.attack) for variant in variants]
    except Unsupported as error:
        _left_out(line, "this engine", error)
        return []


def _shown(
    plan: Plan, asked: Asked, line: Line, *, made: Sequence[replay.Unit]
) -> tuple[list[replay.Unit], list[replay.Unit]]:
    """What a line of searches that show patches ``made`` before finds on the engine, and the
    controls that had as many tries.
    """
    found: list[replay.Unit] = []
    matched: list[replay.Unit] = []
    if attack_names.kind_of(line.attack) != SEARCH or not _shows(line):
        return found, matched
    options = dict(line.options)
    if line.grid:
        options["stride"] = max(1, min(plan.test.images.shape[2:]) // line.grid)
    for seed in _seeds(plan, line):
        variant = replace(plan, seed=seed, options=options)
        shown = _best(plan, asked, made, count=line.best)
        found += [
            attack_search.shows(variant, asked, name=line.attack, maker=unit.attacked, patch=patch)
            for unit in shown
            if isinstance(patch := unit.patch, Patch)
        ]
        if line.grid:
            patches = [unit.patch for unit in shown if isinstance(unit.patch, Patch)]
            matched += attack_search.swept_controls(variant, asked, patches=patches)
    return found, matched


def _shows(line: Line) -> bool:
    """Whether the search of a line starts from a patch made for all images."""
    return "patch" in attack_names.takes(SEARCH, line.attack)


def _best(
    plan: Plan, asked: Asked, made: Sequence[replay.Unit], *, count: int | None
) -> list[replay.Unit]:
    """The patches that make most crafting images wrong on the engine; the scored ones stay unseen.

    Any wrong label counts, of targeted patches too.
    """
    if count is None or count >= len(made):
        return list(made)
    data = only(plan.craft, np.arange(min(SELECTED_ON, len(plan.craft))))
    subject = replace(asked.subject, data=data)
    right = metrics.predicted(subject.clean) == data.labels
    won = []
    for unit in made:
        places = replay.places_of(unit, data)
        shown = replay.pasted(unit, data, places=places, part=slice(None))
        each = [
            subject.model(shown[at : at + subject.batch])
            for at in range(0, len(data), subject.batch)
        ]
        wrong = metrics.succeeded(metrics.predicted(np.concatenate(each)), data.labels)
        won.append(int((right & wrong).sum()))
    order = sorted(range(len(made)), key=lambda at: (-won[at], at))
    return [made[at] for at in order[:count]]


def _settings(made: Sequence[replay.Unit]) -> list[replay.Unit]:
    """One unit for each shape, policy and goal, beside which controls are replayed."""
    found: dict[tuple[object, ...], replay.Unit] = {}
    for unit in made:
        mask = unit.patch.mask
        found.setdefault((mask.shape, mask.tobytes(), unit.policy, unit.patch.target), unit)
    return list(found.values())


def _elsewhere(unit: replay.Unit, places: int) -> list[replay.Unit]:
    """The unit at all but the first of as many draws of places."""
    return [replace(unit, seed=unit.seed + draw) for draw in range(1, places)]


def _seeds(plan: Plan, line: Line) -> range:
    return range(plan.seed, plan.seed + line.seeds)


def _targets(line: Line, classes: int) -> list[int | None]:
    """Evenly spaced classes, or ``None`` once."""
    count = min(line.targets, classes)
    return [number * classes // count for number in range(count)] if count else [None]


def _left_out(line: Line, victim: str, error: QadtrError) -> None:
    console.say(f"{line.tier} {line.attack} on {victim} is left out: {error.fact}")
