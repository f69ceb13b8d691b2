"""The verbs one after the other on the packaged model, then those a device runs, without torch.

Each prints exactly one JSON document on stdout, under its stable names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from source import blocking

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

PLAIN = "from qadtr_edge.cli import main; main()"
NO_TORCH = blocking(["torch"]) + PLAIN

SMALL_ATTACK = (
    "attack", "--engine", "ort", "--bits", "8", "--images", "48", "--steps", "20",
)  # fmt: skip

VERIFY = {
    "engine", "bits", "precision", "integer_kernels", "float_layers", "images", "logits_compared",
    "logit_mismatches", "max_abs_diff", "argmax_mismatches", "first_divergent_layer",
}  # fmt: skip
ATTACK = {
    "engine", "bits", "attack", "knowledge", "victim", "n", "clean_correct", "eligible", "fooled",
    "asr", "asr_low", "asr_high", "sim_fooled", "sim_only", "engine_only", "p_mcnemar", "goal",
    "target", "tier", "threat", "patch_size_px", "placement", "robust_accuracy", "asr_excess",
    "queries_median", "seed", "engine_digest",
}  # fmt: skip


def qadtr(folder: Path, *words: str, code: str = PLAIN, exits: int = 0) -> str:
    """What the verb prints on stdout, run in ``folder``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("QADTR_RUNS", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == exits, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose only run holds the packaged model at 8 and 2 bits, and one patch."""
    folder = tmp_path_factory.mktemp("pipeline")
    qadtr(folder, "export", "--engine", "ort", "--bits", "8,2")
    qadtr(folder, *SMALL_ATTACK)
    return folder


def test_verify_finds_integers_and_no_difference(folder: Path) -> None:
    for bits in ("8", "2"):
        words = ("verify", "--engine", "ort", "--bits", bits, "--images", "32", "--json")
        answer = json.loads(qadtr(folder, *words))
        assert set(answer) >= VERIFY
        assert answer["precision"] == "integer"
        assert answer["float_layers"] == []
        assert answer["logit_mismatches"] == 0
        assert answer["images"] == 32


def test_attack_keeps_its_names_and_its_counts_add_up(folder: Path) -> None:
    answer = json.loads(qadtr(folder, *SMALL_ATTACK, "--json"))
    assert set(answer) >= {
        "results",
        "clean_accuracy",
        "occlusion_asr",
        "worst_case_asr",
        "verdict",
    }
    for row in answer["results"]:
        assert set(row) >= ATTACK
        assert row["fooled"] <= row["eligible"] <= row["clean_correct"] <= row["n"] == 48
        assert row["asr"] == row["fooled"] / row["eligible"]
        assert row["asr_low"] <= row["asr"] <= row["asr_high"]


def test_a_broken_threshold_exits_1(folder: Path) -> None:
    qadtr(folder, *SMALL_ATTACK, "--max-asr", "0", exits=1)


def test_doing_it_again_changes_nothing(folder: Path) -> None:
    results = next((folder / "runs").glob("*/results.jsonl"))
    before = results.read_bytes()
    qadtr(folder, *SMALL_ATTACK)
    assert results.read_bytes() == before


def test_the_verbs_of_a_device_need_no_torch(folder: Path) -> None:
    patch = next((folder / "runs").glob("*/patches/*.npz"))
    for words in (
        ("verify", "--engine", "ort", "--bits", "8", "--images", "16", "--json"),
        ("bench", "--engine", "ort", "--bits", "8", "--batch", "1", "--json"),
        (
            "attack",
            "--engine",
            "ort",
            "--bits",
            "8",
            "--images",
            "32",
            "--patch",
            str(patch),
            "--json",
        ),
        ("report", "--json"),
    ):
        assert json.loads(qadtr(folder, *words, code=NO_TORCH))


def test_the_report_holds_what_was_measured(folder: Path) -> None:
    qadtr(folder, "report")
    text = next((folder / "runs").glob("*/report.md")).read_text()
    assert "values 8-bit, kernel int8" in text
    assert "gap" in text


@pytest.mark.parametrize(
    "words",
    [
        ("export", "--bits", "9"),
        ("export", "--engine", "otr"),
        ("export", "--model", "zoo:nothing"),
        ("verify", "--engine", "ort", "--bits", "5"),
        ("attack", "--engine", "ort", "--attack", "gapp"),
        ("attack", "--engine", "ort", "--data", "no-such-data"),
        ("attack", "--run", "no-such-run"),
        ("attack", "--patch", "no-such-file.npz"),
        ("report", "no-such-run"),
    ],
)
def test_bad_input_is_two_sentences_and_exit_2(folder: Path, words: tuple[str, ...]) -> None:
    assert qadtr(folder, *words, exits=2) == ""


@pytest.mark.parametrize("damage", [b"", b"not an onnx file", None])
def test_a_damaged_engine_file_is_two_sentences(
    folder: Path, tmp_path: Path, damage: bytes | None
) -> None:
    run = next((folder / "runs").iterdir())
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    model = copy / "engines" / "ort-w8a8" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2] if damage is None else damage)
    words = ("attack", "--run", str(copy), "--engine", "ort", "--bits", "8", "--images", "16")
    qadtr(tmp_path, *words, exits=2)
