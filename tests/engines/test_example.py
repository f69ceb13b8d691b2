"""The example runs as it stands, from an empty folder; its suite at a budget for tests."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import qadtr_edge
from qadtr_edge.suite import CONTROL_PLACES, SUITES, Line
from qadtr_edge.verdict import probes
from source import ROOT

EXAMPLE = ROOT / "examples" / "first_look.py"
LINES = (
    Line("T1", "gap", ("twin",), places=2, options={"steps": 2, "judged_every": 2}),
    Line("T2", "sweep", best=1, grid=3),
    Line("T4", "patch_rs", options={"queries": 20}),
)


def test_it_is_in_cells_and_uses_the_public_names() -> None:
    text = EXAMPLE.read_text()
    assert len(re.findall(r"^# %%", text, re.MULTILINE)) >= 10
    assert set(re.findall(r"\bqe\.(\w+)", text)) == set(qadtr_edge.__all__) - {"load_checkpoint"}


@pytest.mark.slow
@pytest.mark.needs("ort", "torch")
def test_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("QADTR_RUNS", raising=False)
    monkeypatch.setitem(SUITES, "quick", LINES)
    monkeypatch.setitem(CONTROL_PLACES, "quick", 2)
    monkeypatch.setitem(probes.BUDGETS, "quick", probes.Budget(6, 2, 1, 10, 5, 4, 2))
    names = runpy.run_path(str(EXAMPLE))
    counts = names["counts"]
    out = capfd.readouterr().out
    assert "ran integer on" in out
    assert "(3, 6, 6) uint8 crafted by gap" in out
    assert f"fooled {counts.fooled} of {counts.eligible}" in out
    assert "T3 not run" in out
    assert "of the images, 95 % from" in out
    assert f"verdict: {names['found'].verdict.name}" in out
    assert (tmp_path / "first_look.png").read_bytes()[:4] == b"\x89PNG"
    # the unit replayed by hand is the one that the verb replayed, without the simulation
    rows = [one for one in qadtr_edge.read_results(names["run"].folder) if one["attack"] == "gap"]
    assert (names["row"].counts.fooled, "twin-w8a8") in {(r["fooled"], r["victim"]) for r in rows}
