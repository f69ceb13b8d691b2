"""Who is shown the same bytes beside an engine: its simulation, and its float model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .. import console, replay
from ..engines import ARTEFACT, open_engine
from ..errors import BadInput
from ..runs import Run, width_name
from ..types import FLOAT_BITS, Engine, EngineFacts
from .attack_names import Named
from .attack_plan import Plan

DIFFERENTIAL = ("differential", "patch_rs_differential")
"""The attacks that fool an engine and are to leave its float model right."""

TIER = "T7"
ORDINARY = "pgd"
"""The attack whose patches show what happens by itself to a float model nobody thought of."""


def subject(plan: Plan, engine: Engine) -> replay.Subject:
    """The engine before the scored images; refused is what is not one logit per class."""
    return replay.Subject(
        engine, replay.engine_digest(engine.facts), plan.test, plan.batch, plan.classes
    )


def _network(plan: Plan, victim: str, *, bits: int) -> replay.Subject:
    """A network that gives gradients, before the same images."""
    from .. import craft
    from ..attacks.victim import logits_of

    prey = craft.prey(plan.run, victim, bits=bits)
    return replay.Subject(
        lambda images: logits_of(prey.victim, images), prey.digest, plan.test, plan.batch
    )


def simulation(plan: Plan, bits: int) -> replay.Subject | None:
    """The fake-quantized network at this width, shown the same bytes; ``None`` where it cannot be.

    It needs the run's checkpoint and torch, which a device has not.
    """
    if not plan.run.checkpoint.is_file():
        console.say(f"{plan.run.folder} has no checkpoint: no simulation to compare with.")
        return None
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        console.say("torch is not installed: no simulation to compare with.")
        return None
    torch.set_num_threads(plan.threads)
    return _network(plan, "simulation", bits=bits)


def require(run: Run, widths: Iterable[int]) -> None:
    """Raises ``BadInput`` unless ``run`` holds a float model beside the engines at these widths."""
    if not run.checkpoint.is_file():
        raise BadInput(
            f"Differential patches leave the float model right, and {run.folder} holds none: it "
            "has no checkpoint.",
            "Attack the run the engine was exported from, with --run RUN.",
        )
    from ..models import checkpoint

    if FLOAT_BITS not in checkpoint.read_facts(run.checkpoint).widths:
        raise BadInput(
            f"Differential patches leave the float model right, and the checkpoint of {run.folder} "
            "holds no float width.",
            "Train or quantize with --bits 32,8.",
        )
    if FLOAT_BITS in widths:
        raise BadInput(
            "Differential patches fool a quantized engine and not its float model, and one of "
            "these engines is the float model.",
            "Choose quantized widths: --bits 8.",
        )


def named(chosen: Named | Plan) -> tuple[str, ...]:
    """Those attacks of ``DIFFERENTIAL`` that were named."""
    return tuple(name for name in DIFFERENTIAL if name in chosen.per_image + chosen.searches)


def ordinary(units: Iterable[replay.Unit]) -> list[replay.Unit]:
    """The ordinary patches among these as units of T7: how often they too miss the float model."""
    return [
        replace(unit, attacked=replace(unit.attacked, tier=TIER))
        for unit in units
        if unit.attacked.name == ORDINARY and unit.attacked.kappa is None
    ]


@contextmanager
def float_model(plan: Plan, facts: EngineFacts) -> Iterator[replay.Subject]:
    """The float model that the engine of ``facts`` was made from, on the same images.

    The engine of the same kind where the run holds it in float, else the network itself.
    """
    if (plan.run.engine(facts.engine, FLOAT_BITS) / ARTEFACT).is_file():
        opened = open_engine(plan.run, facts.engine, bits=FLOAT_BITS, threads=plan.threads)
        with opened as engine:
            yield subject(plan, engine)
        return
    console.say(
        f"{plan.run.folder} holds no {facts.engine} engine at {width_name(FLOAT_BITS)}: the float "
        "network itself answers."
    )
    yield _network(plan, "float", bits=facts.bits)
