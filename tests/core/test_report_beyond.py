"""What a page says outside the success rate: certificates, and what only the engine gets wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import reported
from qadtr_edge import files, metrics, runs
from qadtr_edge.report import document, evidence, headline
from qadtr_edge.results import Store
from qadtr_edge.types import Json


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return reported.folder(tmp_path / "run", widths=(8,), attacks=("gap", "grey"))


def page(run: runs.Run) -> tuple[str, str]:
    """What the first section says, and what it misses."""
    section = headline.headline(document.compose(evidence.read(run)))
    return " ".join(section.said), " ".join(section.missing)


def certify(run: runs.Run, **changes: Json) -> None:
    found: dict[str, Json] = {
        "schema": 1, "engine": "ort", "bits": 8, "n": 40, "certified": 10, "double_masking": 30,
        "masks": 36, "inferences": 26640, "patch_rows_px": 6, "patch_columns_px": 4,
        "engine_digest": files.digest(run.engine("ort", 8) / "model.onnx"), **changes,
    }  # fmt: skip
    files.write_json(run.folder / "certificates" / "one.json", found)


def test_a_certificate_is_told_beside_the_rate_and_changes_none(run: runs.Run) -> None:
    before = document.compose(evidence.read(run)).as_json()
    assert "T8, certified bound: not run" in page(run)[1]
    certify(run)
    said, missing = page(run)
    interval = metrics.wilson(10, 40)
    spread = f"25.0 % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    assert f"Certified around ort 8-bit, by 36 masks: {spread} of 40 images" in said
    assert "whatever a 6x4 px patch shows" in said
    assert "T8" not in missing
    assert document.compose(evidence.read(run)).as_json() == before


def test_a_certificate_of_another_file_is_not_told(run: runs.Run) -> None:
    certify(run, engine_digest="other")
    assert "Certified" not in page(run)[0]


def test_certificates_that_cannot_be_read_are_said(run: runs.Run) -> None:
    certify(run, schema=2)
    assert "has schema 2; this version reads 1" in page(run)[1]
    certify(run, masks=None)
    assert "holds no 'masks'" in page(run)[0]


def test_what_only_the_engine_gets_wrong_is_outside_the_headline(run: runs.Run) -> None:
    store = Store(run.results, run.labels)
    row = next(row for row in store.rows() if row.attack == "gap")
    kept = store.outcomes(row.key)
    before = page(run)[0]
    counts = replace(row.counts, differential_eligible=30, differential_fooled=6)
    store.append(replace(row, key="t7", tier="T7", attack="differential", counts=counts), kept)
    said, missing = page(run)
    assert "differential (T7) fools the engine and leaves the float model right on 6 of 30" in said
    assert "20.0 %" in said
    assert "T7" not in missing
    worst = before[before.index("deployed worst-case ASR") :].split(";")[0]
    assert worst in said
