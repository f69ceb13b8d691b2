"""What ``attack --attack sweep,patch_rs`` runs, answers and refuses, without an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qadtr_edge import runs
from qadtr_edge.cli import app, attack, attack_answer, attack_replay, attack_show
from qadtr_edge.cli.attack_plan import Plan
from qadtr_edge.cli.attack_replay import Cell
from qadtr_edge.errors import BadInput, EngineFailed, QadtrError, Unsupported
from qadtr_edge.results import Store
from qadtr_edge.types import Patch, Pixels, Result
from toy import CLASSES, Quadrants, pictures

TEST, CRAFT = pictures(60, split="test"), pictures(60, split="craft")
GIVEN = Patch(
    np.full((3, 4, 4), 255, np.uint8), np.ones((4, 4), bool), None,
    {"attack": "gap", "seed": 2, "victim": "v", "victim_name": "twin-w8a8"},
)  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        run=runs.new_run(tmp_path / "runs"), names=(), given=(GIVEN,), patch_px=(4, 4), target=None,
        placement=None, victim="twin", steps=None, seed=0, batch=64, threads=1, test=TEST,
        craft=CRAFT, classes=len(CLASSES), searches=("sweep", "patch_rs"),
        options={"queries": 40, "stride": 3},
    )  # fmt: skip


@pytest.fixture
def store(plan: Plan) -> Store:
    return Store(plan.run.results, plan.run.labels)


def done(plan: Plan, store: Store, engine: Quadrants | None = None) -> list[Result]:
    cell = attack_replay.on_engine(plan, engine or Quadrants(), store=store)  # type: ignore[arg-type]
    return list(cell.rows)


def answered(rows: list[Result], store: Store) -> attack_answer.Answer:
    return attack_answer.answer([Cell(Quadrants().facts, tuple(rows))], store)


def test_searches_stand_beside_the_patch_and_controls_that_had_as_many_tries(
    plan: Plan, store: Store
) -> None:
    rows = answered(done(plan, store), store).rows
    by_name = {(row.result.attack, row.result.placement): row for row in rows}
    assert set(by_name) == {
        ("gap", "random"), ("sweep", "sweep:3"), ("patch_rs", "searched"),
        ("grey", "random"), ("noise", "random"), ("crop", "random"), ("shuffled", "random"),
        ("grey", "sweep:3"), ("noise", "sweep:3"),
    }  # fmt: skip
    swept, walked = by_name["sweep", "sweep:3"], by_name["patch_rs", "searched"]
    assert (swept.result.tier, swept.result.threat, swept.result.knowledge) == (
        "T2", "T-B", "labels",
    )  # fmt: skip
    assert swept.result.victim == "gap on twin-w8a8"
    assert swept.result.patch_seed == 2
    assert (walked.result.tier, walked.result.threat, walked.result.knowledge) == (
        "T4", "T-C", "scores",
    )  # fmt: skip
    assert walked.result.victim == "toy-w8a8"
    assert walked.control is None
    assert swept.control is not None
    matched = [by_name[name, "sweep:3"].asr for name in ("grey", "noise")]
    assert swept.asr_excess == swept.asr - max(matched)
    assert swept.asr > by_name["gap", "random"].asr
    for row in rows:
        asked = row.result.placement != "random"
        assert (row.result.queries_median is not None) == asked


def test_doing_it_again_asks_the_clean_answers_at_most(plan: Plan, store: Store) -> None:
    found, lines = done(plan, store), store.lines.read_bytes()
    engine = Quadrants()
    assert done(plan, store, engine) == found
    assert sum(engine.shown) == 0
    assert store.lines.read_bytes() == lines


def test_an_interrupted_command_ends_with_the_same_results(plan: Plan, store: Store) -> None:
    class Stopped(Quadrants):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.after = after

        def __call__(self, images: Pixels) -> np.ndarray:
            if len(self.shown) == self.after:
                raise KeyboardInterrupt
            return super().__call__(images)

    whole = replace(plan, run=runs.new_run(plan.run.folder.parent))
    straight = Store(whole.run.results, whole.run.labels)
    done(whole, straight)
    for after in (1, 20, 50, 80, 46):  # what was finished is not asked again: the last is a replay
        with pytest.raises(KeyboardInterrupt):
            done(plan, store, Stopped(after))
    assert store.rows() != ()
    done(plan, store)
    assert store.lines.read_bytes() == straight.lines.read_bytes()


def test_the_verdict_names_what_was_not_run(plan: Plan, store: Store) -> None:
    swept = answered(done(replace(plan, searches=("sweep",)), store), store).verdict
    assert swept.name == "incomplete"
    assert "no search by scores" in swept.reason
    both = answered(done(plan, store), store).verdict
    assert "no search by scores" not in both.reason
    assert "no attack by labels alone" in both.reason


def test_the_table_names_places_and_queries(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    attack_show.show(answered(done(plan, store), store), class_names=CLASSES)
    text = capsys.readouterr().out
    assert "places" in text
    assert "sweep:3" in text
    assert "queries" in text
    alone = done(replace(plan, searches=()), store)
    attack_show.show(answered(alone, store), class_names=CLASSES)
    text = capsys.readouterr().out
    assert "places" not in text
    assert "queries" not in text


def test_searches_push_to_the_target_of_the_given_patch(plan: Plan, store: Store) -> None:
    found = done(replace(plan, given=(replace(GIVEN, target=2),)), store)
    assert {row.target for row in found} == {2}


def test_a_search_alone_runs_beside_controls(plan: Plan, store: Store) -> None:
    found = done(replace(plan, given=(), searches=("patch_rs",)), store)
    assert [row.attack for row in found] == ["patch_rs", "grey", "noise", "crop"]


def test_coarse_scores_are_told(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    class Coarse(Quadrants):
        def __call__(self, images: Pixels) -> np.ndarray:
            return np.floor(super().__call__(images) / 16.0)

    done(replace(plan, searches=("patch_rs",)), store)
    assert "are coarse" not in capsys.readouterr().err
    done(replace(plan, searches=("patch_rs",)), store, Coarse(digest="coarse"))
    assert "are coarse" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sweep", "patch_rs"])
def test_engines_that_cannot_be_searched_are_one_sentence(
    plan: Plan, store: Store, name: str
) -> None:
    class Broken(Quadrants):
        def __call__(self, images: Pixels) -> np.ndarray:
            logits = super().__call__(images)
            return logits if len(self.shown) == 1 else logits * np.float32(np.nan)

    only = replace(plan, searches=(name,))
    with pytest.raises(EngineFailed, match="not finite"):
        done(only, store, Broken())
    wrong = replace(only, test=replace(TEST, labels=(TEST.labels + 1) % 4))
    with pytest.raises(BadInput, match="right on none"):
        done(wrong, store)

    class LabelsOnly(Quadrants):
        def __call__(self, images: Pixels) -> np.ndarray:
            return np.eye(4, dtype=np.float32)[super().__call__(images).argmax(axis=1)]

    if name == "sweep":
        assert done(only, store, LabelsOnly())[1].attack == "sweep"
    else:
        with pytest.raises(Unsupported, match="same scores") as caught:
            done(only, store, LabelsOnly())
        assert isinstance(caught.value, QadtrError)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--attack", "gap", "--queries", "5"], "--queries"),
        (["--attack", "sweep", "--queries", "5"], "--queries"),
        (["--attack", "patch_rs", "--stride", "2"], "--stride"),
        (["--stride", "2"], "--stride"),
        (["--attack", "sweeep"], "sweeep"),
        (["--attack", "gap,sweep", "--patch", "p.npz"], "--attack"),
        (["--attack", "sweep", "--patch", "p.npz", "--steps", "3"], "--steps"),
    ],
)
def test_options_that_say_nothing_are_refused_before_the_run_is_opened(
    words: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(attack, "open_run", lambda *folders: opened.append(folders))
    asked = CliRunner().invoke(app, ["attack", *words])
    assert isinstance(asked.exception, BadInput)
    assert named in asked.exception.fact
    assert not opened
