"""The work of a bundle on a device: replay every unit, search, then time the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np

from .. import console, latency, registry, replay, timing
from ..engines import open_engine
from ..errors import BadInput
from ..files import read_json, write_json
from ..latency import Subject
from ..results import Store
from ..runs import Run, width_name
from ..types import Json
from . import energy, power
from .background import DEVICE
from .bundle import Bundle, unpack_engines
from .bundle_search import found
from .probe import probe
from .state import clocks_warning, state

ON_DEVICE = "builder on the device"


def run(bundle: Bundle, out: Path, *, threads: int) -> None:
    """Replays every unit of the bundle, and what is searched for, then times the engines.

    What is finished is not redone. An engine that cannot be attacked, being right on no image, ends
    its own part alone: what is raised for it is raised when the rest is done.
    """
    made = Run(out)
    unpack_engines(bundle, made)
    for job in bundle.jobs:
        if job.engine in registry.names(ON_DEVICE):
            console.say(f"Building {job.engine} {width_name(job.bits)}, unless it was built here …")
            build = cast(Callable[[Path], None], registry.resolve(ON_DEVICE, job.engine))
            build(made.engine(job.engine, job.bits))
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(
                latency.open_subject(
                    partial(open_engine, made, job.engine, bits=job.bits, threads=threads)
                )
            )
            for job in bundle.jobs
        ]
        write_json(made.folder / DEVICE, _device(bundle, subjects, out=out, threads=threads))
        refused = _replay(bundle, made, subjects=subjects)
        if not _is_timed(bundle, made, threads=threads):
            write_json(made.bench, _timed(bundle, subjects, threads=threads))
    if refused:
        raise refused[0]
    console.say(f"Done: {out / 'results.jsonl'}, {made.bench}.")


def _replay(bundle: Bundle, made: Run, *, subjects: Sequence[Subject]) -> list[BadInput]:
    """Everything on every engine; returns what was refused."""
    store = Store(made.results, made.labels)
    refused: list[BadInput] = []
    done = 0
    for job, one in zip(bundle.jobs, subjects, strict=True):
        facts = one.engine.facts
        subject = replay.Subject(one.engine, replay.engine_digest(facts), bundle.data)
        searched = (
            found(sought, subject, facts=facts, pool=bundle.pool, folder=made.patches)
            for sought in job.searches
        )
        where = f"{facts.engine} {width_name(facts.bits)}"
        try:
            for unit in chain(job.units, searched):
                if store.finished(replay.identity(unit, subject)) is None:
                    row, outcomes = replay.replay(unit, facts, subject=subject)
                    store.append(row, outcomes)
                done += 1
                console.say(f"{done}/{bundle.units} units: {unit.attacked.name} on {where}")
        except BadInput as error:
            console.say(f"{where} is left out from here on: {error.fact}")
            refused.append(error)
    return refused


def _timed(bundle: Bundle, subjects: Sequence[Subject], *, threads: int) -> dict[str, Json]:
    """What ``bench`` writes of these engines, on images of the bundle."""
    clock, before = bundle.clock, state()
    plan = clock.plan
    document: dict[str, Json] = {
        "schema": latency.SCHEMA,
        "run": bundle.run,
        "bundle": bundle.digest,
        "plan": {"name": plan.name, "windows": plan.windows, "window_s": plan.window_s},
        "threads": threads,
        "environment": {**timing.environment(), **before},
    }
    if warning := clocks_warning(before):
        console.say(warning)
    rows: list[Json] = []
    loop_ms: dict[str, Json] = {}
    with power.source(clock.with_energy) as source:
        for size in clock.batches:
            engines = "1 engine" if len(subjects) == 1 else f"{len(subjects)} engines"
            console.say(f"Timing {engines} at batch {size} …")
            images = bundle.data.images[np.arange(size) % len(bundle.data)]
            cost_ms = latency.loop_cost_ms(images, classes=bundle.classes)
            loop_ms[str(size)] = round(cost_ms, 6)
            measured = partial(energy.of_engine, source, images=images, window_s=plan.window_s)
            timed = latency.rows(subjects, images, plan=plan, energy_of=measured)
            rows += [row.as_json(samples=True) for row in timed]
    if clock.with_energy and source.meter is None:
        console.say(f"Energy: NOT AVAILABLE. {source.said}")
    document["energy"] = {"available": source.meter is not None, "source": source.said}
    document["after_gaps_p50_ms"] = latency.after_gaps(
        subjects, bundle.data.images[:1], gaps_ms=clock.gaps_ms
    )
    document["loop_cost_p50_ms"] = loop_ms
    document["environment_after"] = {"load_average": timing.load_average(), **state()}
    document["results"] = rows
    return document


def _is_timed(bundle: Bundle, made: Run, *, threads: int) -> bool:
    """Whether the timing in the folder is that of this bundle with as many threads."""
    if not made.bench.is_file():
        return False
    held = read_json(made.bench)
    return (
        isinstance(held, dict)
        and held.get("bundle") == bundle.digest
        and held.get("threads") == threads
    )


def _device(
    bundle: Bundle, subjects: Sequence[Subject], *, out: Path, threads: int
) -> dict[str, Json]:
    engines: list[Json] = []
    for one in subjects:
        facts = one.engine.facts
        said: dict[str, Json] = {"answers_digest": replay.engine_digest(facts)}
        engines.append({**said, **asdict(facts), "options": dict(facts.options)})
    return {
        "bundle": bundle.digest,
        "run": bundle.run,
        "units": bundle.units,
        "threads": threads,
        "device": probe(out),
        "engines": engines,
    }
