"""A bundle on an emulated Arm machine gives the predictions it gives here."""

from __future__ import annotations

from pathlib import Path

import pytest
from qadtr_edge.export import emulation

import packed
from qadtr_edge import runs
from qadtr_edge.errors import Unsupported
from qadtr_edge.results import Store

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort")]


def test_on_arm_the_predictions_are_the_same(tmp_path: Path) -> None:
    try:
        machine = emulation.prepare("arm64")
    except Unsupported as error:
        pytest.skip(str(error))
    run = packed.run(tmp_path / "runs")
    packed.bundle(tmp_path / "b.pyz", run)
    out = tmp_path / "out"
    machine.python([str(tmp_path / "b.pyz"), "run", "--out", str(out)])
    there = runs.Run(out)
    store = Store(there.results, there.labels)
    found = store.rows()
    here = packed.replayed(run)
    assert len(packed.data(run)) >= 20
    assert len(found) == len(here) == 8
    for row, (own, outcomes) in zip(found, here, strict=True):
        assert (row.engine, row.bits, row.attack) == (own.engine, own.bits, own.attack)
        assert row.counts == own.counts
        assert row.key != own.key, "another machine, another key"
        kept = store.outcomes(row.key)
        assert (kept.clean.labels == outcomes.clean.labels).all()
        assert (kept.patched.labels == outcomes.patched.labels).all()
        assert (kept.patched.margins == outcomes.patched.margins).all()
