"""What ``attack`` runs and what it answers, without an engine or a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import handmade
from qadtr_edge import metrics, replay, runs
from qadtr_edge.attacks.controls import OCCLUSION
from qadtr_edge.cli import (
    app,
    attack,
    attack_answer,
    attack_plan,
    attack_replay,
    attack_show,
    patch_form,
)
from qadtr_edge.cli.attack_plan import Plan
from qadtr_edge.cli.attack_replay import Cell
from qadtr_edge.errors import BadInput, EngineFailed, UnknownName
from qadtr_edge.files import digest
from qadtr_edge.integer import graph_file
from qadtr_edge.patch import bank
from qadtr_edge.results import Store
from qadtr_edge.types import Patch, Result
from toy import CLASSES, Quadrants, pictures

TEST, CRAFT = pictures(150, split="test"), pictures(60, split="craft")


def patch(value: int, *, target: int | None = None, side: int = 6) -> Patch:
    return Patch(
        np.full((3, side, side), value, np.uint8), np.ones((side, side), bool), target,
        {"attack": "gap", "seed": 2, "victim": "v", "victim_name": "twin-w8a8"},
    )  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        run=runs.new_run(tmp_path / "runs"), names=(), given=(patch(255),), patch_px=(6, 6),
        target=None, placement=None, victim="twin", steps=None, seed=0, batch=64, threads=1,
        test=TEST, craft=CRAFT, classes=len(CLASSES),
    )  # fmt: skip


@pytest.fixture
def store(plan: Plan) -> Store:
    return Store(plan.run.results, plan.run.labels)


def done(plan: Plan, store: Store) -> list[Result]:
    return list(attack_replay.on_engine(plan, Quadrants(), store=store).rows)  # type: ignore[arg-type]


def answered(rows: list[Result], store: Store) -> attack_answer.Answer:
    return attack_answer.answer([Cell(Quadrants().facts, tuple(rows))], store)


def test_a_given_patch_is_replayed_beside_its_controls(plan: Plan, store: Store) -> None:
    found = done(plan, store)
    assert [row.attack for row in found] == ["gap", "grey", "noise", "crop", "shuffled"]
    assert [row.tier for row in found] == ["T1", *["T0"] * 4]
    assert {row.placement for row in found} == {"random"}
    assert found[0].patch_seed == 2
    assert found[0].knowledge == "surrogate"
    assert {row.knowledge for row in found[1:]} == {"none"}


def test_the_clean_answers_are_announced(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    done(plan, store)
    told = capsys.readouterr()
    assert "clean answers to 150 images" in told.err
    assert told.out == ""


def test_doing_it_again_asks_the_engine_nothing(plan: Plan, store: Store) -> None:
    found, lines = done(plan, store), store.lines.read_bytes()
    engine = Quadrants()
    again = attack_replay.on_engine(plan, engine, store=store)  # type: ignore[arg-type]
    assert list(again.rows) == found
    assert engine.shown == []
    assert store.lines.read_bytes() == lines


def test_the_headline_is_the_union_over_attacks_per_image(plan: Plan, store: Store) -> None:
    found = done(plan, store) + done(replace(plan, given=(patch(0),)), store)
    answer = answered(found, store)
    attacks = [row for row in found if row.tier != "T0"]
    fooled = np.zeros(len(TEST), bool)
    for row in attacks:
        outcomes = store.outcomes(row.key)
        able = outcomes.clean.labels == TEST.labels
        fooled |= able & (outcomes.patched.labels != TEST.labels)
    assert answer.worst_case_asr == fooled.sum() / able.sum()
    assert answer.worst_case_asr > max(metrics.rate(r.counts.fooled, r.counts.eligible)
                                       for r in attacks)  # fmt: skip
    occlusion = [row.counts.fooled for row in found if row.attack in OCCLUSION]
    assert answer.widths[0].occlusion_asr == max(occlusion) / able.sum()


def test_headline_and_occlusion_count_any_wrong_label(plan: Plan, store: Store) -> None:
    """A targeted row counts hits of its target; what stands at the top must be comparable."""
    free, aimed = done(plan, store), done(replace(plan, given=(patch(255, target=2),)), store)
    assert aimed[0].counts.fooled < free[0].counts.fooled
    first, second = (answered(found, store).widths[0] for found in (free, aimed))
    assert first.worst_case_asr == second.worst_case_asr
    assert first.occlusion_asr == second.occlusion_asr


def test_the_document_is_json_with_the_stable_names(plan: Plan, store: Store) -> None:
    document = answered(done(plan, store), store).as_json()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert {"results", "clean_accuracy", "occlusion_asr", "worst_case_asr", "verdict"} <= set(again)
    assert again["verdict"] == "incomplete"
    assert "gradient-free" in again["verdict_reason"]
    assert [check["number"] for check in again["checks"]] == [*range(1, 25)]
    assert again["by_width"][0]["worst_case_asr"] == again["worst_case_asr"]


def test_several_widths_give_the_worst_of_each(plan: Plan, store: Store) -> None:
    found = done(plan, store)
    facts = Quadrants().facts
    narrow = [replace(row, bits=4, counts=replace(row.counts, clean_correct=20)) for row in found]
    cells = [Cell(facts, tuple(found)), Cell(replace(facts, bits=4), tuple(narrow))]
    document = attack_answer.answer(cells, store).as_json()
    assert document["clean_accuracy"] == 20 / 150
    assert len(document["by_width"]) == 2  # type: ignore[arg-type]


def test_the_table_prints(plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = done(replace(plan, given=(patch(255, target=2),)), store)
    attack_show.show(answered(found, store), class_names=CLASSES)
    text = capsys.readouterr().out
    assert "south west" in text
    assert "Verdict: incomplete" in text
    assert "toy 8-bit" in text


def test_controls_alone_have_no_headline(plan: Plan, store: Store) -> None:
    found = done(replace(plan, given=()), store)
    assert [row.attack for row in found] == ["grey", "noise", "crop"]
    answer = answered(found, store)
    assert answer.worst_case_asr is None
    with pytest.raises(BadInput, match="controls"):
        attack._enforce(answer.worst_case_asr, 0.5)


def test_controls_run_once_for_each_setting(plan: Plan) -> None:
    given = [
        replay.Unit(replay.Attacked("a", "none", "v", tier="T1", threat="T-A"), made, how, 0)
        for made, how in (
            (patch(1), plan.policy("random")),
            (patch(2), plan.policy("random")),
            (patch(2), plan.policy("plain")),
            (patch(2, target=1), plan.policy("plain")),
        )
    ]
    units = list(attack_plan.control_units(plan, given))
    names = [unit.attacked.name for unit in units]
    assert names.count("shuffled") == 4
    assert [names.count(name) for name in OCCLUSION] == [3, 3, 3]


def test_what_the_maker_knew_follows_from_the_digest(plan: Plan, store: Store) -> None:
    plan.run.checkpoint.write_bytes(b"weights")
    known = f"{digest(plan.run.checkpoint)}@8"
    given = replace(patch(255), origin={"attack": "gap", "victim": known})
    (unit,) = attack_plan.units(replace(plan, given=(given,)), 8)
    assert unit.attacked.knowledge == "simulation"
    (other,) = attack_plan.units(replace(plan, given=(given,)), 4)
    assert other.attacked.knowledge == "surrogate"


def test_a_picture_without_a_past_is_a_file(plan: Plan, tmp_path: Path) -> None:
    bank.save(patch(9), tmp_path / "p.npz")
    given = bank.load(tmp_path / "p.png")
    (unit,) = attack_plan.units(replace(plan, given=(given,), target=3), 8)
    assert unit.attacked.name == "file"
    assert unit.patch.target == 3
    (plain,) = attack_plan.units(replace(plan, given=(given,), placement="plain"), 8)
    assert plain.policy.name == "plain"
    (kept,) = plan.run.patches.glob("given-*.npz")  # whoever gets the run folder has the patch too
    assert bank.digest(bank.load(kept)) == bank.digest(given)


def test_a_run_of_a_file_without_a_named_data_set_asks_for_one(plan: Plan) -> None:
    graph_file.save(handmade.plain(), plan.run.graph(8))
    with pytest.raises(BadInput, match="which data set") as caught:
        attack_plan.source(plan.run, None)
    assert "--data" in caught.value.remedy


def test_a_target_beyond_the_classes_is_refused(plan: Plan) -> None:
    with pytest.raises(BadInput, match="class 4"):
        list(attack_plan.units(replace(plan, given=(patch(1, target=4),)), 8))


def test_a_patch_that_does_not_fit_is_refused_before_any_work(plan: Plan) -> None:
    large = replace(plan, given=(patch(1, side=20),), patch_px=(20, 20))
    with pytest.raises(BadInput, match="larger than"):
        list(attack_plan.units(large, 8))
    with pytest.raises(BadInput, match="larger than"):
        list(attack_plan.control_units(replace(large, given=()), []))


@pytest.mark.parametrize(
    ("text", "image_px", "px"),
    [(None, 32, (6, 6)), (None, 224, (50, 50)), ("8", 32, (8, 8)), ("4x12", 32, (4, 12))],
)
def test_patch_sizes(text: str | None, image_px: int, px: tuple[int, int]) -> None:
    assert patch_form.patch_px(text, image_px=image_px) == px


@pytest.mark.parametrize("text", ["0", "6x0", "-3", "six", "6x", "", "6.5"])
def test_what_is_no_patch_size(text: str) -> None:
    with pytest.raises(BadInput, match="patch size"):
        patch_form.patch_px(text, image_px=32)


def test_classes_by_name_or_number() -> None:
    assert attack_plan.class_of("south west", CLASSES) == 2
    assert attack_plan.class_of("3", CLASSES) == 3
    for text in ("4", "south wst"):
        with pytest.raises(UnknownName, match="south west"):
            attack_plan.class_of(text, CLASSES)


def test_the_threshold_exits_1_only_above() -> None:
    attack._enforce(0.4, 0.4)
    attack._enforce(0.9, None)
    with pytest.raises(attack.typer.Exit) as stop:
        attack._enforce(0.41, 0.4)
    assert stop.value.exit_code == 1


def test_data_with_other_classes_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(names: tuple[str, ...]) -> None:
        monkeypatch.setattr(attack_plan, "_known_classes", lambda run: (4, names))

    known(CLASSES)
    assert attack_plan.classes_of(plan.run, TEST) == 4
    numbered = replace(TEST, class_names=("0", "1", "2"))
    assert attack_plan.classes_of(plan.run, numbered) == 4
    for names in (tuple(map(str, range(50))), CLASSES[:3]):
        with pytest.raises(BadInput, match=f"{len(names)} classes .* knows 4"):
            attack_plan.classes_of(plan.run, replace(TEST, class_names=names))
    with pytest.raises(BadInput, match="Class 0"):
        attack_plan.classes_of(plan.run, replace(TEST, class_names=CLASSES[::-1]))
    known(())
    assert attack_plan.classes_of(plan.run, replace(TEST, class_names=CLASSES[::-1])) == 4


def test_an_engine_with_another_number_of_logits_is_refused(plan: Plan, store: Store) -> None:
    with pytest.raises(EngineFailed, match="5 classes"):
        done(replace(plan, classes=5), store)
    assert store.rows() == ()


def test_engines_of_another_checkpoint_are_refused(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan.run
    run.checkpoint.write_bytes(b"weights")
    made_from = {"checkpoint": digest(run.checkpoint)}
    graph = SimpleNamespace(source=made_from)
    monkeypatch.setattr(attack_plan.graph_file, "load", lambda path: graph)
    run.graphs.mkdir(exist_ok=True)
    run.graph(8).touch()
    attack_plan.require_fresh(run, 8)
    run.checkpoint.write_bytes(b"newer")
    attack_plan.require_fresh(run, 4)
    with pytest.raises(BadInput, match="another checkpoint"):
        attack_plan.require_fresh(run, 8)
    run.checkpoint.unlink()
    attack_plan.require_fresh(run, 8)


@pytest.mark.parametrize("option", [["--attack", "gap"], ["--steps", "3"], ["--victim", "float"]])
def test_a_given_patch_is_not_crafted(tmp_path: Path, option: list[str]) -> None:
    asked = CliRunner().invoke(app, ["attack", "--patch", str(tmp_path / "p.npz"), *option])
    assert isinstance(asked.exception, BadInput)
    assert asked.exception.fact.startswith(option[0])


@pytest.mark.parametrize(
    "words",
    [
        ["--patch-size", "six"],
        ["--placement", "fixd:1,2"],
        ["--victim", "twn"],
        ["--attack", "controls", "--max-asr", "0.5"],
    ],
)
def test_words_are_checked_before_the_run_is_opened(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(attack, "open_run", lambda *folders: opened.append(folders))
    asked = CliRunner().invoke(app, ["attack", *words])
    assert isinstance(asked.exception, BadInput)
    assert not opened


def test_results_that_cannot_be_read_are_refused_first(plan: Plan) -> None:
    plan.run.results.write_text('{"schema": 99, "counts": {}}\n')
    asked = CliRunner().invoke(app, ["attack", "--run", str(plan.run.folder)])
    assert isinstance(asked.exception, BadInput)
    assert "schema 99" in asked.exception.fact


@pytest.mark.parametrize("verb", ["attack", "bench", "export", "quantize", "train", "verify"])
@pytest.mark.parametrize("bits", ["", " , "])
def test_bits_without_a_width_are_refused_by_every_verb(verb: str, bits: str) -> None:
    asked = CliRunner().invoke(app, [verb, "--bits", bits])
    assert isinstance(asked.exception, BadInput)
    assert "--bits" in asked.exception.fact
