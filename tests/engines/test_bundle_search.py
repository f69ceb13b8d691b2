"""What was found for single images travels in a bundle; what is to be searched is found there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lean
import packed
from qadtr_edge import replay, runs, search
from qadtr_edge.devices import bundle as bundles
from qadtr_edge.devices import merge
from qadtr_edge.devices.bundle import Job, read
from qadtr_edge.devices.bundle_search import Sought
from qadtr_edge.engines import open_engine
from qadtr_edge.patch import bank
from qadtr_edge.patch.placement import Policy
from qadtr_edge.results import Store
from qadtr_edge.types import Pixels, PlacedPatches, Placements

pytestmark = pytest.mark.needs("ort")

SIZE = [3, 4]
SEARCHES = (
    Sought("patch_rs", {"patch_px": [*SIZE], "queries": 60}, seed=1, pooled=False),
    Sought("label_search", {"patch_px": [*SIZE], "queries": 40, "target": 2}, seed=0, pooled=True),
    Sought("mpa", {"patch_px": [*SIZE], "queries": 40}, seed=0, pooled=False),
)
POOL: Pixels = np.random.default_rng(9).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def placed(ids: np.ndarray, *, shared: bool, seed: int) -> replay.Unit:
    """A patch and place for each image, in another order than the images are in."""
    chance = np.random.default_rng(seed)
    order = np.sort(ids)
    shape = (3, 3, 4) if shared else (len(ids), 3, 3, 4)
    corner = chance.integers(0, 4, (2, len(ids))).astype(np.float64)
    patch = PlacedPatches(
        ids=order,
        pixels=chance.integers(0, 256, shape, dtype=np.uint8),
        mask=np.ones((3, 4), bool),
        placements=Placements(*corner, degrees=np.zeros(len(ids)), scale=np.ones(len(ids))),
        target=None,
        queries=chance.integers(1, 90, len(ids)) if shared else None,
        origin={"attack": "pgd", "seed": seed},
    )
    said = replay.Attacked("pgd", "simulation", "twin-w8a8", "T3", "T-C")
    return replay.Unit(said, patch, Policy("own"), seed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, Path]:
    home = tmp_path_factory.mktemp("search")
    run = packed.run(home / "runs")
    data = packed.data(run)
    units = tuple(placed(data.ids, shared=shared, seed=seed)
                  for seed, shared in enumerate([False, True]))  # fmt: skip
    bundles.write(home / "b.pyz", [Job("ort", 8, units, SEARCHES)], run=run, data=data, classes=10,
                  clock=packed.CLOCK, pool=POOL)  # fmt: skip
    return run, home / "b.pyz"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lean.interpreter(tmp_path_factory.mktemp("lean"), "numpy", "onnxruntime")


def test_placed_patches_travel_as_they_are(made: tuple[runs.Run, Path]) -> None:
    run, file = made
    ids = packed.data(run).ids
    (job,) = read(file).jobs
    for seed, (shared, unit) in enumerate(zip([False, True], job.units, strict=True)):
        before = placed(ids, shared=shared, seed=seed)
        assert isinstance(unit.patch, PlacedPatches)
        assert bank.digest(unit.patch) == bank.digest(before.patch)
        assert (unit.patch.queries is None) is not shared
        assert (unit.attacked, unit.policy, unit.seed, unit.places) == (
            before.attacked, before.policy, before.seed, None
        )  # fmt: skip
        assert (unit.patch.target, unit.patch.origin) == (None, before.patch.origin)


def test_a_lean_python_replays_and_finds_what_is_found_here(
    made: tuple[runs.Run, Path], python: Path, tmp_path: Path
) -> None:
    run, file = made
    out = runs.Run(tmp_path / "out")
    done = lean.call(python, file, "run", "--out", out.folder)
    assert done.returncode == 0, done.stderr
    assert "Searching ort w8a8 by patch_rs: 100 %" in done.stderr
    data = packed.data(run)
    here = []
    with open_engine(run, "ort", bits=8) as engine:
        facts = engine.facts
        subject = replay.Subject(engine, replay.engine_digest(facts), data)
        units = [placed(data.ids, shared=shared, seed=n) for n, shared in enumerate([False, True])]
        units += [
            search.unit(sought.built(POOL), subject, victim="ort-w8a8", folder=tmp_path / "here",
                        seed=sought.seed, told=lambda count, note: None)
            for sought in SEARCHES
        ]  # fmt: skip
        here = [replay.replay(unit, facts, subject=subject) for unit in units]
    there = Store(out.results, out.labels)
    assert list(there.rows()) == [row for row, _ in here]
    assert [row.attack for row, _ in here] == ["pgd", "pgd", "patch_rs", "label_search", "mpa"]
    assert here[1][0].queries_median is not None
    assert any(row.counts.fooled for row, _ in here[2:])
    for row, outcomes in here:
        assert (there.outcomes(row.key).patched.labels == outcomes.patched.labels).all()

    lines = out.results.read_bytes()
    status = json.loads(lean.call(python, file, "status", "--out", out.folder).stdout)
    assert (status["state"], status["done"], status["units"]) == ("done", 5, 5)
    again = lean.call(python, file, "run", "--out", out.folder)
    assert again.returncode == 0
    assert out.results.read_bytes() == lines

    # What comes home: rows under keys of their own, and the patches that were found there.
    tar = subprocess.run([python, file, "send", "--out", out.folder], capture_output=True,
                         check=True).stdout  # fmt: skip
    assert merge.keep(run, "board", tar=tar) == 5
    assert merge.merge(run, "board") == 5
    assert merge.merge(run, "board") == 0
    home = Store(run.results, run.labels).rows()
    assert {row.engine for row in home} == {"ort@board"}
    found = {bank.digest(search.placed.load(path)) for path in run.patches.glob("*.npz")}
    assert found == {row.patch_digest for row, _ in here[2:]}


def test_a_killed_search_goes_on_and_ends_the_same(
    made: tuple[runs.Run, Path], python: Path, tmp_path: Path
) -> None:
    run, _ = made
    data = packed.data(run)
    file = tmp_path / "long.pyz"
    long = tuple(replace(SEARCHES[0], seed=seed) for seed in range(12))
    bundles.write(file, [Job("ort", 8, (), long)], run=run, data=data, classes=10,
                  clock=packed.CLOCK)  # fmt: skip
    slow = lean.interpreter(tmp_path / "slow", "numpy", "onnxruntime", site=lean.SLOW_DISK)
    out = tmp_path / "killed"
    status = json.loads(lean.call(slow, file, "start", "--out", out).stdout)
    while status["done"] < 2:
        assert status["state"] == "running", status
        status = json.loads(lean.call(slow, file, "status", "--out", out).stdout)
    os.kill(json.loads((out / "outcome.json").read_text())["pid"], signal.SIGKILL)
    while status["state"] == "running":
        status = json.loads(lean.call(slow, file, "status", "--out", out).stdout)
    assert status["state"] == "stopped"
    assert 2 <= status["done"] < status["units"] == 12
    for folder in (out, tmp_path / "whole"):
        assert lean.call(python, file, "run", "--out", folder).returncode == 0
    assert (out / "results.jsonl").read_bytes() == (tmp_path / "whole/results.jsonl").read_bytes()
