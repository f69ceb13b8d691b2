"""``qadtr-edge bundle``: one file that replays and times a run's engines on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console, timing
from ..devices import bundle as bundles
from ..devices.bundle import Clock, Job
from ..devices.bundle_search import POOL, Sought
from ..errors import BadInput
from ..files import digest
from ..patch.placement import check_fit, policy, resolved
from ..replay import Unit
from ..runs import DEFAULT_ROOT, open_run, record, width_name
from ..types import FLOAT_BITS, Json
from . import (
    attack_beside,
    attack_craft,
    attack_names,
    attack_plan,
    completion,
    options,
    patch_form,
)
from .attack import ATTACKS
from .attack_names import PER_IMAGE, SEARCH, UNIVERSAL, Named
from .attack_plan import Plan
from .attack_run import CRAFT_IMAGES


def bundle(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Attacks, several with commas; patch_rs, label_search and mpa search on the "
            "device. The controls always come along.",
            show_default=ATTACKS,
            autocompletion=completion.names(UNIVERSAL, PER_IMAGE, SEARCH),
        ),
    ] = None,
    patch_size: options.PatchSize = None,
    patch: Annotated[
        Path | None, typer.Option(help="Take this .png or .npz instead of crafting.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Push to this class: its name or number.")
    ] = None,
    placement: options.Placement = None,
    victim: options.Victim = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the crafting.")] = None,
    queries: Annotated[
        int | None,
        typer.Option(min=1, help="Most queries of a search for an image.", show_default="1000"),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to score on.")] = 1000,
    data: Annotated[
        str | None, typer.Option(help="Data set, folder or .npz. Default: the model's own.")
    ] = None,
    data_root: options.DataRoot = None,
    batch: Annotated[str, typer.Option(help="Images per timed call, with commas.")] = "1,8,32,64",
    full: options.Full = False,
    gaps: options.Gaps = None,
    with_energy: options.WithEnergy = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the crafting.")] = 1,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .pyz.")],
    json: options.JsonFlag = False,
) -> None:
    """Pack engines, images and patches into one file that runs on a device."""
    if out.suffix != ".pyz":
        better = out.with_suffix(".pyz") if out.name else out / "edge.pyz"
        raise BadInput(f"{out} does not end in .pyz.", f"Write --out {better}.")
    attack = attack_names.replayed(attack, patch)
    named = _named(ATTACKS if attack is None else attack)
    attack_names.check(named, {"queries": queries})
    if patch is not None:
        attack_names.refuse_crafting(named, attack=attack, victim=victim, steps=steps)
    victim = options.VICTIM if victim is None else victim
    patch_form.check(named, patch_size, suite=None)
    attack_names.check_placement(named, placement)
    attack_plan.victim(victim)
    sizes = tuple(options.counts("--batch", batch))
    gaps_ms = () if gaps is None else tuple(options.counts("--gaps", gaps, least=0))
    opened = open_run(run, runs)
    subjects = options.subjects(opened, engine, bits=bits)
    for width in dict.fromkeys(width for _, width in subjects):
        attack_plan.require_fresh(opened, width)
    given = attack_names.given(patch)
    source = attack_plan.source(opened, data)
    form = patch_form.form(patch_size, given, image_px=source.image_px)
    places = None if placement is None else resolved(placement)
    places = "plain" if places is None and form.covers else places
    how = policy(places or "plain", image_px=source.image_px)
    check_fit(how, form.patch_px, image_px=(source.image_px, source.image_px))
    console.say(f"Loading {source.name} …")
    test = source.load("test", root=data_root, limit=images)
    plan = Plan(
        run=opened,
        names=named.universal,
        given=given,
        patch_px=form.patch_px,
        target=None if target is None else attack_plan.class_of(target, test.class_names),
        placement=places,
        victim=victim,
        steps=steps,
        seed=seed,
        batch=1,
        threads=threads,
        test=test,
        craft=source.load("craft", root=data_root, limit=CRAFT_IMAGES),
        classes=attack_plan.classes_of(opened, test),
        per_image=named.per_image,
        searches=named.searches,
        options=form.options | ({} if queries is None else {"queries": queries}),
    )
    searches = tuple(_sought(plan, name) for name in plan.searches)  # refused before the crafting
    jobs = [
        Job(name, width, ())
        if width == FLOAT_BITS and bits is None  # the yardstick is only timed, unless asked for
        else Job(name, width, tuple(_units(plan, width)), searches)
        for name, width in subjects
    ]
    sha = bundles.write(
        out, jobs, run=opened, data=test, classes=plan.classes,
        clock=Clock(timing.FULL if full else timing.QUICK, sizes, gaps_ms, with_energy),
        pool=plan.craft.images,
    )  # fmt: skip
    record(opened, "bundle", options={
        "engine": engine, "bits": bits, "attack": attack, "patch": patch and str(patch),
        "patch_size": list(plan.patch_px), "patch_form": patch_size,
        "target": plan.target, "placement": placement,
        "victim": victim, "steps": steps, "queries": queries, "images": len(test),
        "data": source.name, "batch": batch, "full": full, "gaps": gaps,
        "energy": with_energy, "threads": threads, "seed": seed, "plan_digest": sha,
    })  # fmt: skip
    _tell(out, jobs, as_json=json)


def _named(attack: str) -> Named:
    """The attacks named. Raises ``BadInput`` for those that need more than the engine there."""
    named = attack_names.named(attack)
    placing = [name for name in named.searches if "patch" in attack_names.takes(SEARCH, name)]
    if others := (*placing, *attack_beside.named(named), *named.universal_searches):
        raise BadInput(
            f"A device has one engine and what the bundle carries, and {others[0]} needs more.",
            f"Leave {', '.join(others)} out: qadtr-edge attack runs it here.",
        )
    return named


def _units(plan: Plan, bits: int) -> list[Unit]:
    """What is replayed on an engine at this width: patches, and the controls beside them."""
    attacked = list(attack_plan.units(plan, bits))
    each = [unit for name in plan.per_image for unit in attack_craft.each(plan, name, bits=bits)]
    return [*attacked, *each, *attack_plan.control_units(plan, attacked)]


def _sought(plan: Plan, name: str) -> Sought:
    """The search ``name`` as the device makes it; built here too, to refuse what cannot be."""
    known = attack_names.takes(SEARCH, name)
    given: dict[str, Json] = {
        "patch_px": list(plan.patch_px), "target": plan.target, **plan.options
    }  # fmt: skip
    options = {key: value for key, value in given.items() if key in known and value is not None}
    made = Sought(name, options, plan.seed, POOL in known)
    made.built(plan.craft.images)
    return made


def _tell(out: Path, jobs: list[Job], *, as_json: bool) -> None:
    size = out.stat().st_size
    if as_json:
        console.print_json({
            "file": str(out), "bytes": size, "digest": digest(out),
            "engines": [
                {"engine": job.engine, "bits": job.bits, "units": len(job.units),
                 "searches": len(job.searches)}
                for job in jobs
            ],
        })  # fmt: skip
        return
    for job in jobs:
        sought = ", ".join(each.name for each in job.searches)
        then = f"; to be searched there: {sought}" if sought else ""
        console.answer(f"{job.engine} {width_name(job.bits)}: {len(job.units)} units{then}")
    console.answer(f"{out}: {size / 1e6:.1f} MB. On the device: python3 {out.name} run --out DIR")
