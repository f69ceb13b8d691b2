"""Every line of the default and the full suite, on onnxruntime with the packaged model.

The lines are the suites' own: their attacks, victims, goals and margins. How long each tries is
cut to a few steps, queries and places, and each is made from one seed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qadtr_edge.cli import app, attack, attack_names, attack_suite
from qadtr_edge.suite import CONTROL_PLACES, DIFFERENTIAL, MARGINS, SUITES, Line
from qadtr_edge.types import Json
from qadtr_edge.verdict import probes

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

CUT: dict[str, Json] = {
    "steps": 2, "judged_every": 2, "restarts": 1, "attempts": 1, "queries": 24,
}  # fmt: skip


def cut(line: Line) -> Line:
    """The line at a budget for tests: same attack, victims, goal and margins."""
    kind = attack_names.kind_of(line.attack)
    assert kind is not None, f"{line.attack} is in no table"
    known = attack_names.takes(kind, line.attack)
    options = {**line.options, **{name: value for name, value in CUT.items() if name in known}}
    return replace(
        line, seeds=1, places=min(2, line.places), grid=min(3, line.grid), options=options
    )


@pytest.mark.parametrize("suite", ["default", "full"])
def test_every_line_runs(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tuple(cut(line) for line in SUITES[suite])
    monkeypatch.setitem(SUITES, suite, lines)
    monkeypatch.setitem(CONTROL_PLACES, suite, 2)
    monkeypatch.setattr(attack_suite, "SELECTED_ON", 8)
    monkeypatch.setattr(attack, "CRAFT_IMAGES", 64)
    monkeypatch.setitem(DIFFERENTIAL, suite, {"steps": 2, "restarts": 1})
    monkeypatch.setitem(probes.BUDGETS, suite, probes.Budget(4, 2, 1, 5, 2, 2, 1))
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
    assert found >= {(line.tier, line.attack) for line in lines} | {("T7", "differential")}
    for line in lines:
        mine = [row for row in rows if (row["tier"], row["attack"]) == (line.tier, line.attack)]
        victims = len({row["victim"] for row in mine if row["tier"] in ("T1", "T3")})
        assert victims >= len(set(line.victims))
        if line.tier == "T3":
            assert {row["kappa"] for row in mine} == {None, *MARGINS[suite]}
        if line.targets:
            assert len({row["target"] for row in mine} - {None}) == line.targets
    tiers = answer["by_width"][0]["by_tier"]
    assert all(tiers[tier] is not None for tier in ("T1", "T2", "T3", "T4", "T5", "T6"))
    assert answer["certified"]["n"] == 8
    assert len(answer["checks"]) == 24
