"""``qadtr-edge attack``: craft what is missing, replay it on the engines, count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console, replay
from ..errors import BadInput
from ..patch.placement import LARGE_IMAGE_PX, check_fit, policy, resolved
from ..results import Store
from ..runs import DEFAULT_ROOT, open_run, record
from ..suite import SUITES
from ..types import Json
from . import artefact as artefacts
from . import (
    attack_ablation,
    attack_beside,
    attack_names,
    attack_plan,
    attack_show,
    attack_suite,
    attack_target,
    completion,
    options,
    patch_form,
)
from .attack_plan import Plan
from .attack_run import CRAFT_IMAGES, carried_out

ATTACKS = "gap,controls"


def attack(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    artefact: options.Artefact = None,
    preprocess: options.PreprocessFile = None,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Attacks, several with commas. The controls always run.",
            show_default=ATTACKS,
            autocompletion=completion.names(*attack_names.KINDS),
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="quick|default|full",
            autocompletion=completion.words(SUITES),
            help="In place of --attack: all tiers at a fixed budget, and the checks of the result.",
        ),
    ] = None,
    differential: Annotated[
        bool,
        typer.Option("--differential", help="With --suite: fool the engine, not its float model."),
    ] = False,
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="Also certify: no patch of that size fools two masks."),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Compare with what was measured in this run."),
    ] = None,
    ablation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=RUN",
            help="With --suite: a run without aqapa, dbwt or gir, attacked alike. May be repeated.",
        ),
    ] = None,
    patch_size: options.PatchSize = None,
    patch: Annotated[
        Path | None, typer.Option(help="Replay this .png or .npz instead of crafting.")
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
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Pixels between the places of a sweep. Default: an eighth of the image's side.",
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
    attack = attack_names.replayed(attack, patch)
    named = attack_names.named(ATTACKS if attack is None else attack)
    searching: dict[str, Json] = {"queries": queries, "stride": stride}
    if suite is not None:
        attack_suite.check(suite, {
            "--attack": attack, "--patch": patch, "--target": target, "--placement": placement,
            "--victim": victim, "--steps": steps, "--queries": queries, "--stride": stride,
        })  # fmt: skip
    elif differential:
        raise BadInput("--differential is an option of --suite.", "Use --attack differential.")
    if patch is not None:
        attack_names.refuse_crafting(named, attack=attack, victim=victim, steps=steps)
    attack_names.check(named, searching)
    attack = ATTACKS if attack is None and suite is None else attack
    victim = options.VICTIM if victim is None else victim
    attack_plan.victim(victim)
    patch_form.check(named, patch_size, suite=suite)
    places = None if placement is None else resolved(placement)
    policy(places or "random", image_px=LARGE_IMAGE_PX)
    attack_names.check_placement(named, placement)
    if max_asr is not None and patch is None and named.none:
        raise _no_attack()
    if artefact is None:
        artefacts.needed(preprocess)
        there = open_run(run, runs)
        Store(there.results, there.labels).rows()  # what cannot be read is refused before the work
        aim = attack_target.of_run(there, engine=engine, bits=bits, data=data, threads=threads)
    else:
        artefacts.alone({"--run": run, "--bits": bits}, file=artefact)
        shown = artefacts.Shown(artefact, preprocess, data, data_root, images)
        aim = attack_target.of_file(shown, engine=engine, root=runs, threads=threads)
    opened, source = aim.run, aim.source
    if differential or attack_beside.named(named):
        attack_beside.require(opened, [width for _, width, _ in aim.engines])
    before = None if baseline is None else open_run(baseline, runs)
    without = attack_ablation.named(ablation or (), root=runs, suite=suite)
    given = attack_names.given(patch)
    form = patch_form.form(patch_size, given, image_px=source.image_px)
    places = "plain" if places is None and form.covers else places
    # Without --placement each attack has its own; the one that does not rotate asks least.
    how = policy(places or "plain", image_px=source.image_px)
    check_fit(how, form.patch_px, image_px=(source.image_px, source.image_px))
    console.say(f"Loading {source.name} …")
    test = source.load("test", root=data_root, limit=images)
    craft = source.load("craft", root=data_root, limit=CRAFT_IMAGES)
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
        batch=batch,
        threads=threads,
        test=test,
        craft=craft,
        classes=aim.classes(test),
        per_image=named.per_image,
        searches=named.searches,
        universal_searches=named.universal_searches,
        options={**form.options, **{k: v for k, v in searching.items() if v is not None}},
        differential=differential,
        certificate=certificate,
    )
    result = carried_out(plan, aim, suite=suite, before=before, without=without)
    record(opened, "attack", options={
        "artefact": artefact and artefact.name, "engine": engine, "bits": bits, "attack": attack,
        "suite": suite, "differential": differential, "certificate": certificate,
        "baseline": baseline and str(baseline), "ablation": ablation, "patch": patch and str(patch),
        "patch_size": list(plan.patch_px), "patch_form": patch_size,
        "target": plan.target, "placement": placement,
        "victim": victim, "steps": steps, "images": len(test), "data": source.name,
        "batch": batch, "threads": threads, "seed": seed, "queries": queries, "stride": stride,
    })  # fmt: skip
    if json:
        console.print_json(result.as_json())
    else:
        attack_show.show(result, class_names=test.class_names)
    _enforce(result.worst_case_asr, max_asr)


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
