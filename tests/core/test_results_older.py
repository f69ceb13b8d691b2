"""Rows written before a column was there are read, and hold nothing in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qadtr_edge import replay
from qadtr_edge.errors import BadInput
from qadtr_edge.patch.placement import Policy
from qadtr_edge.results import Store
from qadtr_edge.types import Patch
from toy import Quadrants, pictures

TEST = pictures(60, split="test")
PATCH = Patch(np.full((3, 4, 4), 255, np.uint8), np.ones((4, 4), bool), None)


def unit(kappa: float | None = None) -> replay.Unit:
    said = replay.Attacked("pgd", "both", "twin", "T7", "T-C", kappa)
    return replay.Unit(said, PATCH, Policy("plain"), 0)


def subject(bias: float = 0.0) -> replay.Subject:
    engine = Quadrants(bias=bias, digest=f"q{bias}")
    return replay.Subject(engine, f"q{bias}", TEST)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results.jsonl", tmp_path / "labels")


def test_a_row_without_the_later_columns(store: Store) -> None:
    row, outcomes = replay.replay(unit(), Quadrants().facts, subject=subject())
    store.append(row, outcomes)
    line = json.loads(store.lines.read_text())
    for name in ("differential_eligible", "differential_fooled"):
        del line["counts"][name]
    del line["kappa"]
    store.lines.write_text(json.dumps(line) + "\n")
    assert store.rows() == (row,)
    del line["threat"]
    store.lines.write_text(json.dumps(line) + "\n")
    with pytest.raises(BadInput, match="threat"):
        store.rows()


def test_the_float_model_and_the_margin_are_kept(store: Store) -> None:
    float_model = subject(bias=-15.0)
    row, outcomes = replay.replay(
        unit(kappa=1.0), Quadrants().facts, subject=subject(), float_model=float_model
    )
    store.append(row, outcomes)
    assert store.rows() == (row,)
    assert row.kappa == 1.0
    there = store.outcomes(row.key)
    assert there.float_clean is not None
    assert there.float_patched is not None
    assert there.sim_clean is None
    both = (there.clean.labels == TEST.labels) & (there.float_clean.labels == TEST.labels)
    parted = (
        both & (there.patched.labels != TEST.labels) & (there.float_patched.labels == TEST.labels)
    )
    assert row.counts.differential_eligible == both.sum()
    assert row.counts.differential_fooled == parted.sum() > 0


def test_what_changes_the_counts_changes_the_key() -> None:
    keys = {
        replay.identity(unit(), subject()),
        replay.identity(unit(kappa=0.0), subject()),
        replay.identity(unit(kappa=1.0), subject()),
        replay.identity(unit(), subject(), float_model=subject(bias=1.0)),
        replay.identity(unit(), subject(), float_model=subject(bias=2.0)),
        replay.identity(unit(), subject(), simulation=subject(bias=1.0)),
    }
    assert len(keys) == 6


def test_a_margin_no_patch_can_have_is_refused(store: Store) -> None:
    row, outcomes = replay.replay(unit(kappa=1.0), Quadrants().facts, subject=subject())
    store.append(row, outcomes)
    line = json.loads(store.lines.read_text())
    store.lines.write_text(json.dumps({**line, "kappa": -1.0}) + "\n")
    with pytest.raises(BadInput, match="kappa is -1"):
        store.rows()
