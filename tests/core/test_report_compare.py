"""Two runs compared image by image, what changed between them, and the gate of a build."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer

import reported
from qadtr_edge import files, runs
from qadtr_edge.cli.report import report
from qadtr_edge.errors import BadInput
from qadtr_edge.report import compare, document, evidence, gate, papers
from qadtr_edge.report.section import table

ATTACKS = ("gap", "grey")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[runs.Run, runs.Run]:
    """Two runs of other patches and another seed in the manifest, one width more in the second."""
    first = reported.folder(tmp_path / "before", widths=(8,), attacks=ATTACKS)
    second = reported.folder(tmp_path / "after", widths=(8, 4), attacks=ATTACKS, seed=1)
    return first, second


def composed(run: runs.Run) -> document.Document:
    return document.compose(evidence.read(run))


def compared(pair: tuple[runs.Run, runs.Run]) -> compare.Comparison:
    return compare.compare(composed(pair[0]), composed(pair[1]))


def labels(run: runs.Run, attack: str) -> dict[str, np.ndarray]:
    with np.load(run.labels / f"ort8{attack}.npz") as kept:
        return {name: kept[name] for name in kept}


def test_differences_are_paired_by_image(pair: tuple[runs.Run, runs.Run]) -> None:
    found = compared(pair)
    assert [one.first.result.attack for one in found.pairs] == list(ATTACKS)
    for one in found.pairs:
        a, b = (labels(run, one.first.result.attack) for run in pair)
        both = [at for at in range(40) if a["clean_label"][at] == a["truth"][at]
                and b["clean_label"][at] == b["truth"][at]]  # fmt: skip
        only_b = sum(a["patched_label"][at] == a["truth"][at] != b["patched_label"][at]
                     for at in both)  # fmt: skip
        only_a = sum(b["patched_label"][at] == a["truth"][at] != a["patched_label"][at]
                     for at in both)  # fmt: skip
        said = one.as_json()
        assert (said["first_only"], said["second_only"], said["n"]) == (only_a, only_b, len(both))
        assert said["asr_difference"] == pytest.approx((only_b - only_a) / len(both))
        assert said["asr_low"] < said["asr_difference"] < said["asr_high"]  # type: ignore[operator]
        robust = [(each["patched_label"] == each["truth"]).mean() for each in (a, b)]
        assert said["robust_difference"] == pytest.approx(robust[1] - robust[0])
        assert one.p <= one.p_holm <= 1


def test_what_has_no_pair_is_said(pair: tuple[runs.Run, runs.Run]) -> None:
    found = compared(pair)
    assert "Only after has ort 4-bit gap (untargeted, 6 px, random)." in found.unpaired
    (pair[1].labels / "ort8gap.npz").unlink()
    assert any("ort8gap.npz is missing or damaged" in text for text in compared(pair).unpaired)


def test_rows_that_cannot_be_told_apart_are_not_compared(pair: tuple[runs.Run, runs.Run]) -> None:
    line = pair[0].results.read_text().splitlines()[0]
    twin = line.replace('"key":"ort8gap"', '"key":"twin"')
    pair[0].results.write_text(pair[0].results.read_text() + twin + "\n")
    found = compared(pair)
    assert [one.first.result.attack for one in found.pairs] == ["grey"]
    assert any("2 rows of ort 8-bit gap" in text for text in found.unpaired)


def test_what_changed_in_the_manifests(pair: tuple[runs.Run, runs.Run]) -> None:
    runs.record(pair[1], "bench", options={"batch": "1"})
    changed = compared(pair).changed
    assert ("attack: options.seed", "0", "1") in changed
    assert ("bench", "not run", "run") in changed
    assert not any("finished_utc" in what for what, _, _ in changed)


def test_a_run_against_itself_differs_in_nothing(pair: tuple[runs.Run, runs.Run]) -> None:
    found = compared((pair[0], pair[0]))
    assert found.changed == ()
    assert found.unpaired == ()
    assert all(one.asr.value == 0 and one.p == 1 for one in found.pairs)
    said = " ".join(compare.section(found, number=1).said)
    assert "No difference shown" in said
    assert "differ in nothing but times" in said


def test_the_gate_on_the_worst_case(pair: tuple[runs.Run, runs.Run]) -> None:
    fooled, able = reported.union_by_hand(pair[0], "ort", bits=8)
    exact = fooled / able
    found = composed(pair[0])
    assert [case.status for case in gate.worst_cases(found, max_asr=exact)] == ["passed"]
    assert [case.status for case in gate.worst_cases(found, max_asr=exact - 1e-9)] == ["failed"]


def test_what_was_not_measured_has_not_passed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = composed(runs.Run(tmp_path / "empty"))
    cases = gate.worst_cases(empty, max_asr=1.0)
    cases += gate.drops(compare.compare(empty, empty), max_drop=1.0)
    assert [case.status for case in cases] == ["not run", "not run"]
    suite = ElementTree.fromstring(gate.junit(cases))[0]
    assert suite.attrib["errors"] == "2"
    assert gate.summary(cases).startswith("**2 of 2 thresholds broken.**")


def test_the_gate_on_a_drop(pair: tuple[runs.Run, runs.Run]) -> None:
    found = compared(pair)
    lost = -found.pairs[0].robust.value
    swapped = compared((pair[1], pair[0]))
    worse = found if lost > 0 else swapped
    drop = abs(lost)
    assert drop > 0
    exact = [case.status for case in gate.drops(worse, max_drop=drop)]
    below = [case.status for case in gate.drops(worse, max_drop=drop - 1e-9)]
    assert exact == ["passed", "passed"]
    assert below == ["passed", "failed"]


def test_the_verb_writes_the_gate_and_ends_with_1(
    pair: tuple[runs.Run, runs.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit, summary = tmp_path / "out" / "junit.xml", tmp_path / "out" / "summary.md"
    with pytest.raises(typer.Exit) as caught:
        report([one.folder for one in pair], max_asr=0.0, max_drop=1.0, junit=junit,
               summary=summary, json=True)  # fmt: skip
    assert caught.value.exit_code == 1
    printed = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in printed["thresholds"]] == ["after"] * 4
    assert [one["status"] for one in printed["thresholds"]] == ["failed"] * 2 + ["passed"] * 2
    assert printed["comparisons"][0]["pairs"][0]["attack"] == "gap"
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("4", "2")
    assert "| after | ort 8-bit: worst-case ASR | ❌ failed |" in summary.read_text()


def test_a_gate_that_holds_ends_well(pair: tuple[runs.Run, runs.Run]) -> None:
    report([pair[0].folder], max_asr=1.0)


def test_a_drop_needs_two_runs(pair: tuple[runs.Run, runs.Run]) -> None:
    with pytest.raises(BadInput, match="compares runs"):
        report([pair[0].folder], max_drop=0.1)


def test_one_page_for_two_runs(pair: tuple[runs.Run, runs.Run], tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    out = tmp_path / "both.html"
    report([one.folder for one in pair], html=out)
    text = out.read_text()
    assert text.index("before against after") < text.index("Verdict: before")
    assert 'id="run1-verdict"' in text
    assert 'id="run2-verdict"' in text
    assert all((one.folder / "report.html").is_file() for one in pair)


def test_figures_and_tables_for_papers(pair: tuple[runs.Run, runs.Run], tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    report([pair[0].folder], figures=tmp_path / "f", tables=tmp_path / "t")
    drawn = sorted(path.name for path in (tmp_path / "f").iterdir())
    assert drawn == ["asr-ort.pdf", "asr-ort.svg", "transfer-1.pdf", "transfer-1.svg"]
    assert (tmp_path / "f" / "asr-ort.pdf").read_bytes().startswith(b"%PDF")
    ElementTree.parse(tmp_path / "f" / "asr-ort.svg")
    head, *lines = (tmp_path / "t" / "asr-1.csv").read_text().splitlines()
    assert head.startswith("engine,attack,goal")
    assert len(lines) == 2
    tex = (tmp_path / "t" / "asr-1.tex").read_text()
    assert tex.count(r"\\") == 3
    assert tex.index(r"\toprule") < tex.index(r"\midrule") < tex.index(r"\bottomrule")
    first = files.digest(tmp_path / "f" / "asr-ort.pdf")
    report([pair[0].folder], figures=tmp_path / "f")
    assert files.digest(tmp_path / "f" / "asr-ort.pdf") == first


def test_latex_is_escaped() -> None:
    text = papers.as_latex(table("50 % & more", ("a_b", "c"), rows=[["{x}", "[1, 2]"]]))
    assert r"\caption{50 \% \& more}" in text
    assert r"a\_b & c \\" in text
    assert r"\{x\} & {}[1, 2] \\" in text


def test_csv_is_quoted() -> None:
    text = papers.as_csv(table("t", ("a", "b"), rows=[["1, 2", 'say "x"']]))
    assert text == 'a,b\n"1, 2","say ""x"""\n'
