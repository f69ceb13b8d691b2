"""A row of a measurement: what the host waits for beside what the device says it did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qadtr_edge import latency, timing
from qadtr_edge.cli import bench_answer
from qadtr_edge.latency import Row, Subject
from qadtr_edge.types import Pixels
from toy import Quadrants, pictures

PLAN = timing.Plan("test", windows=2, window_s=0.001, warmup_s=0.001)
IMAGES = pictures(4, split="test").images


class OnDevice(Quadrants):
    """An engine whose device says 1 ms, 2 ms, … of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = replace(self.facts, engine="device")
        self.asked = 0

    def device_ms(self, images: Pixels) -> float:
        assert len(images) == len(IMAGES)
        self.asked += 1
        return float(self.asked)


def timed() -> list[Row]:
    subjects = [Subject(engine, 1.0, None) for engine in (Quadrants(), OnDevice())]
    return latency.rows(subjects, IMAGES, plan=PLAN)  # type: ignore[arg-type]


def test_the_device_alone_stands_beside_host_to_host() -> None:
    host, device = timed()
    assert host.as_json(samples=True)["device_p50_ms"] is None
    assert host.as_json(samples=True)["device_p99_ms"] is None
    assert "device_us" not in host.as_json(samples=True)
    told = device.as_json(samples=True)
    assert device.device_ms is not None
    calls = len(device.device_ms)
    assert calls >= timing.MIN_CALLS
    assert told["device_us"] == [1000.0 * n for n in range(1, calls + 1)]
    assert told["device_p50_ms"] == np.median(np.arange(1, calls + 1))
    assert told["p50_ms"] != told["device_p50_ms"]
    assert "device_us" not in device.as_json(samples=False)


def test_the_device_is_asked_apart_and_for_one_window() -> None:
    """Host-to-host windows hold no call that pays for an event; the clock ends the asking."""
    now_ns = 0

    def clock() -> int:
        nonlocal now_ns
        now_ns += 10_000
        return now_ns

    engine = OnDevice()
    found = timing.on_device(engine, IMAGES, plan=PLAN, clock=clock)
    assert len(found) == 99  # 1 ms in steps of 10 µs, the first of which begins the window
    assert not engine.shown


def test_the_loop_itself_costs_less_than_ten_microseconds() -> None:
    """The median of calls that do nothing: a bound that ``bench`` prints beside every latency."""
    assert latency.loop_cost_ms(IMAGES, classes=4) < 0.010


@pytest.mark.parametrize("both", [True, False])
def test_the_table_says_where_host_and_device_are_one(
    both: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    host, device = timed()
    shown = [host, device] if both else [host]
    bench_answer.show(shown, PLAN, loop_ms={"4": 0.001}, threads=1, after_gaps={})
    out = capsys.readouterr().out
    assert ("device alone" in out) is both
    assert ("same as host" in out) is both
