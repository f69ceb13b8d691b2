"""How long one call takes, measured so that engines can be compared on a machine that is shared.

The protocol is this project's own, put together from what the established harnesses do:

- one call in flight, timed from ``uint8`` bytes in to float32 logits out, with nothing else in the
  loop: accuracy and attack success are never measured here;
- warm-up until the median settles, not a fixed number of calls;
- windows of the subjects interleaved, in an order that rotates, so that a clock drift or a busy
  neighbour hits all of them alike, and ratios are taken window by window;
- every sample kept; percentiles over all of them; a null subject tells the loop's own cost;
- ``stable`` is a verdict, not an adjustment: an unstable number is printed and marked.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import provenance
from .types import Json, Pixels

Subject = Callable[[Pixels], NDArray[np.float32]]
Samples = NDArray[np.float64]
Clock = Callable[[], int]
"""Nanoseconds from any origin, never going back."""


@runtime_checkable
class DeviceTimed(Protocol):
    """An engine whose device keeps a time of its own, as a GPU does by its events."""

    def device_ms(self, images: Pixels) -> float:
        """Milliseconds the device computes on these images: no copy, no part of the host."""
        ...


MAX_COV = 0.10
"""Coefficient of variation above which a result is not stable."""
MAX_SPREAD = 0.10
"""Largest minus smallest window median, over the median of all, above which it is not stable."""
SETTLED_WITHIN = 0.05
SETTLED_BLOCKS = 3
MIN_CALLS = 10
GAP_CALLS = 11


@dataclass(frozen=True)
class Plan:
    """``windows`` of at least ``window_s`` each, after a warm-up of at most ``warmup_s``."""

    name: str
    windows: int
    window_s: float
    warmup_s: float


QUICK = Plan("quick", windows=5, window_s=0.2, warmup_s=2.0)
FULL = Plan("full", windows=5, window_s=10.0, warmup_s=30.0)


@dataclass(frozen=True, eq=False)
class Timing:
    """The samples of one subject: ``windows_ms``, one array of call durations a window."""

    batch: int
    windows_ms: tuple[Samples, ...]
    warmup_calls: int
    settled: bool

    @property
    def samples_ms(self) -> Samples:
        return np.concatenate(self.windows_ms)

    def percentile_ms(self, percent: float) -> float:
        """Duration of a call, in milliseconds, that ``percent`` of the calls did not exceed."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def images_per_s(self) -> float:
        samples = self.samples_ms
        return float(1000.0 * self.batch * samples.size / samples.sum())

    @property
    def cov(self) -> float:
        """Coefficient of variation of the calls that p99 did not exceed.

        A call that the scheduler interrupts can last a hundred times the others; one in a thousand
        would decide a plain coefficient. What is left out here is what p99 and the maximum tell.
        """
        samples = self.samples_ms
        usual = samples[samples <= np.percentile(samples, 99)]
        return float(usual.std() / usual.mean())

    @property
    def window_medians_ms(self) -> Samples:
        return np.array([np.median(window) for window in self.windows_ms])

    @property
    def spread(self) -> float:
        """Largest minus smallest window median, over their median: drift shows here."""
        medians = self.window_medians_ms
        return float((medians.max() - medians.min()) / np.median(medians))

    @property
    def unstable_because(self) -> tuple[str, ...]:
        """Why the numbers are not to be quoted; empty when they are stable."""
        reasons = {
            "the warm-up ended before the median settled": not self.settled,
            f"calls vary by {self.cov:.0%} about their mean": self.cov > MAX_COV,
            f"window medians lie {self.spread:.0%} apart": self.spread > MAX_SPREAD,
        }
        return tuple(reason for reason, holds in reasons.items() if holds)

    @property
    def stable(self) -> bool:
        return not self.unstable_because

    def summary(self) -> dict[str, Json]:
        """The numbers of a result row, by their stable names."""
        return {
            "batch": self.batch,
            "p50_ms": round(self.percentile_ms(50), 6),
            "p90_ms": round(self.percentile_ms(90), 6),
            "p95_ms": round(self.percentile_ms(95), 6),
            "p99_ms": round(self.percentile_ms(99), 6),
            "p99_9_ms": round(self.percentile_ms(99.9), 6),
            "max_ms": round(self.percentile_ms(100), 6),
            "images_per_s": round(self.images_per_s, 3),
            "cov": round(self.cov, 6),
            "window_spread": round(self.spread, 6),
            "stable": self.stable,
            "unstable_because": [*self.unstable_because],
            "calls": int(self.samples_ms.size),
            "warmup_calls": self.warmup_calls,
        }


def speedup(yardstick: Timing, subject: Timing) -> float:
    """How many times faster ``subject`` is: median over windows of their medians' ratio."""
    return float(np.median(yardstick.window_medians_ms / subject.window_medians_ms))


