"""``attack --attack differential`` and ``--certificate`` on onnxruntime, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from qadtr_edge.cli import app
from qadtr_edge.errors import BadInput
from qadtr_edge.suite import CONTROL_PLACES, DIFFERENTIAL, SUITES, Line
from qadtr_edge.verdict import probes

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

WORDS = ("attack", "--bits", "4", "--images", "24", "--patch-size", "8", "--steps", "6")


def qadtr(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--runs", str(folder)])


def answered(folder: Path, *words: str) -> dict[str, object]:
    done = qadtr(folder, *words, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beyond")
    done = qadtr(folder, "export", "--engine", "ort", "--bits", "32,4")
    assert done.exit_code == 0, done.exception
    return folder


@pytest.fixture(scope="module")
def differential(runs: Path) -> dict[str, object]:
    return answered(runs, *WORDS, "--attack", "pgd,differential")


def row_of(answer: dict[str, object], tier: str, attack: str) -> dict[str, object]:
    (row,) = [r for r in answer["results"] if (r["tier"], r["attack"]) == (tier, attack)]  # type: ignore[attr-defined,index]
    return row  # type: ignore[no-any-return]


def test_it_fools_the_engine_and_not_the_float_model(differential: dict[str, object]) -> None:
    own, ordinary = (row_of(differential, "T7", name) for name in ("differential", "pgd"))
    assert own["knowledge"] == "both"
    assert own["victim"] == "twin-w4a4+fp32"
    assert own["sim_fooled"] is None
    assert own["differential"]["rate"] > ordinary["differential"]["rate"]  # type: ignore[index]
    assert own["differential"]["fooled"] <= own["fooled"]  # type: ignore[index]
    judged = row_of(differential, "T3", "pgd")
    assert judged["differential"] is None
    assert judged["fooled"] == ordinary["fooled"]


def test_it_stands_outside_the_headline(differential: dict[str, object]) -> None:
    assert differential["worst_case_asr"] == row_of(differential, "T3", "pgd")["asr"]
    (width,) = differential["by_width"]  # type: ignore[misc]
    assert "T7" not in width["by_tier"]


def test_both_are_judged_from_disk(runs: Path, differential: dict[str, object]) -> None:
    """Without the float engine the float network answers, and says the same of nearly all."""
    (run,) = runs.glob("*/engines/ort-fp32")
    copy = runs.parent / f"{runs.name}-copy" / run.parents[1].name
    shutil.copytree(run.parents[1], copy)
    shutil.rmtree(copy / "engines" / "ort-fp32")
    again = CliRunner().invoke(app, [*WORDS, "--attack", "differential", "--run", str(copy)])
    assert again.exit_code == 0, again.exception
    assert "the float network itself answers" in again.stderr
    assert "differential (T7) fools the engine and leaves the float model right on" in again.stdout
    shares = [row_of(differential, "T7", "differential")["differential"]]
    lines = [json.loads(line) for line in (copy / "results.jsonl").read_text().splitlines()]
    found = next(row for row in reversed(lines) if row["attack"] == "differential")["counts"]
    assert abs(shares[0]["fooled"] - found["differential_fooled"]) <= 1  # type: ignore[index]
    assert len(list((copy / "patches").glob("*.npz"))) == 2  # crafted before, and read


@pytest.mark.parametrize("attack", ["differential", "patch_rs_differential"])
def test_a_float_engine_has_no_float_model_beside_it(runs: Path, attack: str) -> None:
    asked = qadtr(runs, "attack", "--bits", "32", "--attack", attack, "--images", "8")
    assert isinstance(asked.exception, BadInput)
    assert "--bits 8" in asked.exception.remedy


def test_the_engine_is_searched_for_what_parts_it_from_its_float_model(runs: Path) -> None:
    words = ("attack", "--bits", "4", "--images", "24", "--patch-size", "circle:8", "--queries",
             "60", "--attack", "patch_rs,patch_rs_differential")  # fmt: skip
    answer = answered(runs, *words)
    own, ordinary = row_of(answer, "T7", "patch_rs_differential"), row_of(answer, "T4", "patch_rs")
    assert own["differential"]["fooled"] > 0  # type: ignore[index]
    assert own["differential"]["fooled"] <= own["fooled"]  # type: ignore[index]
    assert answer["worst_case_asr"] == ordinary["asr"], "it stands outside the headline"
    assert answered(runs, *words) == answer
    line = "patch_rs_differential (T7) fools the engine and leaves the float model right on "
    assert line in qadtr(runs, *words).stdout


def test_a_run_without_a_checkpoint_is_refused(runs: Path, tmp_path: Path) -> None:
    (run,) = runs.glob("*/engines")
    shutil.copytree(run.parent, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    words = ("attack", "--attack", "differential", "--bits", "4", "--run", str(tmp_path / "run"))
    asked = CliRunner().invoke(app, words)
    assert isinstance(asked.exception, BadInput)
    assert "no checkpoint" in asked.exception.fact


def test_differential_alone_is_an_option_of_suites(runs: Path) -> None:
    asked = qadtr(runs, "attack", "--differential")
    assert isinstance(asked.exception, BadInput)
    assert "--attack differential" in asked.exception.remedy


def test_a_certificate_stands_beside_the_controls(runs: Path) -> None:
    words = ("attack", "--bits", "4", "--images", "24", "--attack", "controls", "--certificate")
    answer = answered(runs, *words)
    found = answer["certified"]
    assert isinstance(found, dict)
    assert answer["by_width"][0]["certified"] == found  # type: ignore[index]
    assert answer["worst_case_asr"] is None
    assert 0 < found["certified"] <= found["double_masking"] <= found["n"] == 24
    assert len(found["certified_ids"]) == found["certified"]
    assert 24 * 36 <= found["inferences"] <= 24 * (666 + 36 * 36)
    (check,) = [one for one in answer["checks"] if one["number"] == 23]  # type: ignore[attr-defined]
    assert check["status"] == "pass"
    (kept,) = runs.glob("*/certificates/*.json")
    before = kept.stat().st_mtime_ns
    shown = qadtr(runs, *words)
    assert kept.stat().st_mtime_ns == before, "found in the run, not measured again"
    assert "This bounds that pipeline, not the bare engine." in shown.stdout
    kept.write_text('{"schema": 9}')
    asked = qadtr(runs, *words)
    assert isinstance(asked.exception, BadInput)
    kept.unlink()


def test_a_suite_takes_both_as_options(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        Line("T3", "pgd", ("twin",), options={"steps": 2, "restarts": 1}),
        Line("T4", "patch_rs", options={"queries": 5}),
    )
    monkeypatch.setitem(SUITES, "quick", lines)
    monkeypatch.setitem(CONTROL_PLACES, "quick", 1)
    beyond = (
        Line("T7", "differential", ("twin",), options={"steps": 2, "restarts": 1}),
        Line("T7", "patch_rs_differential", seeds=2, options={"queries": 20}),
    )
    monkeypatch.setitem(DIFFERENTIAL, "quick", beyond)
    monkeypatch.setitem(probes.BUDGETS, "quick", probes.Budget(4, 2, 1, 5, 2, 2, 1))
    words = ("attack", "--bits", "4", "--images", "16", "--suite", "quick", "--differential",
             "--certificate")  # fmt: skip
    answer = answered(runs, *words)
    tiers = {row["tier"] for row in answer["results"]}  # type: ignore[attr-defined]
    assert tiers >= {"T3", "T4", "T7"}
    assert row_of(answer, "T7", "differential")["differential"] is not None
    parted = [row for row in answer["results"] if row["attack"] == "patch_rs_differential"]  # type: ignore[attr-defined]
    assert len({row["seed"] for row in parted}) == 2
    for row in parted:
        assert (row["tier"], row["threat"], row["knowledge"]) == ("T7", "T-C", "both")
        assert row["victim"] == "ort-w4a4+fp32"
        assert row["sim_fooled"] is None
        assert 0 < row["differential"]["fooled"] <= row["differential"]["eligible"]
        assert 1 <= row["queries_median"] <= 20
    assert answer["certified"] is not None
    margins = {row["kappa"]: row for row in answer["results"] if row["tier"] == "T3"}  # type: ignore[attr-defined]
    assert set(margins) == {None, 0.0}
    assert margins[0.0]["patch_digest"] != margins[None]["patch_digest"]
    assert margins[0.0]["sim_fooled"] is not None
    shown = qadtr(runs, *words)
    assert "By the lead in logits at which a patch is kept" in shown.stdout
    assert "pgd, first by 0" in shown.stdout
