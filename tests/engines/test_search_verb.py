"""The searches of ``attack`` on onnxruntime, end to end: once with a crafted patch, once without
torch on a patch that is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from source import blocking

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

PLAIN = "from qadtr_edge.cli import main; main()"
SMALL = (
    "attack", "--bits", "8", "--images", "32", "--steps", "5", "--attack", "gap,pgd,sweep,patch_rs",
    "--queries", "40", "--stride", "9", "--json",
)  # fmt: skip


def qadtr(folder: Path, *words: str, code: str = PLAIN) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("QADTR_RUNS", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_engine_itself_is_searched(tmp_path: Path) -> None:
    qadtr(tmp_path, "export", "--engine", "ort", "--bits", "8")
    answer = json.loads(qadtr(tmp_path, *SMALL))
    assert answer["verdict"] == "incomplete"
    assert "no attack by labels alone" in answer["verdict_reason"]
    rows = {(row["attack"], row["placement"]): row for row in answer["results"]}
    sweep, walk = rows["sweep", "sweep:9"], rows["patch_rs", "searched"]
    assert sweep["fooled"] > 0
    assert sweep["asr_excess"] is not None
    assert walk["fooled"] > 0
    assert 1 <= walk["queries_median"] <= 40
    assert walk["sim_fooled"] == walk["fooled"]
    assert (sweep["engine_only"], sweep["sim_only"]) == (0, 0)
    white = rows["pgd", "plain"]
    assert (white["tier"], white["threat"], white["knowledge"]) == ("T3", "T-C", "simulation")
    assert white["victim"] == "twin-w8a8"
    assert white["fooled"] > 0
    assert answer["worst_case_asr"] >= max(sweep["asr"], walk["asr"], white["asr"])
    tiers = answer["by_width"][0]["by_tier"]
    assert tiers["T3"]["fooled"] == white["fooled"]
    assert tiers["T5"] is None

    results = next((tmp_path / "runs").glob("*/results.jsonl"))
    before = results.read_bytes()
    assert json.loads(qadtr(tmp_path, *SMALL)) == answer
    assert results.read_bytes() == before

    patch = next((tmp_path / "runs").glob("*/patches/*.png"))
    words = ("attack", "--bits", "8", "--images", "16", "--attack", "sweep,patch_rs", "--patch",
             str(patch), "--queries", "10", "--stride", "13", "--json")  # fmt: skip
    answer = json.loads(qadtr(tmp_path, *words, code=blocking(["torch"]) + PLAIN))
    assert {row["attack"] for row in answer["results"]} >= {"sweep", "patch_rs", "file"}


def test_the_engine_is_searched_for_one_patch_for_all_images(tmp_path: Path) -> None:
    qadtr(tmp_path, "export", "--engine", "ort", "--bits", "8")
    words = ("attack", "--bits", "8", "--images", "32", "--attack", "patch_rs_universal",
             "--queries", "20", "--json")  # fmt: skip
    answer = json.loads(qadtr(tmp_path, *words))
    row = next(row for row in answer["results"] if row["attack"] == "patch_rs_universal")
    assert (row["tier"], row["threat"], row["knowledge"]) == ("T5", "T-A", "scores")
    assert row["victim"] == "ort-w8a8"
    assert {other["attack"] for other in answer["results"]} >= {"grey", "noise", "crop"}
    assert json.loads(qadtr(tmp_path, *words)) == answer
