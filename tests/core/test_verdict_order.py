"""The verdict: the first that matches, in the documented order, and none that says robust."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from judged import FACTS, Folder, first, probes
from qadtr_edge.errors import BadInput
from qadtr_edge.types import Json
from qadtr_edge.verdict import Verdict, judge, record, white_box_leaves_headline
from qadtr_edge.verdict.case import Case, Name

Spoil = Callable[[dict[str, Json]], None]


def judged(
    folder: Folder, measured: dict[str, Json] | None = None, *, baseline: Folder | None = None,
    suite: str | None = "default",
) -> Verdict:  # fmt: skip
    return judge(
        folder.rows, folder.store, suite=suite, facts=FACTS,
        probes=probes() if measured is None else measured,
        baseline=None if baseline is None else (baseline.rows, baseline.store),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run").suite()


@pytest.fixture
def baseline(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "baseline").suite()


def test_a_complete_sound_suite_is_measured(folder: Folder) -> None:
    found = judged(folder)
    assert found.name == "measured"
    assert "default suite" in found.reason
    assert "n = 1000" in found.reason
    assert [check.number for check in found.checks] == list(range(1, 25))
    assert not [check for check in found.checks if check.status == "flag"]
    assert len({check.name for check in found.checks}) == 24


def test_without_probes_nothing_that_needs_them_passes(folder: Folder) -> None:
    found = judged(folder, {})
    status = {check.number: check.status for check in found.checks}
    needing = {3, 4, 5, 8, 9, 10, 11, 12, 15, 16, 17, 20, 21}
    assert {number for number in needing if status[number] != "not run"} == set()
    assert found.name == "measured"


def test_no_verdict_is_robust() -> None:
    assert len(get_args(Name)) == 8
    assert not [name for name in get_args(Name) if "robust" in name]


def set_(name: str, key: str, value: Json) -> Spoil:
    def spoil(found: dict[str, Json]) -> None:
        entry = found[name]
        entry = entry[-1] if isinstance(entry, list) else entry
        assert isinstance(entry, dict)
        assert key in entry
        entry[key] = value

    return spoil


BROKEN: list[tuple[str, Spoil, int]] = [
    ("attack_broken", set_("steps", "ids", [0, 1]), 3),
    ("attack_broken", set_("unbounded", "fooled", 199), 5),
    ("attack_broken", set_("random", "fooled", list(range(100))), 8),
    ("attack_broken", set_("loss", "disagree", 1), 10),
    ("attack_broken", set_("loss", "fooled", 0), 10),
    ("attack_broken", set_("planted", "fooled", 80), 16),
    ("attack_broken", set_("indicators", "silent_success", 1), 21),
    ("attack_broken", set_("indicators", "unconstrained_failure", 1), 21),
    ("not_converged", set_("sizes", "ids", [0]), 4),
    ("not_converged", set_("eot", "ids", list(range(90))), 11),
    ("not_converged", set_("doubled", "gained", 2), 12),
    ("not_converged", set_("indicators", "incomplete_optimisation", 3), 21),
    ("masked", set_("zero_gradients", "straight_through", 3), 9),
    ("masked", set_("ablation", "without_only", 12), 17),
]


@pytest.mark.parametrize(("name", "spoil", "number"), BROKEN)
def test_each_probe_that_fails_gives_its_verdict(
    folder: Folder, name: str, spoil: Spoil, number: int
) -> None:
    measured = probes()
    spoil(measured)
    if number == 8:
        folder.rows = [row for row in folder.rows if row.attack != "label_search"]
        folder.add("T6", "label_search", first(20), knowledge="labels", queries=300.0)
    found = judged(folder, measured)
    assert found.name == name
    assert f"check {number}," in found.reason
    assert [check.number for check in found.checks if check.status == "flag"] == [number]


def test_the_first_that_matches_wins(folder: Folder) -> None:
    """Spoiled from the last verdict to the first, each takes over from the one before."""
    measured = probes()
    names = []
    for kind in ("masked", "not_converged", "attack_broken"):
        next(spoil for name, spoil, number in BROKEN if name == kind and number != 8)(measured)
        names.append(judged(folder, measured).name)
    folder.rows = [row for row in folder.rows if row.tier != "T6"]
    names.append(judged(folder, measured).name)
    assert names == ["masked", "not_converged", "attack_broken", "incomplete"]


@pytest.mark.parametrize(
    ("number", "lacking"),
    [
        (13, "T4"), (13, "T6"), (14, "fp32"), (14, "+"),
    ],
)  # fmt: skip
def test_what_was_not_attacked_with_is_incomplete(
    folder: Folder, number: int, lacking: str
) -> None:
    folder.rows = [row for row in folder.rows if row.tier != lacking and lacking not in row.victim]
    found = judged(folder)
    assert (found.name, found.checks[number - 1].status) == ("incomplete", "not run")


def test_an_engine_without_rows_is_incomplete(folder: Folder) -> None:
    found = judge([], folder.store, suite=None, facts=FACTS, probes={})
    assert found.name == "incomplete"
    assert {check.status for check in found.checks} <= {"not run", "pass"}
    assert [check.number for check in found.checks if check.status == "pass"] == [22]


def test_lost_labels_and_lost_patches_are_incomplete(folder: Folder) -> None:
    (folder.patches / "6.npz").unlink()
    found = judged(folder)
    assert (found.name, found.checks[23].status) == ("incomplete", "flag")
    (folder.store.labels / "key5.npz").unlink()
    assert judged(folder).checks[17].status == "flag"


def test_better_worse_and_no_difference_are_paired(tmp_path: Path, baseline: Folder) -> None:
    for lost, name in ((40, "better"), (-40, "worse"), (0, "no_difference")):
        mine = Folder(tmp_path / f"run{lost}").suite(lost=lost)
        found = judged(mine, baseline=baseline)
        assert found.name == name, found.reason
        assert "Holm over 3" in found.reason


def test_no_difference_is_never_said_to_be_equality(folder: Folder, baseline: Folder) -> None:
    found = judged(folder, baseline=baseline)
    assert "No difference shown" in found.reason
    assert "equal" not in found.reason


def test_holm_counts_the_family(tmp_path: Path, baseline: Folder) -> None:
    """Six images on one side: p = 0.031 alone, 0.094 among three."""
    mine = Folder(tmp_path / "run").suite(lost=6)
    assert judged(mine, baseline=baseline).name == "no_difference"


def test_a_quick_run_may_show_a_failure_and_no_more(tmp_path: Path, baseline: Folder) -> None:
    better = Folder(tmp_path / "better").suite(lost=40)
    worse = Folder(tmp_path / "worse").suite(lost=-40)
    assert judged(better, baseline=baseline, suite="quick").name == "measured"
    assert judged(worse, baseline=baseline, suite="quick").name == "worse"


def test_a_search_that_beats_the_gradient_attack_is_masking(tmp_path: Path) -> None:
    """Two of 900 images are 0.22 points, above the threshold of 0.2; one is below it."""
    for alone, name in ((2, "masked"), (1, "measured")):
        mine = Folder(tmp_path / f"run{alone}").suite(alone=alone)
        assert judged(mine).name == name
        leaves = white_box_leaves_headline(Case(tuple(mine.rows), mine.store))
        assert leaves is (name == "masked")


def test_masking_is_read_against_the_baseline(tmp_path: Path) -> None:
    """Where as many images of the undefended network are missed, nothing is masked."""
    mine = Folder(tmp_path / "run").suite(alone=40)
    same = Folder(tmp_path / "same").suite(alone=40)
    fewer = Folder(tmp_path / "fewer").suite(alone=5)
    measured = {**probes(), "record": {"fooled": 500, "eligible": 900, "missed": 40}}
    assert judged(mine, measured, baseline=same).checks[5].status == "pass"
    assert judged(mine, measured, baseline=fewer).name == "masked"


def test_an_attack_that_fails_on_the_baseline_is_broken(folder: Folder, tmp_path: Path) -> None:
    weak = Folder(tmp_path / "weak").suite(lost=200)
    found = judged(folder, baseline=weak)
    assert (found.name, found.checks[14].status) == ("attack_broken", "flag")
    missing = Folder(tmp_path / "missing").suite(alone=60)
    assert judged(folder, baseline=missing).checks[14].status == "flag", "beyond its record"


def test_a_record_is_what_check_15_reads(folder: Folder, baseline: Folder) -> None:
    kept = record(baseline.rows, baseline.store, facts=FACTS)
    assert kept == {"fooled": 500, "eligible": 900, "missed": 0}
    found = judged(folder, {**probes(), "record": kept}, baseline=baseline)
    assert found.checks[14].status == "pass"


def test_rows_of_other_engines_and_images_do_not_count(folder: Folder) -> None:
    before = judged(folder)
    folder.add("T4", "patch_rs", first(900), knowledge="scores", engine_digest="other")
    folder.add("T4", "patch_rs", first(900), knowledge="scores", engine="trt")
    folder.add("T4", "patch_rs", first(900), knowledge="scores", data_digest="other images")
    assert judged(folder) == before


@pytest.mark.parametrize(
    "damage", [{"steps": 3}, {"steps": []}, {"loss": [1]}, {"loss": {"images": -1}}]
)
def test_damaged_probes_are_one_sentence(folder: Folder, damage: dict[str, Json]) -> None:
    with pytest.raises(BadInput, match="stored probes"):
        judged(folder, {**probes(), **damage})
