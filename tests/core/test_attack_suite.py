"""What a suite plans for an engine, in which order, and what it refuses: without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qadtr_edge import replay, runs
from qadtr_edge.cli import (
    app,
    attack,
    attack_ablation,
    attack_answer,
    attack_names,
    attack_plan,
    attack_probes,
    attack_replay,
    attack_show,
    attack_suite,
    attack_verdict,
    options,
)
from qadtr_edge.cli.attack_plan import Plan
from qadtr_edge.cli.attack_replay import Cell
from qadtr_edge.cli.attack_search import Asked
from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.patch import bank
from qadtr_edge.patch.placement import Policy
from qadtr_edge.results import Store
from qadtr_edge.suite import SUITES, Line
from qadtr_edge.types import Json, Patch, Pixels
from qadtr_edge.verdict import case
from toy import CLASSES, Quadrants, pictures

TEST, CRAFT = pictures(60, split="test"), pictures(50, split="craft")
LINES = (
    Line("T1", "gap", ("twin", "other"), seeds=2, places=3),
    Line("T1", "gap", ("twin",), targets=2),
    Line("T1", "nothing", ("twin",)),
    Line("T2", "sweep", best=1, grid=4),
    Line("T4", "patch_rs", seeds=2, options={"queries": 30}),
)


def crafted(plan: Plan, name: str, *, bits: int) -> replay.Unit:
    """Stands for the crafting: a grey patch, the brighter the higher its seed."""
    if plan.victim == "other":
        raise BadInput("This checkpoint holds one width.", "Quantize another.")
    pixels = np.full((3, 4, 4), min(255, 140 + 100 * plan.seed), np.uint8)
    patch = Patch(pixels, np.ones((4, 4), bool), plan.target, {"attack": name, "seed": plan.seed})
    bank.save(patch, plan.run.patches / f"{bank.digest(patch)}.npz")
    said = replay.Attacked(name, "simulation", plan.victim, "T1", "T-A")
    return replay.Unit(said, patch, Policy("plain"), plan.seed)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(attack_plan, "crafted", crafted)
    monkeypatch.setattr(attack_probes, "measured", lambda plan, asked, *, work, suite: {})
    monkeypatch.setitem(SUITES, "quick", LINES)
    return Plan(
        run=runs.new_run(tmp_path / "runs"), names=(), given=(), patch_px=(4, 4), target=None,
        placement=None, victim="twin", steps=None, seed=0, batch=64, threads=1, test=TEST,
        craft=CRAFT, classes=len(CLASSES),
    )  # fmt: skip


@pytest.fixture
def store(plan: Plan) -> Store:
    return Store(plan.run.results, plan.run.labels)


def done(plan: Plan, store: Store, engine: Quadrants | None = None) -> Cell:
    return attack_replay.on_engine(plan, engine or Quadrants(), store=store, suite="quick")  # type: ignore[arg-type]


def test_every_line_becomes_rows_of_its_tier(plan: Plan, store: Store) -> None:
    found = done(plan, store).rows
    of = {tier: [row for row in found if row.tier == tier] for tier in ("T0", "T1", "T2", "T4")}
    free = [row for row in of["T1"] if row.target is None]
    assert sorted((row.patch_seed, row.seed) for row in free) == [
        (seed, place) for seed in (0, 1) for place in (0, 1, 2)
    ]
    assert [row.target for row in of["T1"] if row.target is not None] == [0, 2]
    assert [row.placement for row in of["T2"]] == ["sweep:4"]
    assert sorted(row.patch_seed for row in of["T4"]) == [0, 1]
    controls = [row for row in of["T0"] if row.placement == "plain" and row.target is None]
    assert {(row.attack, row.seed) for row in controls} == {
        (name, place) for name in ("grey", "noise", "crop", "shuffled") for place in range(5)
    }
    assert {row.attack for row in of["T0"] if row.placement == "sweep:4"} == {"grey", "noise"}


def test_what_cannot_be_made_or_is_not_there_is_said(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    done(plan, store)
    assert (
        "T1 gap on other is left out: This checkpoint holds one width." in capsys.readouterr().err
    )
    assert attack_suite.absent("quick") == ["nothing (T1)"]


def test_an_engine_that_gives_labels_only_is_attacked_by_labels(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    class LabelsOnly(Quadrants):
        def __call__(self, images: Pixels) -> np.ndarray:
            return np.eye(4, dtype=np.float32)[super().__call__(images).argmax(axis=1)]

    tiers = {row.tier for row in done(plan, store, LabelsOnly()).rows}
    assert tiers == {"T0", "T1", "T2"}
    told = capsys.readouterr().err
    assert "T4 patch_rs on this engine is left out: The engine answers every image with" in told


def test_the_best_patch_is_chosen_on_crafting_images(plan: Plan) -> None:
    """The labels of the scored images do not matter, those of the crafting images do."""

    def chosen(plan: Plan) -> Json:
        engine = Quadrants()
        subject = replay.Subject(engine, "q", plan.test)
        made = [crafted(replace(plan, seed=seed), "gap", bits=8) for seed in (0, 1)]
        (best,) = attack_suite._best(plan, Asked(subject, engine.facts), made, count=1)
        return best.patch.origin["seed"]

    assert chosen(plan) == 1
    spoilt = replace(plan, test=replace(TEST, labels=(TEST.labels + 1) % 4))
    assert chosen(spoilt) == 1
    dark = replace(CRAFT, images=255 - CRAFT.images, labels=3 - CRAFT.labels)
    assert chosen(replace(plan, craft=dark)) in (0, 1)


def test_a_suite_done_again_asks_nothing_but_what_chooses(plan: Plan, store: Store) -> None:
    first, lines = done(plan, store), store.lines.read_bytes()
    engine = Quadrants()
    assert done(plan, store, engine).rows == first.rows
    assert store.lines.read_bytes() == lines
    assert sum(engine.shown) == 50 + 50 * 4  # crafting images, clean and with each patch


def test_unions_by_tier_and_threat_make_the_headline(plan: Plan, store: Store) -> None:
    cell = done(plan, store)
    (width,) = attack_answer.answer([cell], store, suite="quick").widths
    found = case.Case(cell.rows, store)
    for tier, union in width.by_tier.items():
        rows = [row for row in cell.rows if row.tier == tier]
        assert (union is None) == (not rows)
        if union is not None:
            assert union.fooled == found.fooled(rows).sum()
    assert width.by_tier["T5"] is None
    assert width.worst is not None
    assert width.worst.fooled >= max(one.fooled for one in width.by_tier.values() if one)
    threats = [one for one in width.by_threat.values() if one]
    assert len(threats) == 3
    assert [one.fooled for one in threats] == sorted(one.fooled for one in threats)
    assert width.worst.fooled == threats[-1].fooled, "T-C may do all"
    assert width.white_box_leaves is False, "no white-box attack ran"


def test_a_white_box_attack_that_searches_beat_leaves_the_headline(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = done(plan, store)
    search = next(row for row in cell.rows if row.tier == "T4")
    weak = replace(search, key="weak", tier="T3", attack="pgd", knowledge="simulation")
    kept = store.outcomes(search.key)
    store.append(weak, replace(kept, patched=kept.clean))
    cell = replace(cell, rows=(*cell.rows, weak))
    answer = attack_answer.answer([cell], store, suite="quick")
    assert answer.as_json()["by_width"][0]["white_box_leaves_headline"] is True  # type: ignore[index,call-overload]
    attack_show.show(answer, class_names=CLASSES)
    assert "not to be quoted" in capsys.readouterr().out


def test_what_is_printed_and_stored(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = done(plan, store)
    answer = attack_answer.answer([cell], store, suite="quick")
    attack_show.show(answer, class_names=CLASSES)
    text = capsys.readouterr().out
    assert "quick suite" in text
    assert "gradient-free and label-only" in text
    assert "NOT RUN" in text
    assert "Verdict: incomplete" in text
    for _ in range(2):
        attack_verdict.write(plan.run, [cell], widths=answer.widths, suite="quick")
    attack_verdict.write(plan.run, [cell], widths=answer.widths, suite="full")
    document = json.loads((plan.run.folder / "verdict.json").read_text())
    assert [one["suite"] for one in document["cells"]] == ["quick", "full"]
    (stored, _) = document["cells"]
    assert len(stored["checks"]) == 24
    assert stored["by_tier"]["T4"]["fooled"] == answer.widths[0].by_tier["T4"].fooled  # type: ignore[union-attr]
    assert stored["worst_case_asr"] == answer.worst_case_asr
    known = attack_verdict.recorded(plan.run, engine="toy", bits=8, suite="quick")
    assert known["fooled"] == answer.widths[0].worst.fooled  # type: ignore[index,call-overload,union-attr]
    assert attack_verdict.recorded(plan.run, engine="toy", bits=8, suite="default") is None


def test_a_verdict_of_another_schema_is_refused(plan: Plan) -> None:
    (plan.run.folder / "verdict.json").write_text('{"schema": 9, "cells": []}')
    with pytest.raises(BadInput, match="schema 1"):
        attack_verdict.recorded(plan.run, engine="toy", bits=8, suite=None)


def test_a_baseline_is_compared_with(plan: Plan, store: Store) -> None:
    rows = done(plan, store).rows
    before = attack_verdict.baseline(plan.run, suite="quick")
    cell = Cell(Quadrants().facts, rows)
    (width,) = attack_answer.answer([cell], store, suite="quick", baseline=before).widths
    check = next(check for check in width.verdict.checks if check.number == 15)
    assert "no recorded rate" in check.figure
    empty = runs.new_run(plan.run.folder.parent)
    with pytest.raises(BadInput, match="no results"):
        attack_verdict.baseline(empty, suite=None)


def test_a_baseline_is_what_the_same_suite_found_of_it(plan: Plan, store: Store) -> None:
    """Rows of other attacks beside it are no part of the union that is compared."""
    cell = done(plan, store)
    wider = replace(plan, patch_px=(6, 6), searches=("patch_rs",), options={"queries": 60})
    attack_replay.on_engine(wider, Quadrants(), store=store)  # type: ignore[arg-type]
    assert len(attack_verdict.baseline(plan.run, suite="quick")[0]) > len(cell.rows)
    widths = attack_answer.answer([cell], store, suite="quick").widths
    attack_verdict.write(plan.run, [cell], widths=widths, suite="quick")
    rows, _ = attack_verdict.baseline(plan.run, suite="quick")
    assert {row.key for row in rows} == {row.key for row in cell.rows}


@pytest.mark.parametrize("suite", ["quick", "default", "full"])
def test_options_of_the_lines_are_those_of_their_attacks(suite: str) -> None:
    pytest.importorskip("torch")
    for line in SUITES[suite]:
        assert set(line.victims) <= set(options.VICTIMS)
        kind = attack_names.kind_of(line.attack)
        if kind is not None:
            assert set(line.options) <= set(attack_names.takes(kind, line.attack)), line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--attack", "gap"], "--attack"),
        (["--patch", "p.npz"], "--patch"),
        (["--steps", "3"], "--steps"),
        (["--queries", "3"], "--queries"),
        (["--victim", "float"], "--victim"),
    ],
)
def test_a_suite_takes_no_option_that_says_how(
    words: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(attack, "open_run", lambda *folders: opened.append(folders))
    asked = CliRunner().invoke(app, ["attack", "--suite", "quick", *words])
    assert isinstance(asked.exception, BadInput)
    assert named in asked.exception.fact
    assert not opened


def test_an_unknown_suite_is_named() -> None:
    asked = CliRunner().invoke(app, ["attack", "--suite", "quik"])
    assert isinstance(asked.exception, UnknownName)
    assert "quick" in asked.exception.remedy


def other(plan: Plan, name: str) -> Plan:
    """The plan for a run of its own."""
    folder = plan.run.folder.parent / name
    folder.mkdir()
    return replace(plan, run=runs.Run(folder))


def test_runs_without_a_part_are_compared_and_kept(plan: Plan, store: Store) -> None:
    """The same suite on an engine that is fooled otherwise; what it counted stands in the cell."""
    less = other(plan, "less")
    kept = Store(less.run.results, less.run.labels)
    before = done(less, kept, Quadrants(bias=6.0, digest="less"))
    widths = attack_answer.answer([before], kept, suite="quick").widths
    attack_verdict.write(less.run, [before], widths=widths, suite="quick")
    cell = done(plan, store)
    without = attack_ablation.read({"gir": less.run}, plan, engine="toy", bits=8, suite="quick")
    steps = attack_ablation.compared(cell, store, without=without)
    tiers = {step["tier"]: step for step in steps if isinstance(step, dict)}
    assert set(tiers) == {"T1", "T2", "T4"}
    assert tiers["T4"]["run"] == "less"
    cases = [case.Case(one.rows, each) for one, each in ((cell, store), (before, kept))]
    able = cases[0].able() & cases[1].able()
    mine, theirs = (one.fooled(one.of_tiers("T4"))[able] for one in cases)
    assert tiers["T4"]["images"] == able.sum()
    assert tiers["T4"]["with_only"] == (mine & ~theirs).sum()
    assert tiers["T4"]["without_only"] == (theirs & ~mine).sum()
    assert (mine != theirs).any()

    cell = replace(cell, probes={"ablation": steps})
    widths = attack_answer.answer([cell], store, suite="quick").widths
    check = next(check for check in widths[0].verdict.checks if check.number == 17)
    assert "gir needs T3" in check.figure
    attack_verdict.write(plan.run, [cell], widths=widths, suite="quick", baseline=less.run)
    (stored,) = json.loads((plan.run.folder / "verdict.json").read_text())["cells"]
    assert stored["compared"] == {"baseline": "less", "ablation": steps}


def test_what_cannot_be_compared_is_refused_with_the_command(plan: Plan, store: Store) -> None:
    less = other(plan, "less")
    parts = {"gir": less.run}

    def read(plan: Plan, suite: str = "quick") -> None:
        attack_ablation.read(parts, plan, engine="toy", bits=8, suite=suite)

    with pytest.raises(BadInput, match="was not attacked by the quick suite") as error:
        read(plan)
    assert "--suite quick --images 60" in error.value.remedy
    kept = Store(less.run.results, less.run.labels)
    before = done(less, kept)
    widths = attack_answer.answer([before], kept, suite="quick").widths
    attack_verdict.write(less.run, [before], widths=widths, suite="quick")
    read(plan)
    with pytest.raises(BadInput, match="by the full suite"):
        read(plan, "full")
    with pytest.raises(BadInput, match="on other images"):
        read(replace(plan, test=pictures(60, split="test", seed=4)))
    with pytest.raises(BadInput, match="another size") as error:
        read(replace(plan, patch_px=(3, 5)))
    assert "--patch-size 3x5" in error.value.remedy


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gir"], "names no run"), (["gir="], "names no run"), (["gri=less"], "gri"),
        (["gir=less", "gir=less"], "twice"), (["gir=nowhere"], "no run folder"),
    ],
)  # fmt: skip
def test_an_ablation_that_names_nothing_is_refused(plan: Plan, given: list[str], said: str) -> None:
    other(plan, "less")
    with pytest.raises(BadInput, match=said):
        attack_ablation.named(given, root=plan.run.folder.parent, suite="quick")
    with pytest.raises(BadInput, match="for the checks of a suite"):
        attack_ablation.named(["gir=less"], root=plan.run.folder.parent, suite=None)
