"""What is to be replayed on one engine, for attacks that were named one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from .. import replay
from . import attack_craft, attack_plan, attack_search
from .attack_ahead import Ahead
from .attack_beside import DIFFERENTIAL, TIER, ordinary
from .attack_plan import Plan
from .attack_search import Asked


@dataclass(frozen=True, eq=False)
class Work:
    """Units to replay on an engine.

    ``paired``: on the simulation too; ``alone``: not; ``differential``: on the float model too.
    """

    paired: list[replay.Unit] = field(default_factory=list)
    alone: list[replay.Unit] = field(default_factory=list)
    differential: list[replay.Unit] = field(default_factory=list)


def named(plan: Plan, asked: Asked) -> Work:
    """The attacks the plan names, crafted, searched or found, and the controls beside them."""
    bits = asked.facts.bits
    with Ahead(threads=plan.threads) as ahead:
        crafting = ahead.make(lambda: list(attack_plan.units(plan, bits)))
        crafting_each = {
            name: ahead.make(partial(attack_craft.each, plan, name, bits=bits))
            for name in plan.per_image
        }
        asked_for = [attack_search.one(plan, asked, name=name) for name in plan.universal_searches]
        universal = crafting.result()
        searched, matched = attack_search.units(plan, asked, beside=universal)
        each: list[replay.Unit] = []
        both: list[replay.Unit] = []
        for name, made in crafting_each.items():
            (both if name in DIFFERENTIAL else each).extend(made.result())
    both += [unit for unit in searched if unit.attacked.tier == TIER]
    alike = [unit for unit in searched if unit.attacked.tier != TIER]
    return Work(
        paired=[*universal, *each, *alike, *asked_for],
        alone=[*attack_plan.control_units(plan, [*universal, *asked_for]), *matched],
        differential=[*both, *ordinary(each)] if both else [],
    )
