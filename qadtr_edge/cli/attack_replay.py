"""One engine under attack: everything planned for it is replayed, or found in the store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from .. import console, replay
from ..results import Store
from ..runs import width_name
from ..types import Engine, EngineFacts, Json, Result
from . import attack_beside, attack_certificate, attack_probes, attack_suite, attack_work
from .attack_plan import Plan
from .attack_search import Asked


@dataclass(frozen=True, eq=False)
class Cell:
    """One engine at one width: what was observed of it, its rows, and the probes of a suite."""

    facts: EngineFacts
    rows: tuple[Result, ...]
    probes: Mapping[str, Json] = field(default_factory=dict)


def on_engine(plan: Plan, engine: Engine, *, store: Store, suite: str | None = None) -> Cell:
    """Every unit of the plan, or of the suite, on one engine: done now, or found in the store."""
    facts = engine.facts
    subject = attack_beside.subject(plan, engine)
    console.say(
        f"{facts.engine} {width_name(facts.bits)}: clean answers to {len(plan.test)} images first …"
    )
    known = {row.key for row in store.rows()}
    found: list[Result] = []
    label = f"Replaying on {facts.engine} {width_name(facts.bits)}"
    with ExitStack() as opened:
        original = (
            opened.enter_context(attack_beside.float_model(plan, facts))
            if plan.differential or attack_beside.named(plan)
            else None
        )
        asked = Asked(subject, facts, original)
        if suite is None:
            work = attack_work.named(plan, asked)
        else:
            work = attack_suite.work(plan, asked, suite=suite)
        simulation = attack_beside.simulation(plan, facts.bits) if work.paired else None
        todo = [
            *((unit, simulation, None) for unit in work.paired),
            *((unit, None, None) for unit in work.alone),
            *((unit, None, original) for unit in work.differential),
        ]
        progress = opened.enter_context(console.Progress(label, len(todo), unit="units"))
        for unit, beside, float_model in todo:
            key = replay.identity(unit, subject, simulation=beside, float_model=float_model)
            row = store.finished(key) if key in known else None
            if row is None:
                row, outcomes = replay.replay(
                    unit, facts, subject=subject, simulation=beside, float_model=float_model
                )
                store.append(row, outcomes)
            found.append(row)
            progress.advance()
    probes = {} if suite is None else attack_probes.measured(plan, asked, work=work, suite=suite)
    if plan.certificate:
        probes = {**probes, "certificate": attack_certificate.certified(plan, asked)}
    return Cell(facts, tuple(dict.fromkeys(found)), probes)
