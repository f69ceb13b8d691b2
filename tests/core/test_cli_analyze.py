"""``analyze`` from end to end on the packaged model without an engine, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from qadtr_edge import runs
from qadtr_edge.analysis import ANALYSES
from qadtr_edge.cli import app
from qadtr_edge.errors import BadInput, QadtrError, UnknownName
from qadtr_edge.files import digest, read_json
from qadtr_edge.patch import bank
from qadtr_edge.runs import Run
from qadtr_edge.types import Patch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The packaged model, nothing exported, one patch."""
    made = runs.open_run(None, tmp_path_factory.mktemp("analyze") / "runs")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 6)).astype(np.uint8)
    bank.save(Patch(pixels, np.ones((6, 6), bool), None, {"attack": "gap"}),
              made.patches / "first.npz")  # fmt: skip
    return made


def answer(run: Run, *words: str) -> dict[str, object]:
    asked = CliRunner().invoke(app, ["analyze", *words, "--run", str(run.folder), "--json"])
    assert asked.exit_code == 0, asked.output
    document = json.loads(asked.stdout)
    assert isinstance(document, dict)
    return document


SMALL = {
    "gradients": ("--images", "12", "--bits", "32,2"),
    "spatial": ("--images", "8", "--bits", "8", "--stride", "13"),
    "visibility": ("--images", "8", "--bits", "8"),
    "shift": ("--images", "8", "--bits", "2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_prints_and_keeps_one_document_and_a_figure(run: Run, name: str) -> None:
    document = answer(run, name, *SMALL[name])
    kept = run.folder / "analysis" / f"{name}.json"
    assert read_json(kept) == document
    assert document["analysis"] == name
    assert document["n"] == int(SMALL[name][1])
    assert document["digests"]["checkpoint"] == digest(run.checkpoint)
    assert any("at least 500" in note for note in document["notes"])
    svg = kept.with_suffix(".svg").read_bytes()
    assert svg.startswith(b"<?xml")
    assert f"analyze {name}" in runs.read_manifest(run)["stages"]
    assert answer(run, name, *SMALL[name]) == document
    assert kept.with_suffix(".svg").read_bytes() == svg


@pytest.mark.slow
def test_the_table_is_the_answer_and_the_rest_the_story(run: Run) -> None:
    words = ["analyze", "shift", "--run", str(run.folder), *SMALL["shift"]]
    asked = CliRunner().invoke(app, words)
    assert "layer that adds most" in asked.stdout
    assert "Written" in asked.stderr
    assert "Note: Nothing is exported" in asked.stderr


@pytest.mark.slow
def test_without_a_patch_one_is_crafted_and_kept(tmp_path: Path) -> None:
    run = runs.open_run(None, tmp_path)
    words = ("visibility", "--images", "8", "--bits", "2", "--steps", "2")
    first = answer(run, *words)
    assert first["patch"]["source"] == "crafted"
    assert first["patch"]["victim"] == "simulation-w2a2"
    assert len(list(run.patches.glob("*.npz"))) == 1
    again = answer(run, *words[:-2])
    assert again["patch"]["source"] == "newest of the run"
    assert again["patch"]["digest"] == first["patch"]["digest"]


def refused(*words: str) -> QadtrError:
    asked = CliRunner().invoke(app, ["analyze", *words])
    assert isinstance(asked.exception, QadtrError), asked.exception
    return asked.exception


def test_an_unknown_analysis_is_answered_with_the_nearest() -> None:
    error = refused("gradient")
    assert isinstance(error, UnknownName)
    assert "'gradients'" in error.remedy


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    empty = runs.new_run(tmp_path)
    error = refused("shift", "--run", str(empty.folder))
    assert "no checkpoint" in error.fact
    assert "qadtr-edge train" in error.remedy


@pytest.mark.parametrize("name", ANALYSES)
def test_a_width_that_is_not_held(run: Run, name: str) -> None:
    error = refused(name, "--run", str(run.folder), "--bits", "32,6")
    assert "not 6" in error.fact


@pytest.mark.parametrize("name", ANALYSES)
def test_a_patch_larger_than_the_image(run: Run, tmp_path: Path, name: str) -> None:
    large = Patch(np.zeros((3, 40, 40), np.uint8), np.ones((40, 40), bool), None)
    bank.save(large, tmp_path / "large.npz")
    error = refused(name, "--run", str(run.folder), "--patch", str(tmp_path / "large.npz"))
    assert "40x40 patch is larger than a 32x32 image" in error.fact


@pytest.mark.parametrize(
    "words",
    [
        ("gradients", "--engine", "ort"),
        ("shift", "--stride", "3"),
        ("spatial", "--patch", "p.png", "--steps", "3"),
        ("spatial", "--patch", "p.png", "--patch-size", "6"),
    ],
)
def test_options_without_a_use_are_refused(words: tuple[str, ...]) -> None:
    assert isinstance(refused(*words), BadInput)


def test_an_engine_that_is_not_there_is_answered_with_the_command(run: Run) -> None:
    error = refused("spatial", "--run", str(run.folder), "--engine", "ort", "--images", "4")
    assert "qadtr-edge export" in error.remedy
