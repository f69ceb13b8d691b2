"""``qadtr-edge bench``: latency, throughput, energy of a run's engines, the float model beside."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from .. import console, latency, loadgen, timing
from ..devices import energy, power
from ..devices.state import clocks_warning, state
from ..errors import BadInput, UnknownName
from ..files import write_json
from ..latency import Row, Subject
from ..runs import DEFAULT_ROOT, open_run, record, width_name
from ..types import FLOAT_BITS, Json, Pixels
from . import artefact as artefacts
from . import bench_answer, bench_subjects, completion, options

ARRIVALS_PER_S = 100.0


def bench(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    artefact: options.Artefact = None,
    preprocess: options.PreprocessFile = None,
    engine: options.Engines = "all",
    bits: options.Bits = None,
    batch: Annotated[str, typer.Option(help="Images per call, several with commas.")] = "1,8,32,64",
    full: options.Full = False,
    gaps: options.Gaps = None,
    with_energy: options.WithEnergy = False,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="Also by MLPerf LoadGen: SingleStream, Offline, Server; with commas.",
            autocompletion=completion.words(loadgen.SCENARIOS),
        ),
    ] = None,
    arrivals: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="PER_S",
            help="Images a second of scenario Server.",
            show_default=f"{ARRIVALS_PER_S:g}",
        ),
    ] = None,
    threads: options.Threads = 1,
    seed: options.Seed = 0,
    max_p99_ms: Annotated[
        float | None,
        typer.Option("--max-p99-ms", min=0.0, help="Exit 1 when a row's p99 is above this."),
    ] = None,
    json: options.JsonFlag = False,
) -> None:
    """Measure latency and throughput; the float model is always measured beside."""
    sizes = options.counts("--batch", batch)
    pauses_ms = [] if gaps is None else options.counts("--gaps", gaps, least=0)
    scenarios = [] if scenario is None else _scenarios(scenario)
    if arrivals is not None and "Server" not in scenarios:
        raise BadInput(
            "--arrivals is an option of scenario Server, which was not asked for.",
            "Add --scenario Server, or leave --arrivals out.",
        )
    arrivals = ARRIVALS_PER_S if arrivals is None else arrivals
    plan = timing.FULL if full else timing.QUICK
    before = state()
    document: dict[str, Json] = {
        "schema": latency.SCHEMA,
        "plan": {"name": plan.name, "windows": plan.windows, "window_s": plan.window_s},
        "threads": threads,
        "environment": {**timing.environment(), **before},
    }
    rows: list[Row] = []
    loop_ms: dict[str, Json] = {}
    with ExitStack() as stack, power.source(with_energy) as source:
        if artefact is None:
            artefacts.needed(preprocess)
            chosen = bench_subjects.of_run(
                stack, open_run(run, runs), engine=engine, bits=bits, threads=threads
            )
        else:
            artefacts.alone({"--run": run, "--bits": bits}, file=artefact)
            shown = artefacts.Shown(artefact, preprocess, None, None, None)
            chosen = bench_subjects.of_file(
                stack, shown, engine="ort" if engine == "all" else engine, root=runs,
                threads=threads,
            )  # fmt: skip
        opened, subjects = chosen.run, chosen.subjects
        for size in sizes:
            images = chosen.noise(size, seed=seed)
            cost_ms = latency.loop_cost_ms(images, classes=chosen.classes)
            loop_ms[str(size)] = round(cost_ms, 6)
            rows += _timed(subjects, images, plan=plan, source=source)
        after_gaps = latency.after_gaps(subjects, chosen.noise(1, seed=seed), gaps_ms=pauses_ms)
        driven = _driven(
            subjects, chosen.noise(max(sizes), seed=seed), scenarios=scenarios, plan=plan,
            arrivals_per_s=arrivals,
        )  # fmt: skip
    document["run"] = opened.name
    document["loop_cost_p50_ms"] = loop_ms
    document["energy"] = {"available": source.meter is not None, "source": source.said}
    document["after_gaps_p50_ms"] = after_gaps
    document["loadgen"] = [dict(row) for row in driven]
    document["environment_after"] = {"load_average": timing.load_average(), **state()}
    document["results"] = [row.as_json(samples=False) for row in rows]
    stored = {**document, "results": [row.as_json(samples=True) for row in rows]}
    write_json(opened.bench, stored)
    record(opened, "bench", options={
           "artefact": artefact and artefact.name, "engine": engine, "bits": bits, "batch": batch,
           "full": full, "gaps": gaps, "energy": with_energy, "scenario": scenario,
           "arrivals": arrivals, "threads": threads, "seed": seed})  # fmt: skip
    if json:
        console.print_json(document)
    else:
        bench_answer.show(rows, plan, loop_ms=loop_ms, threads=threads, after_gaps=after_gaps)
        bench_answer.show_loadgen(driven)
    if with_energy and source.meter is None:
        console.say(f"Energy: NOT AVAILABLE. {source.said}")
    if warning := clocks_warning(before):
        console.say(warning)
    if max_p99_ms is not None:
        _enforce(rows, max_p99_ms, asked=bits)


def _timed(
    subjects: list[Subject], images: Pixels, *, plan: timing.Plan, source: power.Source
) -> list[Row]:
    """The rows of one batch size."""
    windows = plan.windows * len(subjects)
    with console.Progress(f"bench, batch {len(images)}", windows, unit="windows") as progress:
        return latency.rows(
            subjects, images, plan=plan, on_window=progress.advance,
            energy_of=lambda engine: energy.of_engine(
                source, engine, images=images, window_s=plan.window_s
            ),
        )  # fmt: skip


def _scenarios(text: str) -> list[loadgen.Scenario]:
    for name in (chosen := options.split(text)):
        if name not in loadgen.SCENARIOS:
            raise UnknownName("scenario", name, loadgen.SCENARIOS)
    if not chosen:
        raise BadInput("--scenario names none.", f"Known: {', '.join(loadgen.SCENARIOS)}.")
    return [name for name in loadgen.SCENARIOS if name in chosen]


def _driven(
    subjects: list[Subject], images: Pixels, *, scenarios: list[loadgen.Scenario],
    plan: timing.Plan, arrivals_per_s: float,
) -> list[dict[str, Json]]:  # fmt: skip
    """What LoadGen measures of each engine in each scenario, for as long as the windows take."""
    duration_s = plan.windows * plan.window_s
    return [
        {
            "engine": one.engine.facts.engine,
            "bits": one.engine.facts.bits,
            "engine_digest": one.engine.facts.digest,
            "scenario": name,
            **loadgen.run(
                one.engine, images, scenario=name, duration_s=duration_s, batch=len(images),
                arrivals_per_s=arrivals_per_s,
            ),
        }
        for name in scenarios
        for one in subjects
    ]  # fmt: skip


def _enforce(rows: list[Row], max_p99_ms: float, *, asked: str | None) -> None:
    """Exits 1 when a measured row is too slow; the float yardstick counts only when asked for."""
    floats_count = asked is not None and str(FLOAT_BITS) in options.split(asked)
    for row in rows:
        p99_ms = row.timing.percentile_ms(99)
        if p99_ms > max_p99_ms and (row.facts.bits != FLOAT_BITS or floats_count):
            console.say(
                f"{row.facts.engine} {width_name(row.facts.bits)} at batch {row.timing.batch}: "
                f"p99 {p99_ms:.3f} ms is above --max-p99-ms {max_p99_ms:g}."
            )
            raise typer.Exit(1)
