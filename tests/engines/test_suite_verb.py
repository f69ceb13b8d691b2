"""``attack --suite`` on onnxruntime with the packaged model, end to end, at a budget for tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import qadtr_edge as qe
from qadtr_edge.cli import app
from qadtr_edge.errors import BadInput
from qadtr_edge.suite import CONTROL_PLACES, SUITES, Line
from qadtr_edge.verdict import probes

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

SMALL = {"steps": 2, "judged_every": 2}
LINES = (
    Line("T1", "gap", ("twin", "other", "widths"), places=2, options=SMALL),
    Line("T2", "sweep", best=1, grid=3),
    Line("T3", "pgd", ("twin",), options={"steps": 2, "restarts": 1}),
    Line("T4", "patch_rs", options={"queries": 20}),
)


def qadtr(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--runs", str(folder)], catch_exceptions=False)


def test_a_suite_on_the_packaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUITES, "quick", LINES)
    monkeypatch.setitem(CONTROL_PLACES, "quick", 2)
    monkeypatch.setitem(probes.BUDGETS, "quick", probes.Budget(6, 2, 1, 10, 5, 4, 2))
    words = ("attack", "--bits", "8", "--images", "24", "--suite", "quick", "--json")
    assert qadtr(tmp_path, "export", "--engine", "ort", "--bits", "8").exit_code == 0
    first = qadtr(tmp_path, *words)
    answer = json.loads(first.stdout)
    made_on = {row["victim"] for row in answer["results"] if row["tier"] == "T1"}
    assert made_on == {"twin-w8a8", "fp32", "simulation-fp32+w8a8+w4a4+w2a2"}
    (width,) = answer["by_width"]
    assert {tier for tier, union in width["by_tier"].items() if union} == {"T1", "T2", "T3", "T4"}
    assert answer["worst_case_asr"] >= max(u["asr"] for u in width["by_tier"].values() if u)
    status = {check["number"]: check["status"] for check in answer["checks"]}
    assert status[14] == "pass"  # a surrogate and several widths at once
    assert status[13] == "not run"  # no attack by labels alone
    asked = (3, 4, 5, 8, 9, 10, 11, 12, 16, 20, 21, 24)
    assert "not run" not in {status[number] for number in asked}
    figure = {check["number"]: check["figure"] for check in answer["checks"]}
    assert "100.0 % by plain autograd: plain autograd is unusable here" in figure[9]
    assert "20 a step" in figure[11]
    assert answer["verdict"] == "incomplete"

    run = next(path for path in tmp_path.iterdir() if path.is_dir())
    document = json.loads((run / "verdict.json").read_text())
    assert [cell["suite"] for cell in document["cells"]] == ["quick"]
    before = (run / "results.jsonl").read_bytes()
    beside = qadtr(tmp_path, *words, "--baseline", str(run), "--ablation", f"gir={run}")
    again = json.loads(beside.stdout)
    assert (run / "results.jsonl").read_bytes() == before
    assert again["results"] == answer["results"]
    status = {check["number"]: check["status"] for check in again["checks"]}
    assert status[15] == "pass"  # a run reaches what is recorded of itself
    (cell,) = json.loads((run / "verdict.json").read_text())["cells"]
    assert cell["compared"]["baseline"] == run.name
    steps = cell["compared"]["ablation"]
    assert {step["tier"] for step in steps} == {"T1", "T2", "T3", "T4"}
    assert {step["with_only"] + step["without_only"] for step in steps} == {0}  # against itself
    with pytest.raises(BadInput, match="for the checks of a suite"):
        qadtr(tmp_path, "attack", "--attack", "gap", "--ablation", f"gir={run}")

    # From Python: the same rows, unions, checks and verdict; an engine that is open stays so.
    document = {name: answer[name] for name in sorted(answer)}
    named = qe.run_suite(run, "ort", bits=8, images=24).as_json()
    assert {name: named[name] for name in sorted(named)} == document
    with qe.open_engine(run, "ort", bits=8) as engine:
        shown = qe.run_suite(run, engine, images=24)
        assert shown.as_json() == named
        assert shown.verdict.name == "incomplete"
        assert engine.facts.bits == 8
        with pytest.raises(BadInput, match="holds 8 bits, not 4"):
            qe.run_suite(run, engine, bits=4)
        with pytest.raises(BadInput, match="no suite 'quik'"):
            qe.run_suite(run, engine, suite="quik")  # type: ignore[arg-type]
    assert (run / "results.jsonl").read_bytes() == before
