"""A row of a latency measurement: what opening an engine took, its first call, and its timing.

The verb ``bench`` and a device that was handed a bundle write the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import timing
from .devices.energy import Energy
from .runs import width_name
from .timing import Samples
from .types import FLOAT_BITS, Engine, EngineFacts, Json, Pixels

SCHEMA = 1
"""Of ``bench.json``."""

LOOP = timing.Plan("loop", windows=3, window_s=0.02, warmup_s=0.02)
"""How the loop itself is timed, whatever the engines are timed by: a call takes a microsecond."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An engine, and what opening it took: ``memory_bytes`` is how much the process grew."""

    engine: Engine
    load_ms: float
    memory_bytes: int | None

    @property
    def key(self) -> str:
        return f"{self.engine.facts.engine}-{width_name(self.engine.facts.bits)}"


@dataclass(frozen=True, eq=False)
class Row:
    """One engine at one batch size.

    ``load_ms``: opening it; ``first_ms``: its first call with this batch; ``memory_bytes``: how
    much the process grew when it was opened; ``speedup``: against the float model.
    ``device_ms``: what the device says of its part of each call; ``None`` where it keeps no time of
    its own, as on a CPU, which is the host.
    """

    facts: EngineFacts
    timing: timing.Timing
    speedup: float | None
    device_ms: Samples | None
    load_ms: float
    first_ms: float
    memory_bytes: int | None
    energy: Energy | None

    def as_json(self, *, samples: bool) -> dict[str, Json]:
        row: dict[str, Json] = {
            "engine": self.facts.engine,
            "bits": self.facts.bits,
            **self.timing.summary(),
            "device_p50_ms": self.device_percentile_ms(50),
            "device_p99_ms": self.device_percentile_ms(99),
            "speedup_vs_fp32": None if self.speedup is None else round(self.speedup, 4),
            "load_ms": round(self.load_ms, 3),
            "first_ms": round(self.first_ms, 3),
            "memory_bytes": self.memory_bytes,
            "energy": None if self.energy is None else self.energy.as_json(),
            "precision": self.facts.precision,
            "runtime": self.facts.runtime,
            "engine_digest": self.facts.digest,
        }
        if samples:
            row["windows_us"] = [
                [round(value, 1) for value in (1000.0 * window).tolist()]
                for window in self.timing.windows_ms
            ]
            if self.device_ms is not None:
                row["device_us"] = [round(value, 1) for value in (1000.0 * self.device_ms).tolist()]
        return row

    def device_percentile_ms(self, percent: float) -> float | None:
        """Milliseconds of the device that ``percent`` of the calls did not exceed."""
        if self.device_ms is None:
            return None
        return round(float(np.percentile(self.device_ms, percent)), 6)


@contextmanager
def open_subject(opening: Callable[[], AbstractContextManager[Engine]]) -> Iterator[Subject]:
    """The engine that ``opening`` opens, timed and weighed as it is opened."""
    before, begun = _resident_bytes(), time.perf_counter()
    with opening() as engine:
        load_ms = 1000 * (time.perf_counter() - begun)
        after = _resident_bytes()
        grown = None if before is None or after is None else after - before
        yield Subject(engine, load_ms, grown)


def rows(
    subjects: Sequence[Subject],
    images: Pixels,
    *,
    plan: timing.Plan,
    on_window: Callable[[], None] = lambda: None,
    energy_of: Callable[[Engine], Energy | None] = lambda engine: None,
) -> list[Row]:
    """One row a subject, timed on the batch ``images`` (N, 3, H, W) uint8."""
    first_ms = {}
    for one in subjects:
        begun = time.perf_counter()
        one.engine(images)
        first_ms[one.key] = 1000 * (time.perf_counter() - begun)
    calls: dict[str, timing.Subject] = {one.key: one.engine for one in subjects}
    found = timing.measure(calls, images, plan=plan, on_window=on_window)
    made = []
    for one in subjects:
        facts = one.engine.facts
        yardstick = found.get(f"{facts.engine}-{width_name(FLOAT_BITS)}")
        made.append(
            Row(
                facts,
                found[one.key],
                speedup=timing.speedup(yardstick, found[one.key]) if yardstick else None,
                device_ms=timing.on_device(one.engine, images, plan=plan)
                if isinstance(one.engine, timing.DeviceTimed)
                else None,
                load_ms=one.load_ms,
                first_ms=first_ms[one.key],
                memory_bytes=one.memory_bytes,
                energy=energy_of(one.engine),
            )
        )
    return made


def after_gaps(
    subjects: Sequence[Subject], image: Pixels, *, gaps_ms: Sequence[int]
) -> dict[str, Json]:
    """Median milliseconds of one image after each pause, by engine and pause."""
    found: dict[str, Json] = {}
    for one in subjects if gaps_ms else ():
        taken = timing.after_gaps(one.engine, image, gaps_ms=gaps_ms)
        found[one.key] = {f"{gap:g}": round(value, 6) for gap, value in taken.items()}
    return found


def loop_cost_ms(images: Pixels, *, classes: int) -> float:
    """Median cost of the measuring loop itself on this batch, in milliseconds."""
    nothing = timing.null_subject(classes)
    return timing.measure({"null": nothing}, images, plan=LOOP)["null"].percentile_ms(50)


def _resident_bytes() -> int | None:
    """Memory this process holds; ``None`` where the system does not tell."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])
