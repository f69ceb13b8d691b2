"""``qadtr-edge bench``: latency and throughput of a run's engines, the float model beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from .. import console, streams, timing
from ..engines import open_engine
from ..errors import BadInput
from ..files import write_json
from ..integer import graph_file
from ..integer.graph import IntegerGraph
from ..runs import DEFAULT_ROOT, Run, open_run, record, width_name
from ..types import FLOAT_BITS, EngineFacts, Json
from . import options

SCHEMA = 1


def bench(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    engine: options.Engines = "all",
    bits: options.Bits = None,
    batch: Annotated[str, typer.Option(help="Images per call, several with commas.")] = "1,64",
    full: Annotated[
        bool, typer.Option("--full", help="Five windows of 10 s each instead of 0.2 s.")
    ] = False,
    threads: options.Threads = 1,
    seed: options.Seed = 0,
    max_p99_ms: Annotated[
        float | None,
        typer.Option("--max-p99-ms", min=0.0, help="Exit 1 when a row's p99 is above this."),
    ] = None,
    json: options.JsonFlag = False,
) -> None:
    """Measure latency and throughput; the float model is always measured beside."""
    opened = open_run(run, runs)
    plan = timing.FULL if full else timing.QUICK
    chosen = _with_yardsticks(opened, options.subjects(opened, engine, bits=bits))
    document: dict[str, Json] = {
        "schema": SCHEMA,
        "run": opened.name,
        "plan": {"name": plan.name, "windows": plan.windows, "window_s": plan.window_s},
        "threads": threads,
        "environment": timing.environment(),
    }
    rows: list[_Row] = []
    loop_ms: dict[str, Json] = {}
    for size in _batches(batch):
        timed, loop = _measure(opened, chosen, batch=size, threads=threads, seed=seed, plan=plan)
        rows += timed
        loop_ms[str(size)] = round(loop, 6)
    document["loop_cost_p50_ms"] = loop_ms
    document["results"] = [row.as_json(samples=False) for row in rows]
    stored = {**document, "results": [row.as_json(samples=True) for row in rows]}
    write_json(opened.bench, stored)
    record(opened, "bench", options={"engine": engine, "bits": bits, "batch": batch, "full": full,
           "threads": threads, "seed": seed})  # fmt: skip
    if json:
        console.print_json(document)
    else:
        _print(rows, plan, loop_ms, threads=threads)
    if max_p99_ms is not None:
        _enforce(rows, max_p99_ms, asked=bits)


@dataclass(frozen=True, eq=False)
class _Row:
    facts: EngineFacts
    timing: timing.Timing
    speedup: float | None

    def as_json(self, *, samples: bool) -> dict[str, Json]:
        row: dict[str, Json] = {
            "engine": self.facts.engine,
            "bits": self.facts.bits,
            **self.timing.summary(),
            "speedup_vs_fp32": None if self.speedup is None else round(self.speedup, 4),
            "precision": self.facts.precision,
            "runtime": self.facts.runtime,
            "engine_digest": self.facts.digest,
        }
        if samples:
            row["windows_us"] = [
                [round(value, 1) for value in (1000.0 * window).tolist()]
                for window in self.timing.windows_ms
            ]
        return row


def _with_yardsticks(run: Run, chosen: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The chosen engines, the float model of each beside them where it was exported."""
    floats = [(name, FLOAT_BITS) for name, _ in chosen if FLOAT_BITS in run.widths(name)]
    return list(dict.fromkeys([*floats, *chosen]))


def _batches(text: str) -> list[int]:
    words = options.split(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise BadInput(f"--batch {text!r} is not a list of counts.", "Give numbers: --batch 1,64.")
    return [int(word) for word in words]


def _measure(
    run: Run,
    chosen: list[tuple[str, int]],
    *,
    batch: int,
    threads: int,
    seed: int,
    plan: timing.Plan,
) -> tuple[list[_Row], float]:
    """The rows of one batch size, and the median cost of the loop itself in milliseconds."""
    graph = _any_graph(run)
    shape = (batch, *graph.tensors[graph.input].shape)
    images = streams.generator(seed, "bench", batch).integers(0, 256, shape, dtype=np.uint8)
    with ExitStack() as stack:
        subjects: dict[str, timing.Subject] = {}
        facts: dict[str, EngineFacts] = {}
        for name, width in chosen:
            opened = stack.enter_context(open_engine(run, name, bits=width, threads=threads))
            key = f"{name}-{width_name(width)}"
            subjects[key], facts[key] = opened, opened.facts
        null = timing.measure(
            {"null": timing.null_subject(graph.classes)}, images, plan=timing.QUICK
        )
        windows = plan.windows * len(subjects)
        with console.Progress(f"bench, batch {batch}", windows, unit="windows") as progress:
            found = timing.measure(subjects, images, plan=plan, on_window=progress.advance)
    rows = []
    for key, result in found.items():
        yardstick = found.get(f"{facts[key].engine}-{width_name(FLOAT_BITS)}")
        ratio = timing.speedup(yardstick, result) if yardstick else None
        rows.append(_Row(facts[key], result, ratio))
    return rows, null["null"].percentile_ms(50)


def _any_graph(run: Run) -> IntegerGraph:
    """A graph of the run, for the shape of its images: it is the same at every width."""
    for path in sorted(run.graphs.glob("w*a*.npz")):
        return graph_file.load(path)
    raise BadInput(
        f"{run.folder} holds no integer graph.", f"Make it: qadtr-edge export --run {run.folder}."
    )


def _print(rows: list[_Row], plan: timing.Plan, loop_ms: dict[str, Json], *, threads: int) -> None:
    columns = ["engine", "values", "ran as", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s",
               "against fp32", "CoV", "stable"]  # fmt: skip
    console.print_table(
        columns,
        [
            [
                row.facts.engine,
                width_name(row.facts.bits),
                row.facts.precision,
                str(row.timing.batch),
                *(f"{row.timing.percentile_ms(percent):.3f}" for percent in (50, 90, 99)),
                f"{row.timing.images_per_s:,.0f}",
                "not run" if row.speedup is None else f"{row.speedup:.2f}x",
                f"{row.timing.cov:.3f}",
                "yes" if row.timing.stable else "NO",
            ]
            for row in rows
        ],
        title=f"Latency ({plan.name}: {plan.windows} windows of {plan.window_s:g} s, {threads} "
        f"thread{'' if threads == 1 else 's'})",
    )
    costs = ", ".join(f"{value:.4f} ms at batch {size}" for size, value in loop_ms.items())
    console.say(f"The measuring loop itself costs {costs}.")
    if any(not row.timing.stable for row in rows):
        console.say(
            "A row marked NO moved too much to be quoted: quiet the machine, or use --full."
        )


def _enforce(rows: list[_Row], max_p99_ms: float, *, asked: str | None) -> None:
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
