"""The report says what is there, marks what is not, and changes with nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge import files, metrics, runs
from qadtr_edge.cli.report import report
from qadtr_edge.errors import MissingDependency
from qadtr_edge.report import document, evidence, markdown, rows, words
from qadtr_edge.results import Answers, Outcomes, Store
from qadtr_edge.types import Counts, Result

COUNTS = Counts(
    n=1000, clean_correct=900, eligible=900, fooled=450, patched_correct=480, changed=500,
    sim_eligible=905, sim_fooled=460, both_eligible=895, both_fooled=440, sim_only=15,
    engine_only=5,
)  # fmt: skip
CONTROL = Counts(
    n=1000, clean_correct=900, eligible=900, fooled=27, patched_correct=890, changed=20
)


def result(
    digest: str, *, attack: str = "gap", tier: str = "T1", counts: Counts = COUNTS
) -> Result:
    return Result(
        key=f"{attack}-{tier}-{digest[:4]}", engine="ort", bits=8, precision="integer",
        attack=attack, knowledge="surrogate", victim="fp32", goal="untargeted", target=None,
        tier=tier, threat="T-A", patch_size_px=6, patch_rows_px=6,
        patch_columns_px=6, mask_digest="m", patch_seed=0, placement="random", seed=0,
        counts=counts, queries_median=None, engine_digest=digest, patch_digest="p",
        data_digest="d", simulation_digest="s",
    )  # fmt: skip


def outcomes(n: int = 3) -> Outcomes:
    answers = Answers(np.zeros(n, np.int64), np.zeros(n, np.float32))
    return Outcomes(np.arange(n), np.zeros(n, np.int64), clean=answers, patched=answers)


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    """A run with an 8-bit engine and a float one, nothing measured yet."""
    made = runs.new_run(tmp_path / "runs")
    for bits in (8, 32):
        files.write_bytes(made.engine("ort", bits) / "model.onnx", bytes([bits]) * 2048)
    return made


def digest(run: runs.Run) -> str:
    return files.digest(run.engine("ort", 8) / "model.onnx")


def add(run: runs.Run, *found: Result) -> None:
    for each in found:
        Store(run.results, run.labels).append(each, outcomes())


def measured(run: runs.Run, **changes: object) -> None:
    """Parity and latency of the 8-bit engine, as ``verify`` and ``bench`` write them."""
    parity = {
        "engine": "ort", "bits": 8, "precision": "integer", "integer_kernels": 11,
        "float_layers": [], "images": 200, "logits_compared": 2000, "logit_mismatches": 0,
        "max_abs_diff": 0.0, "argmax_mismatches": 0, "first_divergent_layer": None,
        "engine_digest": digest(run), **changes,
    }  # fmt: skip
    files.write_json(run.engine("ort", 8) / "verify.json", parity)
    timed = {
        "engine": "ort", "bits": 8, "batch": 1, "p50_ms": 0.25, "p90_ms": 0.3, "p99_ms": 0.5,
        "images_per_s": 4000.0, "cov": 0.02, "stable": True, "speedup_vs_fp32": 2.5,
        "engine_digest": digest(run),
    }  # fmt: skip
    files.write_json(run.bench, {"plan": {"name": "quick"}, "results": [timed]})


def composed(run: runs.Run) -> document.Document:
    return document.compose(evidence.read(run))


def test_an_empty_run_says_not_run_and_no_number(run: runs.Run) -> None:
    found = composed(run)
    text = markdown.page(found)
    assert text.count(words.NOT_RUN) > 10
    assert found.as_json()["results"] == []
    assert any("No attack was run" in warning for warning in found.warnings)
    assert any("not verified" in warning for warning in found.warnings)
    assert any("not observed" in warning for warning in found.warnings)
    assert "%" not in text.split("## Attacks")[0].replace("[95 %]", "")


def test_rates_intervals_and_the_control_stand_together(run: runs.Run) -> None:
    add(run, result(digest(run)), result(digest(run), attack="grey", tier="T0", counts=CONTROL))
    measured(run)
    found = composed(run)
    row = found.as_json()["engines"][1]["strongest"]  # type: ignore[index, call-overload]
    assert row["asr"] == 0.5
    assert row["asr_low"] < 0.5 < row["asr_high"]
    assert row["asr_excess"] == pytest.approx(0.47)
    assert row["p_mcnemar"] == metrics.mcnemar(15, 5)
    text = markdown.page(found)
    assert "50.0 % [46.7, 53.3]" in text
    assert "+47.0 points" in text
    assert "values 8-bit, kernel int8" in text
    assert "0 of 2000 logits differ" in text
    assert "0.250 / 0.300 / 0.500" in text


def test_a_clean_run_has_only_the_standing_warnings(run: runs.Run) -> None:
    add(run, result(digest(run)), result(digest(run), attack="grey", tier="T0", counts=CONTROL))
    measured(run)
    assert [text.split(";")[0].split(" (")[0] for text in composed(run).warnings] == [
        "Every attack success rate is a lower bound, as good as the best attack tried",
        "No attack that adapts to the engine itself was run.",
        "Latency was not measured",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "mixed", "float_layers": ["stem"]}, "may not be called INT8"),
        ({"precision": "mixed", "float_layers": ["stem"]}, "float layers: stem"),
        ({"logit_mismatches": 3, "first_divergent_layer": "block1"}, "layer: block1"),
        ({"engine_digest": "other"}, "verify.json speaks of another engine file"),
    ],
)
def test_what_verify_found_is_said(run: runs.Run, changes: dict[str, object], said: str) -> None:
    measured(run, **changes)
    assert any(said in text for text in composed(run).warnings)
    assert ("mixed" not in str(changes)) or ("| MIXED |" in markdown.page(composed(run)))


def test_a_result_on_a_replaced_engine_is_not_quoted(run: runs.Run) -> None:
    add(run, result("another file"))
    found = composed(run)
    assert all(line.strongest is None for line in found.lines)
    assert any("no longer stands" in text for text in found.warnings)


def test_latency_of_another_file_is_not_shown(run: runs.Run) -> None:
    measured(run)
    files.write_bytes(run.engine("ort", 8) / "model.onnx", b"rebuilt")
    assert composed(run).lines[1].timed(1) is None


def test_unstable_latency_is_marked(run: runs.Run) -> None:
    measured(run)
    text = run.bench.read_text().replace('"stable": true', '"stable": false')
    run.bench.write_text(text)
    assert "UNSTABLE" in markdown.page(composed(run))
    assert any("not stable" in warning for warning in composed(run).warnings)


def test_few_images_and_weak_attacks_are_said(run: runs.Run) -> None:
    few = Counts(n=100, clean_correct=90, eligible=90, fooled=2, patched_correct=80, changed=10)
    add(
        run,
        result(digest(run), counts=few),
        result(digest(run), attack="grey", tier="T0", counts=replace(CONTROL, fooled=30)),
    )
    found = " ".join(composed(run).warnings)
    assert "only indicative: ort 8-bit gap" in found
    assert "No stronger than its control" in found


def test_a_control_of_another_setting_is_no_control(run: runs.Run) -> None:
    other = result(digest(run), attack="grey", tier="T0", counts=CONTROL)
    for change in (
        {"patch_rows_px": 8},
        {"patch_columns_px": 8},
        {"mask_digest": "round"},
        {"placement": "corner"},
        {"data_digest": "x"},
        {"seed": 1},
    ):
        found = rows.rows([result(digest(run)), replace(other, **change)])  # type: ignore[arg-type]
        assert found[0].control is None
    assert rows.rows([result(digest(run)), other])[0].control is other


def test_a_control_of_another_shape_is_no_control(run: runs.Run) -> None:
    """A flat patch stands beside the flat control, not the stronger square of its longer side."""
    flat = {"patch_size_px": 12, "patch_rows_px": 4, "patch_columns_px": 12, "mask_digest": "flat"}
    square = {**flat, "patch_rows_px": 12, "mask_digest": "square"}
    grey = result(digest(run), attack="grey", tier="T0", counts=CONTROL)
    matched = replace(grey, key="flat", **flat)  # type: ignore[arg-type]
    stronger = replace(grey, key="square", counts=COUNTS, **square)  # type: ignore[arg-type]
    add(run, replace(result(digest(run)), **flat), matched, stronger)  # type: ignore[arg-type]
    found = composed(run)
    assert found.rows[0].control == matched
    text = markdown.page(found)
    assert "| 4x12 |" in text
    assert "gap at 4x12 px" in text
    assert "| 12 |" in text


@given(st.permutations(range(4)))
def test_the_order_of_results_changes_nothing(order: list[int]) -> None:
    made = [result("d", attack=name, counts=replace(COUNTS, fooled=100 * n)) for n, name in
            enumerate(["gap", "lavan", "pgd", "loap"])]  # fmt: skip
    shuffled = rows.rows([made[index] for index in order])
    assert [row.result.attack for row in shuffled] == ["loap", "pgd", "lavan", "gap"]
    assert rows.worst(shuffled) is shuffled[0]


FEW = Counts(n=8, clean_correct=8, eligible=8, fooled=4, patched_correct=4, changed=4)
WEAK = replace(COUNTS, fooled=90)


def test_the_headline_is_of_the_largest_set_of_images(run: runs.Run) -> None:
    """A row of 8 images at 50 % stands in the table and not in the headline."""
    few = replace(result(digest(run), attack="lavan", counts=FEW), data_digest="few")
    add(run, few, result(digest(run), counts=WEAK))
    found = composed(run)
    strongest = found.lines[1].strongest
    assert strongest is not None
    assert (strongest.result.attack, strongest.result.counts.n) == ("gap", 1000)
    assert {row.result.attack for row in found.rows} == {"lavan", "gap"}


def test_of_sets_of_one_size_the_headline_is_of_the_one_with_most_rows() -> None:
    lone = replace(result("d", attack="lavan"), data_digest="z")
    pair = [result("d", attack=name, counts=WEAK) for name in ("gap", "pgd")]
    for order in ([lone, *pair], [*pair, lone]):
        found = rows.worst(rows.rows(order))
        assert found is not None
        assert found.result.attack == "gap"


def test_differential_patches_are_never_the_headline() -> None:
    apart = replace(result("d", attack="differential"), tier="T7")
    found = rows.worst(rows.rows([apart, result("d", counts=WEAK)]))
    assert found is not None
    assert found.result.attack != "differential"
    assert rows.worst(rows.rows([apart])) is None


def test_the_headline_is_untargeted_when_any_row_is() -> None:
    targeted = replace(result("d", attack="lavan"), goal="targeted", target=3)
    both = rows.worst(rows.rows([targeted, result("d", counts=WEAK)]))
    assert both is not None
    assert both.result.goal == "untargeted"
    lone = rows.worst(rows.rows([targeted]))
    assert lone is not None
    assert lone.result is targeted


def test_the_same_evidence_gives_the_same_bytes(run: runs.Run) -> None:
    add(run, result(digest(run)), result(digest(run), attack="grey", tier="T0", counts=CONTROL))
    measured(run)
    runs.record(run, "attack", options={"engine": "ort"})
    first = markdown.page(composed(run))
    assert markdown.page(composed(run)) == first
    assert "| attack | `" in first


def test_the_verb_writes_the_page_and_prints_one_document(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    add(run, result(digest(run)))
    report([run.folder], json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["runs"][0]["results"][0]["fooled"] == 450
    assert run.report.read_text().startswith(f"# Patch robustness of run {run.name}")
    report([run.folder])
    assert "not run" in (told := capsys.readouterr().out)
    report(same=[run.folder])  # --run, as the other verbs say it
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_there_is_no_page_and_it_is_said(
    run: runs.Run, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(run, result(digest(run)))
    monkeypatch.setitem(sys.modules, package, None)
    report([run.folder])
    assert "No report.html: " in (said := capsys.readouterr().err)
    assert f"needs the package {package}" in said
    assert run.report.is_file()
    assert not run.report.with_suffix(".html").exists()
    with pytest.raises(MissingDependency, match="report"):
        report([run.folder], html=run.folder / "page.html")


def test_a_damaged_file_is_named_and_the_rest_is_reported(run: runs.Run) -> None:
    add(run, result(digest(run)))
    run.bench.write_text("[]")
    (run.engine("ort", 8) / "verify.json").write_text("{")
    files.write_json(run.folder / "verdict.json", {"schema": 99, "cells": [{}]})
    found = composed(run)
    assert any("bench.json does not hold a JSON object" in text for text in found.warnings)
    assert any("verify.json is not valid JSON" in text for text in found.warnings)
    assert any("verdict.json has schema 99" in text for text in found.warnings)
    assert "50.0 % [46.7, 53.3]" in markdown.page(found)


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"schema": 0, "key": "k"}', "has schema 0"), ('{"schema": 1, "key": "k"}', "lacks or adds")],
)
def test_results_of_another_schema_are_named(run: runs.Run, line: str, said: str) -> None:
    run.results.write_text(f"{line}\n")
    found = composed(run)
    assert found.rows == ()
    assert said in found.warnings[0]


def test_a_manifest_without_stages_is_a_run_without_stages(run: runs.Run) -> None:
    files.write_json(run.manifest, {"schema": runs.SCHEMA})
    assert evidence.read(run).stages == {}
    assert markdown.page(composed(run))
