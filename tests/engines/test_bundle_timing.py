"""What a device does of a bundle beside its replays: it times, pauses, and goes on where it can."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import packed
from qadtr_edge import runs, search
from qadtr_edge.devices import bundle as bundles
from qadtr_edge.devices import power, worker
from qadtr_edge.devices.bundle import Clock, Job, read
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.results import Store
from qadtr_edge.types import Json

pytestmark = pytest.mark.needs("ort")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    return packed.run(tmp_path_factory.mktemp("timing"))


def timed(run: runs.Run, folder: Path, clock: Clock) -> dict[str, Json]:
    """``bench.json`` of a bundle of two engines that are only timed."""
    jobs = [Job("ort", bits, ()) for bits in packed.WIDTHS]
    file = folder / "b.pyz"
    bundles.write(file, jobs, run=run, data=packed.data(run), classes=10, clock=clock)
    assert asdict(read(file).clock) == asdict(clock)
    worker.run(read(file), folder / "out", threads=1)
    found: dict[str, Json] = json.loads((folder / "out" / "bench.json").read_text())
    return found


def test_unasked_there_is_neither_energy_nor_a_pause(
    run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "meter", lambda: pytest.fail("a meter was looked for"))
    told = timed(run, tmp_path, packed.CLOCK)
    assert told["energy"] == {"available": False, "source": "Not asked for: --energy."}
    assert told["after_gaps_p50_ms"] == {}
    assert {row["energy"] for row in told["results"]} == {None}  # type: ignore[union-attr,index,call-overload]


def test_pauses_and_energy_are_measured_of_every_engine(
    run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Steady:
        name = "5 W always"

        def joules(self) -> float:
            return 5.0 * time.monotonic()

        def close(self) -> None: ...

    @contextmanager
    def steady() -> Iterator[power.Meter]:
        yield Steady()

    monkeypatch.setattr(power, "meter", steady)
    monkeypatch.setattr("qadtr_edge.devices.energy.WINDOW_S", 0.02)
    monkeypatch.setattr("qadtr_edge.devices.energy.SETTLE_S", 0.01)
    told = timed(run, tmp_path, replace(packed.CLOCK, gaps_ms=(0, 2), with_energy=True))
    assert told["energy"] == {"available": True, "source": "5 W always"}
    gaps = told["after_gaps_p50_ms"]
    assert set(gaps) == {"ort-w8a8", "ort-w4a4"}  # type: ignore[arg-type]
    assert all(set(each) == {"0", "2"} and min(each.values()) > 0 for each in gaps.values())  # type: ignore[union-attr]
    rows = told["results"]
    assert len(rows) == 4  # type: ignore[arg-type]
    for row in rows:  # type: ignore[union-attr]
        assert row["energy"]["busy_w"] == pytest.approx(5.0, rel=0.05)  # type: ignore[index,call-overload]


def test_energy_that_no_sensor_tells_is_said_loudly(
    run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    @contextmanager
    def none() -> Iterator[power.Meter]:
        raise Unsupported("There is no sensor.", "Use a meter.")
        yield

    monkeypatch.setattr(power, "meter", none)
    told = timed(run, tmp_path, replace(packed.CLOCK, with_energy=True))
    assert told["energy"] == {"available": False, "source": "There is no sensor. Use a meter."}
    assert "Energy: NOT AVAILABLE. There is no sensor." in capsys.readouterr().err


@pytest.mark.parametrize("locked", [True, False, None])
def test_clocks_that_may_move_are_told_of(
    locked: bool | None, run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(worker, "state", lambda: {"clocks_locked": locked})
    timed(run, tmp_path, packed.CLOCK)
    said = {True: None, False: "The clocks are not locked", None: "The clocks cannot be read"}
    err = capsys.readouterr().err
    assert ("The clocks" in err) is (locked is not True)
    assert said[locked] is None or str(said[locked]) in err


def test_an_engine_that_cannot_be_attacked_ends_its_own_part_alone(
    run: runs.Run, tmp_path: Path
) -> None:
    """A patch that pushes to the class all images have can win none; the other engine goes on."""
    shown = packed.data(run)
    only = int(np.bincount(shown.labels).argmax())
    shown = search.only(shown, np.flatnonzero(shown.labels == only))
    (unit, *_) = packed.units(shown)
    hopeless = replace(unit, patch=replace(unit.patch, target=only))
    jobs = [Job("ort", 4, (hopeless, unit)), Job("ort", 8, (unit,))]
    file, out = tmp_path / "b.pyz", tmp_path / "out"
    bundles.write(file, jobs, run=run, data=shown, classes=10, clock=packed.CLOCK)
    with pytest.raises(BadInput, match="at 4 bits is right on none"):
        worker.run(read(file), out, threads=1)
    assert [row.bits for row in Store(out / "results.jsonl", out / "labels").rows()] == [8]
    assert {row["bits"] for row in json.loads((out / "bench.json").read_text())["results"]} == {
        4,
        8,
    }
