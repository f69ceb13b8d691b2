"""What a report says of rows together: transfer over networks, equality, places, families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reported
from qadtr_edge import metrics, resampling, runs, statistics
from qadtr_edge.analysis.finding import Table
from qadtr_edge.report import (
    attacked,
    curves,
    document,
    equal,
    evidence,
    headline,
    matrix,
    pictures,
    transferred,
)
from qadtr_edge.report.section import Section
from qadtr_edge.results import Answers, Outcomes, Store


def composed(run: runs.Run) -> document.Document:
    return document.compose(evidence.read(run))


def named(section: Section, title: str) -> list[dict[str, str]]:
    table: Table = next(one for one in section.tables if one.title.startswith(title))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def outcomes(run: runs.Run) -> list[Outcomes]:
    store = Store(run.results, run.labels)
    return [store.outcomes(row.key) for row in store.rows()]


@pytest.fixture
def surrogates(tmp_path: Path) -> runs.Run:
    """Three patches: of the twin, of the float network, and of that at other places."""
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    reported.again(run, "gap", victim="fp32", knowledge="surrogate")
    reported.again(run, "gap", victim="fp32", knowledge="surrogate", seed=1)
    return run


def test_aggregated_is_the_strongest_and_any_a_union_of_first_tries(surrogates: runs.Run) -> None:
    found = {one.judge: one for one in matrix.reached(composed(surrogates))}
    assert set(found) == {"ort 8-bit", "simulation 8-bit"}
    each = outcomes(surrogates)
    for judge, (clean, patched) in {
        "ort 8-bit": ("clean", "patched"), "simulation 8-bit": ("sim_clean", "sim_patched"),
    }.items():  # fmt: skip
        truth = each[0].truth
        able = getattr(each[0], clean).labels == truth
        won = [able & (getattr(one, patched).labels != truth) for one in each]
        rates = {"twin-w8a8": won[0].sum() / able.sum(),
                 "fp32": (won[1].sum() + won[2].sum()) / (2 * able.sum())}  # fmt: skip
        one = found[judge]
        assert one.aggregated == pytest.approx(max(rates.values()))
        assert one.strongest == max(rates, key=lambda name: rates[name])
        assert one.as_json()["asr_any"] == pytest.approx((won[0] | won[1]).sum() / able.sum())
        assert one.surrogates == 2


def test_the_worst_row_and_the_diagonal_are_marked(surrogates: runs.Run) -> None:
    section = transferred.transfer(composed(surrogates))
    rows = named(section, "Transfer")
    real = {row["crafted on"]: float(row["ASR [95 %]"].split()[0]) for row in rows
            if row["kind"] == "engine"}  # fmt: skip
    worst = max(real, key=lambda name: real[name])
    marks = {(row["crafted on"], row["judged on"]): row["in the matrix"] for row in rows}
    for (victim, _), mark in marks.items():
        assert ("worst row" in mark) is (victim == worst)
        assert ("diagonal" in mark) is (victim == "twin-w8a8")
    assert f"Worst row: {worst}" in section.figures[0].said


def test_labels_that_are_gone_leave_the_counts(surrogates: runs.Run) -> None:
    for path in surrogates.labels.glob("*.npz"):
        path.unlink()
    section = transferred.transfer(composed(surrogates))
    assert {row["any ASR [95 %]"] for row in named(section, "Over all")} == {"not run"}
    assert "%" in named(section, "Over all")[0]["aggregated ASR"]
    assert equal.tested(composed(surrogates)) == []


def alike(run: runs.Run, n: int, *, sim_only: int, engine_only: int) -> None:
    """One row of ``n`` images all right when clean, half of them fooled on both, some on one."""
    store = Store(run.results, run.labels)
    (row,) = store.rows()
    truth = np.zeros(n, np.int64)
    at = np.arange(n)
    zero = np.zeros(n, np.float32)
    both = at < n // 2
    sim = Answers(np.where(both | (at >= n - sim_only), 1, 0), zero)
    real = Answers(np.where(both | ((at >= n // 2) & (at < n // 2 + engine_only)), 1, 0), zero)
    clean = Answers(truth, zero)
    seen = Outcomes(at, truth, clean, real, clean, sim)
    made = reported.row_of("gap", "ort", bits=8, outcomes=seen)
    same = {name: getattr(row, name) for name in ("engine_digest", "patch_digest", "data_digest")}
    store.append(replace(made, key=row.key, **same), seen)


@pytest.mark.parametrize(
    ("n", "sim_only", "engine_only", "equivalent"),
    [(1000, 5, 5, True), (1000, 30, 30, False), (1000, 25, 0, False), (100, 0, 0, False),
     (8000, 30, 30, True)],
)  # fmt: skip
def test_equal_is_shown_where_so_many_images_can_show_it(
    tmp_path: Path, n: int, sim_only: int, engine_only: int, *, equivalent: bool
) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    alike(run, n, sim_only=sim_only, engine_only=engine_only)
    (found,) = equal.tested(composed(run))
    assert (found.found.difference.first_only, found.found.difference.n) == (sim_only, n)
    assert found.as_json()["equivalent"] is equivalent
    said = attacked.simulation(composed(run)).said[1]
    assert said == found.said
    assert ("engine equals simulation within 1 point." in said) is equivalent
    needed = 100 * statistics.discordance_bound(n)
    assert f"fewer than {needed:.2g} % of them differ" in said
    assert ("indicative" in said) is (n < 1000)


def test_what_so_many_images_can_show_is_what_the_test_can() -> None:
    """At no net difference the test succeeds just below the bound, and fails just above it."""
    assert statistics.discordance_bound(1000) == pytest.approx(0.037, abs=5e-4)
    assert statistics.discordance_bound(7980) == pytest.approx(0.295, abs=5e-4)
    for n in (2000, 7980, 20_000):
        bound = statistics.discordance_bound(n) * n
        for share, shown in ((0.94, True), (1.04, False)):
            half = int(share * bound / 2)
            assert statistics.equivalence(half, half, n=n).equivalent is shown


def test_p_values_of_a_page_are_one_family(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8, 4), attacks=("gap", "sweep", "grey"))
    section = attacked.simulation(composed(run))
    rows = named(section, "Simulation against engine")
    assert f"Holm over the {len(rows)} rows tested" in section.said[0]
    counts = [row.counts for row in Store(run.results, run.labels).rows()]
    tested = [metrics.mcnemar(one.sim_only or 0, one.engine_only or 0) for one in counts]
    smallest = min(tested)
    shown = next(row for row in rows if row["p"] == f"{smallest:.2g}")
    assert shown["p (Holm)"] == f"{min(1.0, len(rows) * smallest):.2g}"
    for row in rows:
        agreed = map(int, row["both / neither"].split(" / "))
        assert sum(agreed) + int(row["sim only"]) + int(row["engine only"]) == int(row["n"])


def test_places_are_averaged_by_image(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap", "grey"), n=60)
    assert not [t for t in attacked.by_width(composed(run)).tables if "places and seeds" in t.title]
    for seed in (1, 2):
        reported.again(run, "gap", seed=seed)
        reported.again(run, "grey", seed=seed)
    (line,) = named(attacked.by_width(composed(run)), "Attack success over places and seeds")
    assert (line["rows"], line["patches"]) == ("3", "1")
    rows = [row for row in Store(run.results, run.labels).rows() if row.attack == "gap"]
    rates = [row.counts.fooled / row.counts.eligible for row in rows]
    assert line["least to most"] == f"{100 * min(rates):.1f} to {100 * max(rates):.1f} %"
    each = [one for one, row in zip(outcomes(run), Store(run.results, run.labels).rows(),
                                    strict=True) if row.attack == "gap"]  # fmt: skip
    able = each[0].clean.labels == each[0].truth
    won = np.concatenate([(one.patched.labels != one.truth)[able] for one in each]).astype(float)
    found = resampling.difference(won, 0 * won, ids=np.tile(each[0].ids[able], 3))
    assert line["mean ASR [95 %]"] == (
        f"{100 * won.mean():.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    )
    assert line["mean excess [95 %]"].endswith("points")


def test_success_over_places_is_a_union_of_the_first_patch(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    reported.again(run, "gap", seed=1)
    reported.again(run, "gap", seed=1, patch_seed=1)
    found = curves.curves(composed(run), pictures.sources(evidence.read(run), root=None))
    rates = [row["ASR"] for row in named(found, "Attack success over draws of places")]
    first, second, _ = outcomes(run)
    able = first.clean.labels == first.truth
    won = [able & (one.patched.labels != one.truth) for one in (first, second)]
    expected = [won[0].sum() / able.sum(), (won[0] | won[1]).sum() / able.sum()]
    assert rates == [f"{100 * rate:.1f} %" for rate in expected]
    assert "curve-places" in [one.name for one in found.figures]


def test_success_by_the_lead_a_patch_is_kept_at(tmp_path: Path) -> None:
    """On the images right on both, so that the two lines differ by what transfer lost alone."""
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("pgd",))
    rows = {kappa: reported.again(run, "pgd", kappa=kappa) for kappa in (0.0, 3.0)}
    found = curves.curves(composed(run), pictures.sources(evidence.read(run), root=None))
    lines = {(row["attack"].rpartition(", ")[2], row["lead in logits a patch is kept at"]):
             row["ASR"] for row in named(found, "Attack success over lead in logits")}  # fmt: skip
    for kappa, row in rows.items():
        counts = row.counts
        assert counts.both_eligible
        for side, alone in (("simulation", counts.sim_only), ("engine", counts.engine_only)):
            share = ((counts.both_fooled or 0) + (alone or 0)) / counts.both_eligible
            assert lines[side, f"{kappa:g}"] == f"{100 * share:.1f} %"


def test_a_patch_that_brings_its_place_has_no_control(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap", "pgd", "grey"))
    excess = {row.result.attack: row.asr_excess for row in composed(run).rows}
    assert excess["pgd"] is None
    assert excess["gap"] is not None


def test_a_white_box_attack_that_searches_beat_is_not_quoted(tmp_path: Path) -> None:
    """Here it fools most by itself, and misses images that the search finds."""
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("pgd", "patch_rs"))
    alone = reported.folder(tmp_path / "alone", widths=(8,), attacks=("pgd",))
    store = Store(run.results, run.labels)
    pgd, search = (next(row for row in store.rows() if row.attack == name)
                   for name in ("pgd", "patch_rs"))  # fmt: skip
    kept = store.outcomes(pgd.key)
    able = kept.clean.labels == kept.truth
    won = store.outcomes(search.key).patched.labels != kept.truth
    spared = np.flatnonzero(able & won)[0]
    most = np.where(np.arange(len(able)) == spared, kept.truth, (kept.truth + 1) % 12)
    made = replace(kept, patched=Answers(most, kept.patched.margins))
    row = reported.row_of("pgd", "ort", bits=8, outcomes=made)
    store.append(replace(pgd, counts=row.counts), made)
    (line,) = (one for one in composed(run).lines if one.engine.bits == 8)
    assert line.strongest is not None
    assert line.strongest.result.attack == "patch_rs"
    assert line.strongest.asr < row.counts.fooled / row.counts.eligible
    assert line.as_json()["white_box_leaves_headline"] is True
    assert line.worst is not None
    assert line.worst.fooled == able.sum(), "its images still count in the union"
    assert "its white-box attack is not quoted" in " ".join(headline.headline(composed(run)).said)
    (line,) = (one for one in composed(alone).lines if one.engine.bits == 8)
    assert line.strongest is not None
    assert line.strongest.result.attack == "pgd"


def test_the_worst_case_says_over_which_sizes_and_copies_it_is(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    reported.again(run, "gap", seed=1, patch_rows_px=8, patch_columns_px=8)
    reported.again(run, "gap", seed=2, placement="random*3")
    said = " ".join(headline.headline(composed(run)).said)
    assert "3 attacks, patches of 6 px, 6 px in 3 copies, 8 px taken together" in said
