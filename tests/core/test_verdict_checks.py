"""Single checks: what they say of rows, and when they pass, flag or were not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from judged import ABLE, FACTS, Folder, first, probes
from qadtr_edge import metrics
from qadtr_edge.errors import BadInput
from qadtr_edge.patch.shape import mask_of
from qadtr_edge.replay import mask_digest
from qadtr_edge.results import Answers
from qadtr_edge.types import EngineFacts, Json
from qadtr_edge.verdict import Check, judge
from qadtr_edge.verdict.ablation import PARTS, gains
from qadtr_edge.verdict.case import Case
from qadtr_edge.verdict.from_rows import several_widths
from qadtr_edge.verdict.worst import by_threat


def check(
    folder: Folder, number: int, *, facts: EngineFacts = FACTS,
    measured: dict[str, Json] | None = None,
) -> Check:  # fmt: skip
    found = judge(
        folder.rows, folder.store, suite=None, facts=facts,
        probes=probes() if measured is None else measured,
    )  # fmt: skip
    return found.checks[number - 1]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path).suite()


def test_a_threat_that_is_not_told_is_flagged(folder: Folder) -> None:
    found = check(folder, 1)
    assert found.status == "pass"
    assert "6x6 px" in found.figure
    assert "T-A, T-B, T-C" in found.figure
    folder.add("T1", "file", first(5), victim="unknown")
    assert check(folder, 1).status == "flag"
    folder.rows[-1] = replace(folder.rows[-1], victim="fp32", tier="T5")
    assert check(folder, 1).status == "flag", "a search on the engine tells its queries"


def test_clean_accuracy_stands_beside_its_simulation(tmp_path: Path) -> None:
    alone = Folder(tmp_path / "alone")
    alone.add("T4", "patch_rs", first(9), simulated=False, queries=3.0)
    assert check(alone, 2).status == "not run"
    both = Folder(tmp_path / "both").suite()
    found = check(both, 2)
    assert (found.status, "100.0 % labelled as by the simulation" in found.figure) == ("pass", True)
    wilson = metrics.wilson(int(ABLE.sum()), len(ABLE))
    assert found.interval == (wilson.low, wilson.high)

    seen = both.store.outcomes(both.rows[0].key)
    better = Answers(seen.truth, seen.clean.margins)
    both.store.append(both.rows[0], replace(seen, sim_clean=better))
    assert check(both, 2).status == "flag", "the engine is wrong where its simulation is right"


def test_a_surrogate_that_beats_the_simulation_is_flagged(tmp_path: Path) -> None:
    for own, status in ((100, "pass"), (190, "pass"), (60, "flag")):
        mine = Folder(tmp_path / str(own))
        mine.add("T1", "gap", first(own), placement="random")
        mine.add("T1", "gap", first(100), knowledge="surrogate", victim="fp32", placement="random")
        assert check(mine, 7).status == status
    lone = Folder(tmp_path / "lone")
    lone.add("T1", "gap", first(60), placement="random")
    lone.add("T1", "lavan", first(99), knowledge="surrogate", victim="fp32", placement="random")
    assert check(lone, 7).status == "not run", "two attacks are no comparison of two victims"


def test_the_worst_case_is_a_union_and_not_the_best_mean(tmp_path: Path) -> None:
    mine = Folder(tmp_path)
    mine.add("T1", "gap", first(90))
    mine.add("T2", "sweep", first(90, skip=60))
    mine.add("T0", "noise", first(900))
    mine.add("T7", "differential", first(900))
    found = check(mine, 18)
    assert found.figure == "16.7 % fall to some attack (T1 10.0 %, T2 10.0 %)"
    wilson = metrics.wilson(150, 900)
    assert found.interval == (wilson.low, wilson.high)


@pytest.mark.parametrize(
    ("victim", "several"),
    [
        ("fp32", False), ("twin-w8a8", False), ("twin-w8a8+w4a4", True), ("fp32+w8a8", True),
        ("simulation-w4a4", False), ("ensemble of the run", True),
    ],
)  # fmt: skip
def test_a_victim_of_several_widths_is_told_by_its_name(victim: str, several: bool) -> None:
    assert several_widths(victim) is several


def test_a_float_layer_renames_the_column(folder: Folder) -> None:
    assert check(folder, 22).status == "pass"
    mixed = replace(FACTS, precision="mixed", float_layers=("conv3",))
    found = check(folder, 22, facts=mixed)
    assert (found.status, "conv3" in found.figure) == ("flag", True)
    assert check(folder, 22, facts=replace(FACTS, integer_kernels=0)).status == "not run"


def test_what_was_not_tried_is_listed(folder: Folder) -> None:
    found = check(folder, 19)
    assert found.status == "not run"
    assert "other sizes" in found.figure
    folder.add("T4", "patch_rs", first(9), size=8, queries=4.0)
    found = check(folder, 19)
    assert found.status == "pass"
    assert "2 sizes" in found.figure
    assert "other sizes" not in found.figure


def test_ways_a_patch_was_seen_are_told_from_its_places_and_its_mask(folder: Folder) -> None:
    found = check(folder, 19)
    assert found.figure.endswith("several patches, frames, perspective and light, corruptions")
    folder.add("T1", "gap", first(9), threat="T-A", placement="physical*2")
    frame = folder.add("T1", "gap", first(9), threat="T-A", placement="plain")
    folder.rows[-1] = replace(frame, mask_digest=mask_digest(mask_of("frame:2", (6, 6))))
    found = check(folder, 19)
    assert "several patches, frames, perspective and light; not tried" in found.figure
    assert found.figure.endswith("corruptions")


def test_a_certificate_is_of_the_pipeline_and_not_of_the_engine(folder: Folder) -> None:
    assert check(folder, 23).status == "not run"
    found = check(folder, 23, measured={"certificate": {"certified": 300, "n": 900}})
    assert found.figure == "33.3 % certified around the engine, not of the bare engine"
    assert found.interval is not None
    assert found.interval[0] < 1 / 3 < found.interval[1]


def test_random_patches_are_compared_on_the_images_they_were_shown_on(tmp_path: Path) -> None:
    """30 of the 100 images of the probe; the attack fools 80 of those, or other ones."""
    for won, status in ((first(80), "pass"), (first(500, skip=100), "flag")):
        mine = Folder(tmp_path / status)
        mine.add("T3", "pgd", won)
        found = check(mine, 8)
        assert found.status == status
        assert found.figure.startswith("30.0 % at 10000 random draws")


def test_one_step_that_fools_everything_cannot_be_beaten(folder: Folder) -> None:
    every: list[Json] = [*range(200)]
    top: list[Json] = [
        {"steps": at, "fooled": 200, "eligible": 200, "ids": every} for at in (1, 100)
    ]
    assert check(folder, 3, measured={"steps": top}).status == "pass"


def test_plain_autograd_is_told_apart_from_masking(folder: Folder) -> None:
    found = check(folder, 9)
    assert found.status == "pass"
    assert "plain autograd is unusable here" in found.figure
    measured = {**probes(), "zero_gradients": {"images": 200, "straight_through": 200}}
    assert check(folder, 9, measured=measured).status == "flag"


def lost(part: str, tier: str, *, images: int) -> dict[str, Json]:
    """A step of the ablation: so many images of 900 fall to a tier where the part is missing."""
    return {"part": part, "tier": tier, "images": 900, "without_only": images, "with_only": 1}


def test_ablation_needs_attacks_without_gradients(folder: Folder) -> None:
    assert check(folder, 17, measured={}).status == "not run"
    white = lost("gir", "T3", images=90)
    assert check(folder, 17, measured={"ablation": [white]}).status == "not run"
    found = check(folder, 17, measured={"ablation": [white, lost("gir", "T4", images=2)]})
    assert (found.status, "gir: masking, not robustness" in found.figure) == ("flag", True)
    found = check(folder, 17, measured={"ablation": [white, lost("gir", "T4", images=90)]})
    assert found.status == "not run", "A-QAPA and DBWT were not compared"
    assert "aqapa not compared; dbwt not compared" in found.figure
    every = [lost(part, tier, images=90) for part in PARTS for tier in ("T3", "T6")]
    assert check(folder, 17, measured={"ablation": [*every]}).status == "pass"
    with pytest.raises(BadInput, match="no part of QADT-R"):
        check(folder, 17, measured={"ablation": [{**white, "part": "other"}]})


def test_gains_are_counted_on_images_both_get_right(tmp_path: Path) -> None:
    """The run without the part falls to 60 more images by gradients, and to 5 fewer by scores."""
    mine, without = Folder(tmp_path / "with"), Folder(tmp_path / "without")
    for each, white, scores in ((mine, 100, 305), (without, 160, 300)):
        each.add("T3", "pgd", first(white))
        each.add("T4", "patch_rs", first(scores), queries=9.0)
    without.add("T6", "label_search", first(900), queries=9.0)  # not run on the other
    cases = [Case(tuple(each.rows), each.store) for each in (mine, without)]
    assert gains("gir", cases[0], without=cases[1]) == [
        {"part": "gir", "tier": "T3", "images": 900, "with_only": 0, "without_only": 60},
        {"part": "gir", "tier": "T4", "images": 900, "with_only": 5, "without_only": 0},
    ]


def test_threats_are_cumulative(tmp_path: Path) -> None:
    mine = Folder(tmp_path)
    mine.add("T1", "gap", first(90), threat="T-A")
    case = Case(tuple(mine.rows), mine.store)
    assert by_threat(case)["T-C"] is None, "what no attack of its own was run for has no number"
    mine.add("T2", "sweep", first(50, skip=60), threat="T-B")
    mine.add("T4", "patch_rs", first(30, skip=200), threat="T-C")
    mine.add("T4", "other", first(10, skip=300), threat="a plug-in's own")
    found = by_threat(Case(tuple(mine.rows), mine.store))
    assert {threat: one and one.fooled for threat, one in found.items()} == {
        "T-A": 90, "T-B": 110, "T-C": 150,
    }  # fmt: skip
    assert [one and one.attacks for one in found.values()] == [1, 2, 4]


@pytest.mark.parametrize("how", ["repeated", "permuted", "single"])
def test_one_changed_label_is_a_random_path(folder: Folder, how: str) -> None:
    found = check(folder, 20)
    assert found.status == "pass"
    measured: dict[str, Json] = {"images": 200, "repeated": 0, "permuted": 0, "single": 0, how: 1}
    assert check(folder, 20, measured={"randomness": measured}).status == "flag"


def test_intervals_are_fractions_in_order(folder: Folder) -> None:
    found = judge(folder.rows, folder.store, suite=None, facts=FACTS, probes=probes())
    shown = [each.interval for each in found.checks if each.interval is not None]
    assert len(shown) >= 9
    assert np.all([-1.0 <= low <= high <= 1.0 for low, high in shown])
