"""Single sections: curves over sizes and seeds, transfer, the Pareto front, layers, analyses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reported
from qadtr_edge import files, metrics, results, runs
from qadtr_edge.analysis.finding import Table
from qadtr_edge.report import document, evidence, page
from qadtr_edge.report.places import read
from qadtr_edge.report.section import Section
from qadtr_edge.results import Answers, Store


def sections(run: runs.Run) -> dict[str, Section]:
    found = document.compose(evidence.read(run))
    return {one.name: one for one in page.sections(found, root=None)}


def rows_of(section: Section, title: str) -> list[tuple[str, ...]]:
    table: Table = next(one for one in section.tables if one.title == title)
    return list(table.rows)


def test_success_over_patch_area(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    larger = reported.again(run, "gap", patch_rows_px=8, patch_columns_px=9, patch_size_px=9)
    small = Store(run.results, run.labels).rows()[0]
    found = sections(run)["curves"]
    rows = rows_of(found, "Attack success over patch area, px²")
    expected = [
        (str(area), f"{100 * metrics.rate(row.counts.fooled, row.counts.eligible):.1f} %")
        for area, row in ((36, small), (72, larger))
    ]
    assert [row[1:] for row in rows] == expected
    assert [one.name for one in found.figures] == ["curve-size"]
    assert "Only one seed was tried" in " ".join(found.missing)


def test_a_query_wins_a_differential_search_where_the_float_model_stays_right(
    tmp_path: Path,
) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("patch_rs",))
    store = Store(run.results, run.labels)
    (row,) = store.rows()
    plain = store.outcomes(row.key)
    odd, wrong = np.arange(len(plain.ids)) % 2 == 1, (plain.truth + 1) % reported.CLASSES
    beside = replace(
        plain,
        float_clean=Answers(np.where(plain.ids % 5 > 0, plain.truth, wrong), plain.clean.margins),
        float_patched=Answers(np.where(odd, wrong, plain.truth), plain.clean.margins),
    )
    counts = results.count(beside, target=None)
    assert counts.differential_fooled not in (counts.fooled, 0)
    said = {"key": "t7", "tier": "T7", "attack": "patch_rs_differential", "counts": counts}
    store.append(replace(row, **said), beside)
    told = {line[2] for line in rows_of(sections(run)["curves"], "Queries needed")}
    assert told == {
        f"{row.counts.fooled} / {row.counts.eligible}",
        f"{counts.differential_fooled} / {counts.differential_eligible}",
    }


def test_success_over_seeds_is_a_union_image_by_image(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    reported.again(run, "gap", patch_seed=1)
    reported.again(run, "gap", patch_seed=2)
    found = sections(run)["curves"]
    rates = [row[2] for row in rows_of(found, "Attack success over patches of other seeds, "
                                              "per-image union")]  # fmt: skip
    fooled, able = reported.union_by_hand(run, "ort", bits=8)
    assert len(rates) == 3
    assert rates[-1] == f"{100 * fooled / able:.1f} %"
    assert rates == sorted(rates, key=lambda text: float(text[:-2]))
    pytest.importorskip("matplotlib")
    assert "restarts" in page.inline(found.figures[0])


def test_transfer_tells_what_was_crafted_on_what(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    other = reported.again(run, "gap", victim="fp32", knowledge="surrogate")
    found = sections(run)["transfer"]
    cells = {row[2:4]: row[6] for row in rows_of(found, "Transfer")}
    counts = other.counts
    assert cells["fp32", "ort 8-bit"] == f"{counts.fooled} / {counts.eligible}"
    assert cells["fp32", "simulation 8-bit"] == f"{counts.sim_fooled} / {counts.sim_eligible}"
    assert {victim for victim, _ in cells} == {"fp32", "twin-w8a8"}


def test_the_front_holds_what_no_other_engine_beats(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", attacks=("gap", "patch_rs"))
    asr = {bits: np.divide(*reported.union_by_hand(run, "ort", bits=bits)) for bits in (8, 4)}
    hard, easy = sorted((8, 4), key=lambda bits: asr[bits])
    assert asr[hard] < asr[easy]
    for fast, front in ((hard, f"than: ort {hard}-bit."), (easy, "than: ort 8-bit, ort 4-bit.")):
        run.bench.unlink(missing_ok=True)
        for bits in (8, 4):
            reported.timed(run, "ort", bits=bits, p50_ms=0.1 if bits == fast else 0.2)
        assert front in " ".join(sections(run)["pareto"].said)


def test_layers_stand_side_by_side(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", attacks=("gap",))
    digest = {bits: files.digest(run.engine("ort", bits) / "model.onnx") for bits in (8, 4)}
    for bits, layers in ((8, ["conv1"]), (4, ["conv1", "pool"])):
        listed = [{"name": name, "observed": "integer"} for name in layers]
        files.write_json(
            run.engine("ort", bits) / "facts.json",
            {"digest": digest[bits], "precision": "integer", "layers": listed},
        )
    traced = [{"layer": "conv1", "elements": 100, "mismatches": 3, "max_abs_diff": 1.0}]
    files.write_json(
        run.engine("ort", 8) / "verify.json",
        {"engine_digest": digest[8], "precision": "integer", "logits_compared": 10,
         "logit_mismatches": 1, "first_divergent_layer": "conv1", "layers": traced},
    )  # fmt: skip
    found = sections(run)["truth"]
    assert rows_of(found, "ort, layer by layer") == [
        ("conv1", "not observed", "integer; 3 of 100 differ", "integer"),
        ("pool", "not observed", "no such layer", "integer"),
    ]
    gate = {row[0]: row for row in rows_of(found, "Gate and parity")}
    assert gate["ort 8-bit"][6] == "1 of 10 logits differ"
    assert gate["ort 8-bit"][9] == "conv1"


def test_analyses_are_shown_as_pictures_that_run_nothing(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    numbers = {"notes": ["Take care."], "layers": [{"layer": "conv1", "added": 0.25, "all": [1]}]}
    files.write_json(run.analysis / "shift.json", numbers)
    files.write_bytes(run.analysis / "shift.svg", b"<svg><script>bad()</script></svg>")
    files.write_json(run.analysis / "spatial.json", {"notes": []})
    files.write_bytes(run.analysis / "spatial.svg", b"")
    files.write_bytes(run.analysis / "visibility.json", b"{torn")
    found = sections(run)["analyses"]
    assert found.said == ("shift: Take care.",)
    assert rows_of(found, "shift: layers") == [("conv1", "0.25")]
    assert [one.caption for one in found.exhibits] == ["Analysis: shift"]
    said = " ".join(found.missing)
    assert "spatial: its figure is missing or damaged" in said
    assert "visibility.json is not valid JSON" in said
    assert "gradients: not run" in said
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    assert "<script" not in page.render("t", [found])


@pytest.mark.parametrize("tally", [None, {}, {"fooled_at": [[1, 2]]}])
def test_a_sweep_without_a_whole_tally_has_no_map(tally: object) -> None:
    origin = {"rows": [0, 4], "columns": [0, 4], "tally": tally}
    assert read(origin, eligible=10) is None  # type: ignore[arg-type]


def test_a_map_is_fooled_over_eligible() -> None:
    origin = {"rows": [0, 4], "columns": [1], "tally": {"fooled_at": [[1], [4]]}}
    found = read(origin, eligible=10)  # type: ignore[arg-type]
    assert found is not None
    assert found.shares.tolist() == [[0.1], [0.4]]
    assert found.place(1) == "40.0 % at row 4, column 1"


def test_a_file_that_ships_is_reported_from_its_own_folder(tmp_path: Path) -> None:
    """It stays where it is: what was measured of it lies in a folder named after its digest."""
    made = reported.folder(tmp_path / "run", engines=("litert",), widths=(8,), attacks=("gap",))
    reported.timed(made, "litert", bits=8, p50_ms=0.2)
    digest = files.digest(made.engine("litert", 8) / "model.onnx")
    fooled, able = reported.union_by_hand(made, "litert", bits=8)
    shutil.rmtree(made.engines)
    run = runs.Run(made.folder.rename(tmp_path / f"artefact-{digest[:12]}"))
    (line,) = document.compose(evidence.read(run)).lines
    assert (line.engine.engine, line.engine.bits, line.engine.digest) == ("litert", 8, digest)
    assert line.worst is not None
    assert (line.worst.fooled, line.worst.eligible) == (fooled, able)
    assert line.timed(1) is not None
    assert line.engine.precision == "integer"
    other = runs.Run(run.folder.rename(tmp_path / "artefact-0123456789ab"))
    assert document.compose(evidence.read(other)).lines == (), "it speaks of another file"