def null_subject(classes: int) -> Subject:
    """A subject that does no work: what it costs is the cost of the loop."""

    def nothing(images: Pixels) -> NDArray[np.float32]:
        return np.empty((len(images), classes), np.float32)

    return nothing


def measure(
    subjects: Mapping[str, Subject],
    images: Pixels,
    *,
    plan: Plan,
    clock: Clock = time.perf_counter_ns,
    on_window: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Times every subject on the batch ``images`` (N, 3, H, W) uint8, interleaved window by window.

    ``on_window`` is called after each window, outside the timed loop.
    """
    warm = {name: _warm_up(call, images, plan=plan, clock=clock) for name, call in subjects.items()}
    windows: dict[str, list[Samples]] = {name: [] for name in subjects}
    names = list(subjects)
    for number in range(plan.windows):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with _no_collection():
                windows[name].append(_window(subjects[name], images, plan=plan, clock=clock))
            on_window()
    return {
        name: Timing(
            batch=len(images),
            windows_ms=tuple(windows[name]),
            warmup_calls=warm[name].calls,
            settled=warm[name].settled,
        )
        for name in names
    }


def after_gaps(
    call: Subject,
    images: Pixels,
    *,
    gaps_ms: Sequence[float],
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[float, float]:
    """Median milliseconds of a call that follows a pause, by the length of the pause.

    A benchmark spins, an application waits for the next frame; caches cool and clocks fall
    meanwhile. The pauses are interleaved, so that a drift of the machine is no effect of them.
    """
    taken: dict[float, list[int]] = {gap: [] for gap in gaps_ms}
    call(images)
    for _ in range(GAP_CALLS):
        for gap_ms in gaps_ms:
            if gap_ms:
                sleep(gap_ms / 1000)
            else:
                call(images)  # no pause is after a call, not after the longest pause
            begun_ns = clock()
            call(images)
            taken[gap_ms].append(clock() - begun_ns)
    return {gap: float(np.median(times)) / 1e6 for gap, times in taken.items()}


def on_device(
    engine: DeviceTimed, images: Pixels, *, plan: Plan, clock: Clock = time.perf_counter_ns
) -> Samples:
    """What the device says of each call, in milliseconds, for as long as one window.

    Asked apart from ``measure``, whose calls pay for no event, and after it, when all is warm.
    """
    samples: list[float] = []
    end_ns = clock() + round(plan.window_s * 1e9)
    while clock() < end_ns or len(samples) < MIN_CALLS:
        samples.append(engine.device_ms(images))
    return np.array(samples, np.float64)


def environment() -> dict[str, Json]:
    """What the numbers depend on besides the engine; null where the system does not tell."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        **provenance.device(),
        "affinity": [int(core) for core in cores] if cores is not None else None,
        "governor": governor.read_text().strip() if governor.is_file() else None,
        "load_average": load_average(),
        "clock_resolution_ns": round(time.get_clock_info("perf_counter").resolution * 1e9),
    }


def load_average() -> float | None:
    """Processes that wanted a core, on average over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


@dataclass(frozen=True)
class _Warm:
    calls: int
    settled: bool


def _warm_up(call: Subject, images: Pixels, *, plan: Plan, clock: Clock) -> _Warm:
    """Calls until the block median stops moving, or ``plan.warmup_s`` has passed."""
    end_ns = clock() + round(plan.warmup_s * 1e9)
    calls, quiet, last_ms = 0, 0, np.inf
    while clock() < end_ns:
        block = np.empty(MIN_CALLS)
        for index in range(MIN_CALLS):
            begun_ns = clock()
            call(images)
            block[index] = (clock() - begun_ns) / 1e6
        calls += MIN_CALLS
        median_ms = float(np.median(block))
        quiet = quiet + 1 if abs(median_ms - last_ms) <= SETTLED_WITHIN * median_ms else 0
        last_ms = median_ms
        if quiet == SETTLED_BLOCKS:
            return _Warm(calls, settled=True)
    return _Warm(calls, settled=False)


def _window(call: Subject, images: Pixels, *, plan: Plan, clock: Clock) -> Samples:
    """Durations in milliseconds of the calls of one window; at least ``MIN_CALLS``."""
    samples_ns: list[int] = []
    end_ns = clock() + round(plan.window_s * 1e9)
    while True:
        begun_ns = clock()
        call(images)
        done_ns = clock()
        samples_ns.append(done_ns - begun_ns)
        if done_ns >= end_ns and len(samples_ns) >= MIN_CALLS:
            return np.array(samples_ns, np.float64) / 1e6


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collector would land in some samples and not in others."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
