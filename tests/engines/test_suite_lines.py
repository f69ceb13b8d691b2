"""Every line of the default and the full suite, on onnxruntime with the packaged model.

The lines are the suites' own: their attacks, victims, goals and margins, at budgets that are cut.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cut_suites
from qadtr_edge.cli import app
from qadtr_edge.suite import MARGINS

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]


@pytest.mark.parametrize("suite", ["default", "full"])
def test_every_line_runs(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = cut_suites.cut(suite, monkeypatch)
    words = ("--runs", str(tmp_path))
    for told in (
        ("export", "--engine", "ort", "--bits", "8,32"),
        ("attack", "--bits", "8", "--images", "8", "--suite", suite, "--differential",
         "--certificate", "--json"),
    ):  # fmt: skip
        done = CliRunner().invoke(app, [*told, *words], catch_exceptions=False)
        assert done.exit_code == 0
    assert "is left out" not in done.stderr
    answer = json.loads(done.stdout)
    rows = answer["results"]
    found = {(row["tier"], row["attack"]) for row in rows}
    assert found >= {(line.tier, line.attack) for line in lines}
    parting = {attack for tier, attack in found if tier == "T7"}
    searched = {"patch_rs_differential"} if suite == "full" else set()
    assert parting == {"differential", "pgd", *searched}
    for line in lines:
        mine = [row for row in rows if (row["tier"], row["attack"]) == (line.tier, line.attack)]
        victims = len({row["victim"] for row in mine if row["tier"] in ("T1", "T3", "T7")})
        assert victims >= len(set(line.victims))
        if line.tier == "T3":
            assert {row["kappa"] for row in mine} == {None, *MARGINS[suite]}
        if line.targets:
            assert len({row["target"] for row in mine} - {None}) == line.targets
    tiers = answer["by_width"][0]["by_tier"]
    assert all(tiers[tier] is not None for tier in ("T1", "T2", "T3", "T4", "T5", "T6"))
    assert answer["certified"]["n"] == 8
    assert len(answer["checks"]) == 24
