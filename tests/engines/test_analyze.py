"""``analyze`` on real engines: they are shown the same bytes as the simulation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qadtr_edge import runs
from qadtr_edge.cli import app
from qadtr_edge.errors import BadInput
from qadtr_edge.models import checkpoint
from qadtr_edge.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The packaged model exported at 8 and 2 bits."""
    made = runs.open_run(None, tmp_path_factory.mktemp("analyze") / "runs")
    words = ["export", "--run", str(made.folder), "--bits", "8,2"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return made


def answer(run: Run, *words: str) -> dict[str, object]:
    common = ["--run", str(run.folder), "--steps", "2", "--images", "12", "--json"]
    asked = CliRunner().invoke(app, ["analyze", *words, *common])
    assert asked.exit_code == 0, asked.output
    document = json.loads(asked.stdout)
    assert isinstance(document, dict)
    return document


def test_the_map_of_an_engine_stands_beside_the_simulations(run: Run) -> None:
    found = answer(run, "spatial", "--stride", "13", "--bits", "8,2", "--engine", "ort")
    rows = found["results"]
    assert [(row["model"], row["bits"], row["shown"]) for row in rows] == [
        (model, bits, shown)
        for shown in ("patch", "noise") for bits in (8, 2) for model in ("simulation", "ort")
    ]  # fmt: skip
    for row in rows:
        assert row["precision"] == ("integer" if row["model"] == "ort" else "float")
        assert len(row["fooled"]) == len(row["fooled"][0]) == 3


def test_visibility_is_on_the_engine_where_there_is_one(run: Run) -> None:
    found = answer(run, "visibility", "--bits", "8,4")
    assert {(row["bits"], row["model"]) for row in found["results"]} == {
        (8, "ort"), (4, "simulation"),
    }  # fmt: skip
    assert any("simulation: 4 bits" in note for note in found["notes"])


def test_engine_and_judge_do_not_differ(run: Run) -> None:
    found = answer(run, "shift", "--bits", "8,2")
    pairs = {(row["bits"], *row["models"]): row for row in found["engine_shift"]}
    for bits in (8, 2):
        assert pairs[bits, "judge", "ort"]["logits"]["count"] == 0
        assert (bits, "simulation", "ort") in pairs
    assert (32, "simulation", "ort") in pairs


def test_a_named_engine_must_be_there_at_every_named_width(run: Run) -> None:
    words = ["analyze", "shift", "--run", str(run.folder), "--engine", "ort", "--bits", "8,4"]
    asked = CliRunner().invoke(app, words)
    assert isinstance(asked.exception, BadInput)
    assert "no ort engine at width 4" in asked.exception.fact


def test_engines_of_another_checkpoint_are_refused(run: Run, tmp_path: Path) -> None:
    import torch

    other = Run(tmp_path / "other")
    shutil.copytree(run.folder, other.folder)
    net, facts = checkpoint.load(other.checkpoint)
    with torch.no_grad():
        next(net.parameters()).mul_(1.01)
    checkpoint.save(net, other.checkpoint, facts=facts)
    asked = CliRunner().invoke(app, ["analyze", "spatial", "--run", str(other.folder)])
    assert isinstance(asked.exception, BadInput)
    assert "another checkpoint" in asked.exception.fact
