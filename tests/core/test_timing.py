"""The latency protocol, on a clock that the subjects themselves push: nothing here waits."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge import timing
from qadtr_edge.timing import Plan, Timing
from qadtr_edge.types import Pixels

IMAGES = np.zeros((4, 3, 8, 8), np.uint8)
PLAN = Plan("test", windows=5, window_s=0.05, warmup_s=1.0)


class World:
    """A clock that stands still unless a subject works."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.order: list[str] = []

    def clock(self) -> int:
        return self.now_ns

    def subject(self, name: str, *durations_ms: float) -> timing.Subject:
        """Takes the durations in turn, the last one for ever."""
        left = list(durations_ms)

        def call(images: Pixels) -> np.ndarray:
            self.order.append(name)
            self.now_ns += round(1e6 * (left.pop(0) if len(left) > 1 else left[0]))
            return np.zeros((len(images), 10), np.float32)

        return call


def test_constant_work_is_measured_exactly() -> None:
    world = World()
    found = timing.measure({"a": world.subject("a", 2.0)}, IMAGES, plan=PLAN, clock=world.clock)
    summary = found["a"].summary()
    assert summary["p50_ms"] == summary["p99_ms"] == 2.0
    assert summary["images_per_s"] == 4 / 0.002
    assert summary["cov"] == 0.0
    assert summary["stable"] is True
    assert [len(window) for window in found["a"].windows_ms] == [25] * 5


def test_slow_first_calls_are_warm_up() -> None:
    world = World()
    cold = world.subject("a", *np.linspace(50, 1, 30), 1.0)
    plan = Plan("test", windows=2, window_s=0.05, warmup_s=60.0)
    found = timing.measure({"a": cold}, IMAGES, plan=plan, clock=world.clock)
    assert found["a"].warmup_calls >= 30
    assert found["a"].percentile_ms(100) == 1.0


def test_a_subject_that_never_settles_is_not_stable() -> None:
    world = World()
    jumpy = world.subject("a", *([1.0] * 10 + [3.0] * 10) * 1000, 1.0)
    found = timing.measure({"a": jumpy}, IMAGES, plan=PLAN, clock=world.clock)["a"]
    assert not found.settled
    assert not found.stable
    assert "the warm-up ended before the median settled" in found.unstable_because


def test_windows_are_interleaved_and_the_order_rotates() -> None:
    world = World()
    subjects = {name: world.subject(name, 1.0) for name in "abc"}
    plan = Plan("test", windows=4, window_s=0.01, warmup_s=0.0)
    ends: list[int] = []
    timing.measure(
        subjects,
        IMAGES,
        plan=plan,
        clock=world.clock,
        on_window=lambda: ends.append(len(world.order)),
    )
    assert [world.order[end - 1] for end in ends] == list("abcbcacababc")


def test_speedup_is_taken_window_by_window() -> None:
    """Both slow down together in one window: the ratio does not move."""
    fast = Timing(1, tuple(np.array([m]) for m in (1.0, 1.0, 5.0)), 0, settled=True)
    slow = Timing(1, tuple(np.array([m]) for m in (2.0, 2.0, 10.0)), 0, settled=True)
    assert timing.speedup(slow, fast) == 2.0


def test_drift_between_windows_is_not_stable() -> None:
    steady = Timing(1, (np.full(50, 1.0), np.full(50, 1.05)), 0, settled=True)
    drifting = Timing(1, (np.full(50, 1.0), np.full(50, 1.15)), 0, settled=True)
    assert steady.stable
    assert steady.unstable_because == ()
    assert drifting.unstable_because == ("window medians lie 14% apart",)
    assert drifting.cov < timing.MAX_COV
    assert not drifting.stable


def test_one_interrupted_call_in_a_thousand_is_told_by_the_maximum() -> None:
    calls = np.full(1000, 1.0)
    calls[500] = 100.0
    found = Timing(1, (calls, np.full(1000, 1.0)), 0, settled=True)
    assert found.stable
    assert found.summary()["max_ms"] == 100.0
    jitter = np.tile([1.0, 1.5], 500)
    told = Timing(1, (jitter, jitter), 0, settled=True).summary()
    assert told["stable"] is False
    assert told["unstable_because"] == [f"calls vary by {told['cov']:.0%} about their mean"]


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=200))
def test_percentiles_are_ordered_and_within_the_samples(samples: list[float]) -> None:
    found = Timing(1, (np.array(samples),), 0, settled=True)
    values = [found.percentile_ms(percent) for percent in (50, 90, 95, 99)]
    assert values == sorted(values)
    assert min(samples) <= values[0]
    assert values[-1] <= max(samples)


def test_the_collector_is_off_while_timing_and_back_on_after() -> None:
    world = World()
    states: set[bool] = set()
    inner = world.subject("a", 1.0)

    def call(images: Pixels) -> np.ndarray:
        states.add(gc.isenabled())
        return inner(images)

    plan = Plan("test", windows=2, window_s=0.01, warmup_s=0.0)
    timing.measure({"a": call}, IMAGES, plan=plan, clock=world.clock)
    assert states == {False}
    assert gc.isenabled()


def test_the_null_subject_answers_in_shape() -> None:
    assert timing.null_subject(7)(IMAGES).shape == (4, 7)


def test_the_environment_says_what_it_knows() -> None:
    found = timing.environment()
    assert found["cores"] == len(found["affinity"] or [])
    assert found["governor"] is None or isinstance(found["governor"], str)


def test_a_pause_is_before_the_call_it_is_named_for() -> None:
    world = World()
    paused_ms: list[float] = []
    left = [0.0]

    def cooling(images: Pixels) -> np.ndarray:
        world.now_ns += round(1e6 * (1.0 + left[0] / 10))  # slower the longer it was left alone
        left[0] = 0.0
        return np.zeros((len(images), 10), np.float32)

    def sleep(seconds: float) -> None:
        left[0] = 1000 * seconds
        paused_ms.append(1000 * seconds)

    found = timing.after_gaps(cooling, IMAGES, gaps_ms=[0, 10, 100], clock=world.clock, sleep=sleep)
    assert found == {0: 1.0, 10: 2.0, 100: 11.0}
    assert paused_ms[:3] == [10, 100, 10], "the pauses take turns"
