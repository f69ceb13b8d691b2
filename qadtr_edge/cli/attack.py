"""``qadtr-edge attack``: craft what is missing, replay it on the engines, count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .. import console, registry, replay
from ..engines import open_engine
from ..errors import BadInput, EngineFailed
from ..patch import bank
from ..patch.placement import LARGE_IMAGE_PX, check_fit, policy
from ..results import Store
from ..runs import DEFAULT_ROOT, Run, open_run, record, width_name
from ..types import FLOAT_BITS, Engine, Patch, Pixels, Result
from . import attack_answer, attack_plan, attack_search, options
from .attack_plan import Plan

CRAFT_IMAGES = 1000
CONTROLS = "controls"
ATTACKS = "gap,controls"
VICTIM = "twin"


def attack(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Attacks, several with commas. The controls always run.", show_default=ATTACKS
        ),
    ] = None,
    patch_size: Annotated[
        str | None,
        typer.Option(metavar="PX", help="Side, or HxW. Default: 6, and 50 from 96 px images on."),
    ] = None,
    patch: Annotated[
        Path | None, typer.Option(help="Replay this .png or .npz instead of crafting.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Push to this class: its name or number.")
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="random, plain, centre or fixed:TOP,LEFT. Default: the attack's own."),
    ] = None,
    victim: Annotated[
        str | None,
        typer.Option(
            help="Craft on: twin (the deployed integers), simulation, float.", show_default=VICTIM
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the crafting.")] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most queries of patch_rs for an image.",
            show_default=str(attack_search.QUERIES),
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Pixels between the places of sweep. Default: an eighth of the image's side.",
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to score on.")] = 1000,
    data: Annotated[
        str | None, typer.Option(help="Data set, folder or .npz. Default: the model's own.")
    ] = None,
    data_root: options.DataRoot = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per engine call.")] = replay.BATCH,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of the engine, and of the crafting.")
    ] = 1,
    seed: options.Seed = 0,
    max_asr: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Exit 1 when the worst case is above this."),
    ] = None,
    json: options.JsonFlag = False,
) -> None:
    """Measure how often a patch wins on the engines of a run."""
    names, searches = _named(ATTACKS if attack is None else attack)
    if patch is not None:
        crafting = None if searches and not names else attack
        _refuse_crafting({"--attack": crafting, "--victim": victim, "--steps": steps})
    attack_search.check(searches, queries=queries, stride=stride)
    attack = ATTACKS if attack is None else attack
    victim = VICTIM if victim is None else victim
    attack_plan.victim(victim)
    attack_plan.patch_px(patch_size, image_px=LARGE_IMAGE_PX)
    policy(placement or "random", image_px=LARGE_IMAGE_PX)
    if max_asr is not None and patch is None and not names + searches:
        raise _no_attack()
    opened = open_run(run, runs)
    store = Store(opened.results, opened.labels)
    store.rows()  # what cannot be read is refused before the work
    subjects = _subjects(opened, engine, bits)
    for width in dict.fromkeys(width for _, width in subjects):
        attack_plan.require_fresh(opened, width)
    given = None if patch is None else bank.load(patch)
    source = attack_plan.source(opened, data)
    patch_px = _patch_px(patch_size, given, image_px=source.image_px)
    # Without --placement each attack has its own; the one that does not rotate asks least.
    how = policy(placement or "plain", image_px=source.image_px)
    check_fit(how, patch_px, image_px=(source.image_px, source.image_px))
    console.say(f"Loading {source.name} …")
    test = source.load("test", root=data_root, limit=images)
    classes = attack_plan.classes_of(opened, test)
    craft = source.load("craft", root=data_root, limit=CRAFT_IMAGES)
    plan = Plan(
        run=opened,
        names=names,
        given=given,
        patch_px=patch_px,
        target=None if target is None else attack_plan.class_of(target, test.class_names),
        placement=placement,
        victim=victim,
        steps=steps,
        seed=seed,
        batch=batch,
        threads=threads,
        test=test,
        craft=craft,
        classes=classes,
        searches=searches,
        queries=queries,
        stride=stride,
    )
    found: list[Result] = []
    for name, width in subjects:
        with open_engine(opened, name, bits=width, threads=threads) as running:
            found += _on_engine(plan, running, store=store)
    result = attack_answer.answer(found, store)
    record(opened, "attack", options={
        "engine": engine, "bits": bits, "attack": attack, "patch": patch and str(patch),
        "patch_size": list(plan.patch_px), "target": plan.target, "placement": placement,
        "victim": victim, "steps": steps, "images": len(test), "data": source.name,
        "batch": batch, "threads": threads, "seed": seed, "queries": queries, "stride": stride,
    })  # fmt: skip
    if json:
        console.print_json(result.as_json())
    else:
        attack_answer.show(result, class_names=test.class_names)
    _enforce(result.worst_case_asr, max_asr)


def _named(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The attacks that make a patch and the searches on the engine among the names of a text."""
    known = registry.names("search")
    chosen = [name for name in options.named("attack", text, also=known) if name != CONTROLS]
    return (
        tuple(name for name in chosen if name not in known),
        tuple(name for name in chosen if name in known),
    )


