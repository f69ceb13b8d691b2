"""A bundle: equal bytes for equal contents, refused when touched, and run where little is there."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lean
import packed
from qadtr_edge import replay, runs
from qadtr_edge.devices import bundle as bundles
from qadtr_edge.devices.bundle import PLAN, Job, read
from qadtr_edge.errors import BadInput
from qadtr_edge.files import digest
from qadtr_edge.results import Store

pytestmark = pytest.mark.needs("ort")

ABSENT = ("torch", "onnx", "typer", "rich", "scipy", "PIL", "safetensors")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, Path]:
    """A run and its bundle."""
    home = tmp_path_factory.mktemp("bundle")
    run = packed.run(home / "runs")
    packed.bundle(home / "b.pyz", run)
    return run, home / "b.pyz"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lean.interpreter(tmp_path_factory.mktemp("lean"), "numpy", "onnxruntime")


def test_the_interpreter_has_little(python: Path) -> None:
    code = f"from importlib.util import find_spec; print(*filter(find_spec, {ABSENT!r}))"
    assert lean.call(python, "-c", code).stdout.split() == []
    assert lean.call(python, "-c", "import numpy, onnxruntime").returncode == 0


def test_a_lean_python_writes_the_rows_that_replay_gives_here(
    made: tuple[runs.Run, Path], python: Path, tmp_path: Path
) -> None:
    run, file = made
    done = lean.call(python, file, "run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    out = runs.Run(tmp_path / "out")
    store = Store(out.results, out.labels)
    found = store.rows()
    here = packed.replayed(run)
    assert list(found) == [row for row, _ in here]
    assert len({row.key for row in found}) == 8
    for row, outcomes in here:
        kept = store.outcomes(row.key)
        assert (kept.patched.labels == outcomes.patched.labels).all()
        assert (kept.patched.margins == outcomes.patched.margins).all()

    bench = json.loads(out.bench.read_text())
    artefacts = {bits: digest(run.engine("ort", bits) / "model.onnx") for bits in packed.WIDTHS}
    assert [(row["bits"], row["batch"]) for row in bench["results"]] == [
        (8, 1), (4, 1), (8, 3), (4, 3),
    ]  # fmt: skip
    assert all(row["engine_digest"] == artefacts[row["bits"]] for row in bench["results"])
    assert {row.engine_digest for row in found} == set(artefacts.values())
    device = json.loads((out.folder / "device.json").read_text())
    assert [each["precision"] for each in device["engines"]] == ["integer", "integer"]

    before = {path: path.read_bytes() for path in (out.results, out.bench)}
    assert lean.call(python, file, "run", "--out", out.folder).returncode == 0
    assert {path: path.read_bytes() for path in before} == before


def test_killed_it_goes_on_and_ends_the_same(
    made: tuple[runs.Run, Path], tmp_path: Path, python: Path
) -> None:
    run, _ = made
    file = tmp_path / "long.pyz"
    packed.bundle(file, run, patches=12)
    slow = lean.interpreter(tmp_path / "slow", "numpy", "onnxruntime", site=lean.SLOW_DISK)
    out = tmp_path / "killed"
    status = json.loads(lean.call(slow, file, "start", "--out", out).stdout)
    assert status["state"] == "running"
    again = lean.call(slow, file, "run", "--out", out)
    assert again.returncode == 2
    assert "Another process" in again.stderr
    while status["done"] < 3:
        status = json.loads(lean.call(slow, file, "status", "--out", out).stdout)
        assert status["state"] == "running"
    os.kill(json.loads((out / "outcome.json").read_text())["pid"], signal.SIGKILL)
    while status["state"] == "running":
        status = json.loads(lean.call(slow, file, "status", "--out", out).stdout)
    assert status["state"] == "stopped"
    assert 3 <= status["done"] < status["units"] == 28
    assert lean.call(slow, file, "run", "--out", out).returncode == 0
    assert json.loads(lean.call(slow, file, "status", "--out", out).stdout)["state"] == "done"
    assert lean.call(python, file, "run", "--out", tmp_path / "whole").returncode == 0
    assert (out / "results.jsonl").read_bytes() == (tmp_path / "whole/results.jsonl").read_bytes()


def test_equal_contents_are_equal_bytes(made: tuple[runs.Run, Path], tmp_path: Path) -> None:
    """No part holds a time, neither of its own nor inside."""
    for name in ("a.pyz", "b.pyz"):
        packed.bundle(tmp_path / name, made[0])
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pyz") as archive:
        times = {entry.date_time for entry in archive.infolist()}
        for name in archive.namelist():
            if name.endswith(".npz"):
                with zipfile.ZipFile(io.BytesIO(archive.read(name))) as inner:
                    times |= {entry.date_time for entry in inner.infolist()}
    assert times == {bundles.EPOCH}


@pytest.mark.parametrize("part", ["bundle/engines/ort-w8a8/model.onnx", "qadtr_edge/replay.py"])
def test_a_changed_part_is_refused(made: tuple[runs.Run, Path], tmp_path: Path, part: str) -> None:
    changed = tmp_path / "b.pyz"
    _rewrite(made[1], changed, part, lambda content: content + b"\n")
    with pytest.raises(BadInput, match=f"{part} is not what was packed"):
        read(changed)


def test_a_part_more_and_a_torn_file_are_refused(
    made: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    more = shutil.copy(made[1], tmp_path / "more.pyz")
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("qadtr_edge/extra.py", b"")
    with pytest.raises(BadInput, match="extra"):
        read(more)
    torn = tmp_path / "torn.pyz"
    torn.write_bytes(made[1].read_bytes()[:-2000])
    with pytest.raises(BadInput, match="no whole bundle"):
        read(torn)


def test_a_machine_that_pastes_otherwise_is_told_so(
    made: tuple[runs.Run, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paste = replay.paste

    def off_by_one(images, pixels, *, mask, placements):  # type: ignore[no-untyped-def]
        shown = paste(images, pixels, mask=mask, placements=placements)
        shown[0, 0, 0, 0] ^= 1
        return shown

    monkeypatch.setattr(replay, "paste", off_by_one)
    with pytest.raises(BadInput, match="pastes unit"):
        read(made[1])


def test_a_unit_under_another_name_is_refused(made: tuple[runs.Run, Path], tmp_path: Path) -> None:
    changed = tmp_path / "b.pyz"

    def reseeded(content: bytes) -> bytes:
        plan = json.loads(content)
        next(iter(plan["units"].values()))["seed"] += 1
        return json.dumps(plan).encode()

    _rewrite(made[1], changed, PLAN, reseeded)
    with pytest.raises(BadInput, match="is not the unit its name stands for"):
        read(changed)


def test_what_is_missing_is_said(made: tuple[runs.Run, Path], tmp_path: Path) -> None:
    bare = lean.interpreter(tmp_path / "bare")
    done = lean.call(bare, made[1], "run", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "NumPy is not installed" in done.stderr
    alone = lean.interpreter(tmp_path / "alone", "numpy")
    done = lean.call(alone, made[1], "run", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "needs the package onnxruntime" in done.stderr
    assert "-m pip install onnxruntime" in done.stderr
    status = json.loads(lean.call(alone, made[1], "status", "--out", tmp_path / "out").stdout)
    assert status["state"] == "failed"
    assert "onnxruntime" in status["fact"]
    done = lean.call(alone, made[1], "run", "--out", tmp_path / "none", "--threads", "0")
    assert done.returncode == 2
    assert "--threads: 0 is less than 1" in done.stderr
    assert not (tmp_path / "none").exists()


def test_an_engine_of_tensorrt_travels_as_the_file_it_is_built_from(
    made: tuple[runs.Run, Path], tmp_path: Path, python: Path
) -> None:
    run = runs.new_run(tmp_path / "runs")
    folder = run.engine("trt", 8)
    folder.mkdir(parents=True)
    for name in ("model.onnx", "facts.json"):
        shutil.copy(made[0].engine("ort", 8) / name, folder / name)
    (folder / "model.engine").write_bytes(b"of another machine")
    data = packed.data(made[0])
    file = tmp_path / "trt.pyz"
    bundles.write(file, [Job("trt", 8, packed.units(data))], run=run, data=data, classes=10,
                  clock=packed.CLOCK)  # fmt: skip
    with zipfile.ZipFile(file) as archive:
        held = [name for name in archive.namelist() if name.startswith("bundle/engines")]
    assert held == ["bundle/engines/trt-w8a8/facts.json", "bundle/engines/trt-w8a8/model.onnx"]
    done = lean.call(python, file, "run", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "Building trt w8a8" in done.stderr
    assert "tensorrt" in done.stderr
    assert "Traceback" not in done.stderr


def test_places_travel_as_they_were_computed(made: tuple[runs.Run, Path]) -> None:
    held = read(made[1])
    for job in held.jobs:
        for unit in job.units:
            assert unit.places is not None
            fresh = replay.places_of(replay.Unit(unit.attacked, unit.patch, unit.policy, unit.seed),
                                     held.data)  # fmt: skip
            assert (fresh.top == unit.places.top).all()
            assert (fresh.degrees == unit.places.degrees).all()


@pytest.mark.slow
@pytest.mark.needs("torch")
def test_the_verb_packs_what_attack_replays(tmp_path: Path, python: Path) -> None:
    paired = ("gap", "pgd", "patch_rs")
    small = ("--bits", "8", "--images", "20", "--steps", "3", "--queries", "40",
             "--attack", ",".join(paired))  # fmt: skip

    def qadtr(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "qadtr_edge", *words], cwd=tmp_path, capture_output=True,
            text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stderr

    qadtr("export", "--engine", "ort", "--bits", "8")
    told = qadtr("bundle", *small, "--patch-size", "frame:2", "--out", "b.pyz", code=2)
    assert "this shape is 23%" in told
    assert "Crafting" not in told
    qadtr("attack", *small)
    qadtr("bundle", *small, "--batch", "1", "--out", "b.pyz")
    done = lean.call(python, tmp_path / "b.pyz", "run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs").iterdir()
    ours, theirs = runs.Run(folder), runs.Run(tmp_path / "out")
    here, there = Store(ours.results, ours.labels), Store(theirs.results, theirs.labels)
    attacked = {row.attack: row for row in here.rows()}
    found = {row.attack: row for row in there.rows()}
    assert set(found) == set(attacked) == {*paired, "grey", "noise", "crop", "shuffled"}
    for name, row in found.items():
        was = attacked[name]
        assert row.patch_digest == was.patch_digest
        assert (row.counts.fooled, row.counts.eligible) == (was.counts.fooled, was.counts.eligible)
        assert (
            there.outcomes(row.key).patched.labels == here.outcomes(was.key).patched.labels
        ).all()
        assert row.queries_median == was.queries_median
        if name not in paired:  # what was replayed without a simulation here is the very same unit
            assert row == was


def _rewrite(source: Path, target: Path, part: str, change) -> None:  # type: ignore[no-untyped-def]
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == part else content)


def test_the_digest_is_told_without_reading_the_rest(made: tuple[runs.Run, Path]) -> None:
    run, file = made
    assert bundles.digest_of(file) == (read(file).digest, run.name)
