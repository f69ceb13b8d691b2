"""An attack carried out on every engine it aims at: what it found, and what the run keeps of it.

The verb ``attack`` and ``qadtr_edge.run_suite`` end in the same ``carried_out``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

from .. import console, replay
from ..errors import BadInput
from ..patch.placement import check_fit, policy
from ..results import Store
from ..runs import Run, open_run, record
from ..types import Engine
from . import (
    attack_ablation,
    attack_answer,
    attack_beside,
    attack_certificate,
    attack_plan,
    attack_replay,
    attack_suite,
    attack_target,
    attack_verdict,
    patch_form,
)
from .attack_answer import Answer
from .attack_plan import Plan
from .attack_target import Target

CRAFT_IMAGES = 1000
SuiteName = Literal["quick", "default", "full"]
RunLike = Run | str | PathLike[str]


def carried_out(
    plan: Plan, aim: Target, *, suite: str | None, before: Run | None,
    without: Mapping[str, Run] | None = None,
) -> Answer:  # fmt: skip
    """What the plan, or the suite in its place, found on each engine of ``aim``.

    A suite's verdict is kept in the run. ``before``: the run it is compared with; ``without``: runs
    trained without a part of the defence, by that part.
    """
    if plan.certificate:
        attack_certificate.require(plan)
    store = Store(plan.run.results, plan.run.labels)
    known = None if before is None else attack_verdict.baseline(before, suite=suite)
    if suite is not None and (absent := attack_suite.absent(suite)):
        console.say(f"The {suite} suite here lacks: {', '.join(absent)}.")
    ablated = {
        (name, width): attack_ablation.read(without, plan, engine=name, bits=width, suite=suite)
        for name, width, _ in aim.engines
        if without and suite is not None
    }  # what cannot be compared is refused before the work
    cells = []
    for name, width, opening in aim.engines:
        with opening() as running:
            cell = attack_replay.on_engine(plan, running, store=store, suite=suite)
        if before is not None:
            remembered = attack_verdict.recorded(before, engine=name, bits=width, suite=suite)
            cell = replace(cell, probes={**cell.probes, "record": remembered})
        if parts := ablated.get((name, width)):
            gains = attack_ablation.compared(cell, store, without=parts)
            cell = replace(cell, probes={**cell.probes, "ablation": gains or None})
        cells.append(cell)
    found = attack_answer.answer(cells, store, suite=suite, baseline=known)
    if suite is not None:
        attack_verdict.write(plan.run, cells, widths=found.widths, suite=suite, baseline=before)
    return found


def run_suite(
    run: RunLike | None,
    engine: str | Engine = "ort",
    *,
    bits: int | None = None,
    suite: SuiteName = "quick",
    images: int = 1000,
    patch_px: tuple[int, int] | None = None,
    data: str | None = None,
    data_root: str | PathLike[str] | None = None,
    batch: int = replay.BATCH,
    threads: int = 1,
    seed: int = 0,
    baseline: RunLike | None = None,
    ablation: Mapping[str, RunLike] | None = None,
    differential: bool = False,
    certificate: bool = False,
) -> Answer:
    """What ``qadtr-edge attack --suite`` answers: rows, unions, tiers, checks and the verdict.

    ``run`` is a run, a path (``runs/latest`` is the newest), or ``None`` for the newest; what is
    found stays there, and what stands there already is not done again. ``engine`` is a name, at
    width ``bits`` or at all integer widths, or an engine that is open, which stays open.
    ``patch_px`` are rows and columns of the patch: 6, or 50 on large images. ``data`` and
    ``data_root`` are as ``--data`` and ``--data-root``, and ``differential`` and
    ``certificate`` are as those options; ``baseline`` is a run that is compared with, ``ablation``
    runs without ``aqapa``, ``dbwt`` or ``gir``, by that part. Progress goes to stderr. Attacks with
    gradients need torch. Raises ``QadtrError`` for what the verb refuses.
    """
    attack_suite.check(suite, {})
    least = {"images": images, "batch": batch, "threads": threads, "patch_px": min(patch_px or [1])}
    for name, value in least.items():
        if value < 1:
            raise BadInput(f"{name} is {value}, less than 1.", "Give a whole number from 1 on.")
    opened = _run(run)
    Store(opened.results, opened.labels).rows()  # what cannot be read is refused before the work
    aim = _aim(opened, engine, bits=bits, data=data, threads=threads)
    if differential:
        attack_beside.require(opened, [width for _, width, _ in aim.engines])
    source = aim.source
    size = patch_px or patch_form.patch_px(None, image_px=source.image_px)
    side = (source.image_px, source.image_px)
    check_fit(policy("plain", image_px=source.image_px), size, image_px=side)
    place = None if data_root is None else Path(data_root)
    test = source.load("test", root=place, limit=images)
    plan = Plan(
        run=opened,
        names=(),
        given=(),
        patch_px=size,
        target=None,
        placement=None,
        victim="twin",
        steps=None,
        seed=seed,
        batch=batch,
        threads=threads,
        test=test,
        craft=source.load("craft", root=place, limit=CRAFT_IMAGES),
        classes=aim.classes(test),
        differential=differential,
        certificate=certificate,
    )
    before = None if baseline is None else _run(baseline)
    without = {attack_ablation.part(name): _run(one) for name, one in (ablation or {}).items()}
    found = carried_out(plan, aim, suite=suite, before=before, without=without)
    record(opened, "attack", options={
        "engine": [name for name, *_ in aim.engines], "bits": bits, "suite": suite,
        "baseline": before and str(before.folder),
        "ablation": [f"{name}={one.folder}" for name, one in without.items()] or None,
        "patch_size": list(size),
        "images": len(test), "data": source.name, "batch": batch, "threads": threads, "seed": seed,
        "differential": differential, "certificate": certificate,
    })  # fmt: skip
    return found


def _run(run: RunLike | None) -> Run:
    return run if isinstance(run, Run) else open_run(None if run is None else Path(run))


def _aim(
    run: Run, engine: str | Engine, *, bits: int | None, data: str | None, threads: int
) -> Target:
    """The engines named of the run, or the one that is open; it is not closed."""
    if isinstance(engine, str):
        widths = None if bits is None else str(bits)
        return attack_target.of_run(run, engine=engine, bits=widths, data=data, threads=threads)
    facts = engine.facts
    if bits not in (None, facts.bits):
        raise BadInput(
            f"The engine that is open holds {facts.bits} bits, not {bits}.", "Leave bits out."
        )
    attack_plan.require_fresh(run, facts.bits)
    return Target(
        run,
        attack_plan.source(run, data),
        ((facts.engine, facts.bits, lambda: nullcontext(engine)),),
        partial(attack_plan.classes_of, run),
    )