def _refuse_crafting(options_given: Mapping[str, str | int | None]) -> None:
    """Raises ``BadInput`` for options that say how to craft, beside a patch that is made."""
    for name, value in options_given.items():
        if value is not None:
            raise BadInput(
                f"{name} says how to craft a patch, and --patch gives one that is made.",
                f"Leave out {name} or --patch.",
            )


def _subjects(run: Run, engine: str, bits: str | None) -> list[tuple[str, int]]:
    """Engine and width of everything under attack; the float model only when asked for."""
    there = options.subjects(run, engine, bits=bits)
    found = [(name, width) for name, width in there if bits is not None or width != FLOAT_BITS]
    if not found:
        raise BadInput(
            f"{run.folder} holds only float models.",
            f"Make an integer one: qadtr-edge export --run {run.folder} --bits 8; or --bits 32.",
        )
    return found


def _patch_px(text: str | None, given: Patch | None, *, image_px: int) -> tuple[int, int]:
    """Rows and columns of the patch; those of a given one when there is one."""
    if given is None:
        return attack_plan.patch_px(text, image_px=image_px)
    rows, columns = given.mask.shape
    if text is not None and attack_plan.patch_px(text, image_px=image_px) != (rows, columns):
        raise BadInput(
            f"The given patch has {rows}x{columns} pixels, not {text}.",
            "Leave --patch-size out, or resize the picture.",
        )
    return rows, columns


def _on_engine(plan: Plan, engine: Engine, *, store: Store) -> list[Result]:
    """Every unit of the plan on one engine: done now, or found in the store."""
    facts = engine.facts
    subject = replay.Subject(
        _counted(engine, plan.classes), replay.engine_digest(facts), plan.test, plan.batch
    )
    attacked = list(attack_plan.units(plan, facts.bits))
    console.say(
        f"{facts.engine} {width_name(facts.bits)}: clean answers to {len(plan.test)} images first …"
    )
    asked = attack_search.Asked(subject, facts)
    searched, matched = attack_search.units(plan, asked, beside=attacked)
    attacks = [*attacked, *searched]
    simulation = attack_plan.simulation(plan, facts.bits) if attacks else None
    todo = [(unit, simulation) for unit in attacks]
    todo += [(unit, None) for unit in (*attack_plan.control_units(plan, attacked), *matched)]
    found: list[Result] = []
    label = f"Replaying on {facts.engine} {width_name(facts.bits)}"
    with console.Progress(label, len(todo), unit="units") as progress:
        for unit, beside in todo:
            row = store.finished(replay.identity(unit, subject, simulation=beside))
            if row is None:
                row, outcomes = replay.replay(unit, facts, subject=subject, simulation=beside)
                store.append(row, outcomes)
            found.append(row)
            progress.advance()
    return found


def _counted(engine: Engine, classes: int) -> replay.Model:
    """The engine; what it answers is refused unless it is one logit per class."""

    def answers(images: Pixels) -> replay.Logits:
        logits = engine(images)
        if logits.shape != (len(images), classes):
            raise EngineFailed(
                f"The {engine.facts.engine} engine answers {logits.shape} to {len(images)} images "
                f"of a model with {classes} classes.",
                "Export it again: qadtr-edge export.",
            )
        return logits

    return answers


def _enforce(worst_case_asr: float | None, max_asr: float | None) -> None:
    """Exits 1 when the worst case is above the threshold."""
    if max_asr is None:
        return
    if worst_case_asr is None:
        raise _no_attack()
    if worst_case_asr > max_asr:
        console.say(f"The worst case {worst_case_asr:.1%} is above --max-asr {max_asr:.1%}.")
        raise typer.Exit(1)


def _no_attack() -> BadInput:
    return BadInput("--max-asr needs an attack beside the controls.", "Add --attack gap.")
