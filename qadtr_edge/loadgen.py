"""MLPerf LoadGen as a second opinion on latency: its scenarios, driven against one engine.

LoadGen decides when which query is issued and takes the times; this file only hands the images
over. It is the harness of mlcommons/inference, run with short durations: its numbers are no MLPerf
results. Scenarios, by their terms: SingleStream (one query in flight), Offline (all at once),
Server (Poisson arrivals at a rate).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Protocol

from .errors import MissingDependency
from .types import Engine, Json, Pixels

Scenario = Literal["SingleStream", "Offline", "Server"]
SCENARIOS: tuple[Scenario, ...] = ("SingleStream", "Offline", "Server")
MAX_QUERIES = 10_000_000
MARGIN = 1.25


class _Sample(Protocol):
    """A query as LoadGen hands it over."""

    id: int
    index: int


def run(
    engine: Engine,
    images: Pixels,
    *,
    scenario: Scenario,
    duration_s: float,
    batch: int = 1,
    arrivals_per_s: float = 100.0,
) -> dict[str, Json]:
    """What LoadGen says of ``engine`` on ``images (N, 3, H, W) uint8`` after ``duration_s``.

    ``batch``: the most images a call of Offline holds; ``arrivals_per_s``: of Server.
    Milliseconds from a query's issue to its answer, images a second, and whether LoadGen calls the
    run valid. Raises ``MissingDependency`` without LoadGen.
    """
    try:
        loadgen = import_module("mlperf_loadgen")
    except ModuleNotFoundError:
        raise MissingDependency("mlcommons-loadgen", "loadgen", purpose="--scenario") from None
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1000 * duration_s)
    settings.max_query_count = MAX_QUERIES
    settings.min_query_count = 64
    # LoadGen makes its queries beforehand and must be told how many the duration needs.
    fastest_s = _fastest_s(engine, images[:batch])
    settings.single_stream_expected_latency_ns = round(1e9 * fastest_s / MARGIN)
    settings.offline_expected_qps = MARGIN * batch / fastest_s
    settings.server_target_qps = arrivals_per_s

    alone = [images[at : at + 1] for at in range(len(images))]  # views: no copy is timed

    def issue(samples: Sequence[_Sample]) -> None:
        for start in range(0, len(samples), batch):
            part = samples[start : start + batch]
            index = [sample.index for sample in part]
            engine(alone[index[0]] if len(part) == 1 else images[index])
            answered = [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in part]
            loadgen.QuerySamplesComplete(answered)

    with TemporaryDirectory() as folder:
        output = loadgen.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        logs = loadgen.LogSettings()
        logs.log_output = output
        logs.enable_trace = False
        sut = loadgen.ConstructSUT(issue, lambda: None)
        qsl = loadgen.ConstructQSL(len(images), len(images), lambda _: None, lambda _: None)
        try:
            loadgen.StartTestWithLogSettings(sut, qsl, settings, logs)
        finally:
            loadgen.DestroyQSL(qsl)
            loadgen.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    return _read(summary)


def _fastest_s(engine: Engine, images: Pixels) -> float:
    """The shortest of twenty calls, in seconds."""
    taken = []
    for _ in range(20):
        begun = time.perf_counter()
        engine(images)
        taken.append(time.perf_counter() - begun)
    return min(taken)


PERCENTILES = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99, "p99_9_ms": 99.9}


def _read(summary: str) -> dict[str, Json]:
    """The numbers of LoadGen's own summary."""
    values = dict(re.findall(r"^(.+?)\s*: (.+?)$", summary, re.MULTILINE))
    found: dict[str, Json] = {
        name: round(float(values[key]) / 1e6, 6)
        for name, percent in PERCENTILES.items()
        if (key := f"{percent:.2f} percentile latency (ns)") in values
    }
    for name in ("Samples per second", "QPS w/ loadgen overhead", "Completed samples per second"):
        if name in values:
            found["images_per_s"] = round(float(values[name]), 3)
            break
    found["valid"] = values.get("Result is") == "VALID"
    return found
