"""``bench`` on a real engine, at tiny size: its contract and its gate, never a speed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

import handmade
from qadtr_edge import files, registry, runs, timing
from qadtr_edge.cli import bench_subjects
from qadtr_edge.cli.bench import bench
from qadtr_edge.devices import power
from qadtr_edge.errors import BadInput, EngineFailed, UnknownName, Unsupported
from qadtr_edge.integer import graph_file
from qadtr_edge.types import Engine

pytestmark = pytest.mark.needs("ort")

CONTRACT = {
    "engine", "bits", "batch", "p50_ms", "p90_ms", "p99_ms", "images_per_s", "cov", "stable"
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    """A run with two widths of a small network, and a plan that is over in milliseconds."""
    short = timing.Plan("quick", windows=2, window_s=0.001, warmup_s=0.001)
    monkeypatch.setattr(timing, "QUICK", short)
    made = runs.new_run(tmp_path)
    build = registry.resolve("builder", "ort")
    assert callable(build)
    for bits in (8, 4):
        graph = handmade.residual(bits=bits)
        graph_file.save(graph, made.graph(bits))
        build(graph, made.engine("ort", bits))
    return made


def test_the_answer_keeps_its_names_and_the_file_keeps_the_samples(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(run=run.folder, batch="1,3", json=True)
    answer = json.loads(capsys.readouterr().out)
    assert [(row["bits"], row["batch"]) for row in answer["results"]] == [
        (8, 1), (4, 1), (8, 3), (4, 3),
    ]  # fmt: skip
    assert all(set(row) >= CONTRACT for row in answer["results"])
    assert set(answer["loop_cost_p50_ms"]) == {"1", "3"}
    assert "windows_us" not in answer["results"][0]
    kept = json.loads(run.bench.read_text())["results"]
    assert [len(row["windows_us"]) for row in kept] == [2] * 4
    assert sum(map(len, kept[0]["windows_us"])) == kept[0]["calls"]
    artefact = run.engine("ort", 8) / "model.onnx"
    assert kept[0]["engine_digest"] == files.digest(artefact)
    assert "bench" in json.loads(run.manifest.read_text())["stages"]


def test_without_a_float_model_no_ratio_is_invented(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(run=run.folder, batch="1")
    assert json.loads(run.bench.read_text())["results"][0]["speedup_vs_fp32"] is None
    assert "not run" in capsys.readouterr().out


def test_a_p99_above_the_limit_exits_1(run: runs.Run) -> None:
    with pytest.raises(typer.Exit) as caught:
        bench(run=run.folder, batch="1", max_p99_ms=1e-9)
    assert caught.value.exit_code == 1
    bench(run=run.folder, batch="1", max_p99_ms=1e9)


@pytest.mark.parametrize("batch", ["0", "", "one", "1;2", "-1", "8,65537", "9" * 5000])
def test_a_strange_batch_is_refused(run: runs.Run, batch: str) -> None:
    with pytest.raises(BadInput, match="--batch"):
        bench(run=run.folder, batch=batch)


def test_a_width_that_was_not_exported_is_answered_with_the_command(run: runs.Run) -> None:
    with pytest.raises(BadInput, match="qadtr-edge export"):
        bench(run=run.folder, bits="2")


def test_a_run_without_engines_is_answered_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="qadtr-edge export"):
        bench(run=runs.new_run(tmp_path).folder)


def test_pauses_are_timed_for_every_engine(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(run=run.folder, batch="1", gaps="0,2")
    assert "One image after a pause" in capsys.readouterr().out
    kept = json.loads(run.bench.read_text())["after_gaps_p50_ms"]
    assert len(kept) == 2
    assert all(set(each) == {"0", "2"} and min(each.values()) > 0 for each in kept.values())


def test_energy_that_no_source_tells_is_said_loudly(
    run: runs.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def none() -> Iterator[power.Meter]:
        raise Unsupported("There is no sensor.", "Use a meter.")
        yield

    monkeypatch.setattr(power, "meter", none)
    bench(run=run.folder, batch="1", with_energy=True)
    assert "Energy: NOT AVAILABLE. There is no sensor. Use a meter." in capsys.readouterr().err
    kept = json.loads(run.bench.read_text())
    assert kept["energy"]["available"] is False
    assert kept["results"][0]["energy"] is None


def test_energy_of_a_source_stands_beside_the_latency(
    run: runs.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Steady:
        name = "7 W always"

        def joules(self) -> float:
            return 7.0 * time.monotonic()

        def close(self) -> None: ...

    @contextmanager
    def steady() -> Iterator[power.Meter]:
        yield Steady()

    monkeypatch.setattr(power, "meter", steady)
    monkeypatch.setattr("qadtr_edge.devices.energy.WINDOW_S", 0.05)
    monkeypatch.setattr("qadtr_edge.devices.energy.SETTLE_S", 0.01)
    bench(run=run.folder, bits="8", batch="1", with_energy=True, json=True)
    answer = json.loads(capsys.readouterr().out)
    told = answer["results"][0]["energy"]
    assert told["source"] == "7 W always"
    assert told["busy_w"] == pytest.approx(7.0, rel=0.01)
    assert told["mj_per_image_above_idle"] == pytest.approx(0.0, abs=0.05 * told["mj_per_image"])


@pytest.mark.needs("loadgen")
def test_loadgen_drives_the_engine(run: runs.Run, capsys: pytest.CaptureFixture[str]) -> None:
    bench(run=run.folder, bits="8", batch="4", scenario="SingleStream,Offline", json=True)
    rows = json.loads(capsys.readouterr().out)["loadgen"]
    assert [row["scenario"] for row in rows] == ["SingleStream", "Offline"]
    assert all(row["p99_ms"] >= row["p50_ms"] > 0 for row in rows)


def test_a_scenario_that_is_none_is_refused(run: runs.Run) -> None:
    with pytest.raises(UnknownName, match="SingleStream"):
        bench(run=run.folder, scenario="single")
    with pytest.raises(BadInput, match="--scenario names none"):
        bench(run=run.folder, scenario=",")


@pytest.mark.parametrize("scenario", [None, "Offline"])
def test_arrivals_that_nothing_waits_for_are_refused(run: runs.Run, scenario: str | None) -> None:
    with pytest.raises(BadInput, match="--arrivals is an option of scenario Server"):
        bench(run=run.folder, scenario=scenario, arrivals=5.0)


def test_pauses_of_no_length_are_refused(run: runs.Run) -> None:
    with pytest.raises(BadInput, match="--gaps '' is not a list"):
        bench(run=run.folder, gaps="")


def test_an_engine_that_was_built_for_elsewhere_is_left_out_and_said(
    run: runs.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = bench_subjects.open_engine

    def opened(run: runs.Run, name: str, *, bits: int, threads: int) -> Engine:
        if name == "elsewhere":
            raise EngineFailed("It was built, and cannot run here.", "Run it there.")
        return usual(run, name, bits=bits, threads=threads)

    chosen = [("ort", 8), ("elsewhere", 8)]
    monkeypatch.setattr(bench_subjects.options, "subjects", lambda *_, **__: chosen)
    monkeypatch.setattr(bench_subjects, "open_engine", opened)
    bench(run=run.folder, batch="1", json=True)
    told = capsys.readouterr()
    assert "elsewhere w8a8: not run. It was built, and cannot run here." in told.err
    assert [row["engine"] for row in json.loads(told.out)["results"]] == ["ort"]
    with pytest.raises(EngineFailed):
        bench(run=run.folder, engine="elsewhere", batch="1")


def test_a_file_that_ships_is_timed_as_it_is(
    run: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run.engine("ort", 8) / "model.qdq.onnx"
    before = file.read_bytes()
    bench(artefact=file, runs=tmp_path / "kept", batch="2", json=True)
    row = json.loads(capsys.readouterr().out)["results"][0]
    assert row["engine_digest"] == files.digest(file)
    assert file.read_bytes() == before
    kept = list((tmp_path / "kept").glob("artefact-*/bench.json"))
    assert len(kept) == 1
    with pytest.raises(BadInput, match="--bits chooses among what a run holds"):
        bench(artefact=file, bits="8")
