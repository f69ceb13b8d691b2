"""A search is kept, goes on where it was interrupted, and is judged again from what was stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qadtr_edge import metrics, search
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.queries import Search
from qadtr_edge.attacks.sweep import Sweep
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.patch import placed
from qadtr_edge.patch.placement import Policy
from qadtr_edge.replay import Attacked, Subject, Unit, replay
from qadtr_edge.types import Patch, Pixels, PlacedPatches
from toy import Quadrants, pictures

DATA = pictures(90, split="test")
WHITE = Patch(np.full((3, 3, 3), 255, np.uint8), np.ones((3, 3), bool), None, {"seed": 4})
SEARCHES: list[Search] = [PatchRs(patch_px=(3, 3), queries=30), Sweep(WHITE, stride=4)]


def run(
    attack: Search, folder: Path, *, engine: object = None, batch: int = 64, told: object = None
) -> PlacedPatches:
    subject = Subject(engine or Quadrants(), "e", DATA, batch)  # type: ignore[arg-type]
    say = told or (lambda count, note: None)
    return search.search(attack, subject, folder=folder, seed=0, told=say)  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", SEARCHES)
def test_parts_leave_no_trace(
    attack: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(attack, tmp_path / "whole")
    monkeypatch.setattr(search, "PART", 40)
    run(attack, tmp_path / "parts", batch=7)
    (whole,), (parts,) = ((tmp_path / name).glob("*") for name in ("whole", "parts"))
    assert whole.name == parts.name
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("attack", SEARCHES)
@pytest.mark.parametrize("after", [0, 3, 20, 40])
def test_what_was_interrupted_ends_as_what_was_not(
    attack: Search, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PART", 40)
    run(attack, tmp_path / "a")

    class Stopped(Quadrants):
        def __call__(self, images: Pixels) -> np.ndarray:
            if len(self.shown) >= after + 2:  # two calls for the clean answers
                raise KeyboardInterrupt
            return super().__call__(images)

    engine = Stopped()
    with pytest.raises(KeyboardInterrupt):
        run(attack, tmp_path / "b", engine=engine)
    run(attack, tmp_path / "b")
    (one,), (other,) = ((tmp_path / name).glob("*") for name in ("a", "b"))
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_a_finished_part_is_not_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PART", 40)
    whole, rest = Quadrants(), Quadrants()
    run(SEARCHES[1], tmp_path, engine=whole)
    (path,) = tmp_path.glob("*")
    first = placed.load(path)
    half = replace(
        first,
        ids=first.ids[:40],
        placements=placed.places_of(first, first.ids[:40]),
        queries=first.queries[:40],  # type: ignore[index]
    )
    placed.save(half, path.with_name(f"{path.stem}-0.npz"))
    path.unlink()
    run(SEARCHES[1], tmp_path, engine=rest)
    places = SEARCHES[1].budget((16, 16))
    assert sum(whole.shown) - sum(rest.shown) == 40 * places


@pytest.mark.parametrize("attack", SEARCHES)
def test_it_is_found_again_without_asking_the_engine(attack: Search, tmp_path: Path) -> None:
    first, told = run(attack, tmp_path), []
    engine = Quadrants()
    again = run(attack, tmp_path, engine=engine, told=lambda count, note: told.append(count))
    assert engine.shown == []
    assert np.array_equal(first.pixels, again.pixels)
    assert first.origin == again.origin
    assert sum(told) == attack.budget((16, 16)) * len(DATA)


def test_every_parameter_is_in_the_key(tmp_path: Path) -> None:
    attacks = [
        *SEARCHES,
        PatchRs(patch_px=(3, 4), queries=30),
        PatchRs(patch_px=(3, 3), queries=31),
        PatchRs(patch_px=(3, 3), queries=30, target=1),
        PatchRs(patch_px=(3, 3), queries=30, restarts=2),
        PatchRs(patch_px=(3, 3), queries=30, kappa=0.0),
        PatchRs(patch_px=(3, 3), queries=30, accept="strict"),
        Sweep(WHITE, stride=5),
        Sweep(WHITE, stride=4, stop_when_fooled=True),
        Sweep(replace(WHITE, target=1), stride=4),
        Sweep(replace(WHITE, pixels=WHITE.pixels ^ 1), stride=4),
    ]
    for attack in attacks:
        run(attack, tmp_path)
    for seed, digest in ((1, "e"), (0, "f")):
        subject = Subject(Quadrants(), digest, DATA)
        search.search(
            SEARCHES[0], subject, folder=tmp_path, seed=seed, told=lambda count, note: None
        )
    assert len(list(tmp_path.glob("*.npz"))) == len(attacks) + 2


@pytest.mark.parametrize("attack", SEARCHES)
def test_a_fresh_engine_agrees_with_what_was_stored(attack: Search, tmp_path: Path) -> None:
    run(attack, tmp_path)
    (path,) = tmp_path.glob("*")
    found = placed.load(path)
    said = Attacked(attack.name, attack.knowledge, "toy", tier=attack.tier, threat=attack.threat)
    engine = Quadrants()
    row, outcomes = replay(
        Unit(said, found, Policy(attack.placement), 0),
        engine.facts,
        subject=Subject(engine, "e", DATA),
    )
    able = metrics.eligible(outcomes.clean.labels, DATA.labels)
    won = metrics.succeeded(outcomes.patched.labels, DATA.labels)
    assert found.queries is not None
    budget = attack.budget((16, 16))
    assert won[found.queries < budget].all()
    assert row.counts.fooled == (able & won).sum() > 0
    assert row.queries_median == np.median(found.queries[able])


def test_the_tally_adds_up_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PART", 40)
    found, swept = (run(attack, tmp_path) for attack in SEARCHES)
    assert found.queries is not None
    tally, heat = found.origin["tally"], swept.origin["tally"]
    assert isinstance(tally, dict)
    assert isinstance(heat, dict)
    assert tally["shown"] == found.queries.sum()
    assert tally["proposed"] == tally["shown"] - len(DATA)  # type: ignore[operator]
    share = search.tied_share(found)
    assert share is not None
    assert 0 <= share < 0.3
    assert search.tied_share(swept) is None
    counts = np.array(heat["fooled_at"])
    assert counts.shape == (len(swept.origin["rows"]), len(swept.origin["columns"]))  # type: ignore
    assert heat["shown"] == counts.size * len(DATA)
    assert 0 < counts.max() < len(DATA)


@pytest.mark.parametrize("attack", SEARCHES)
def test_nothing_eligible_is_said_before_the_engine_is_searched(
    attack: Search, tmp_path: Path
) -> None:
    engine = Quadrants()
    wrong = replace(DATA, labels=(DATA.labels + 1) % 4)
    subject = Subject(engine, "e", wrong)
    with pytest.raises(BadInput, match="none of the 90"):
        search.search(attack, subject, folder=tmp_path, seed=0, told=lambda count, note: None)
    assert sum(engine.shown) == len(DATA)


def test_an_engine_of_labels_only_can_be_swept_and_not_searched_by_scores(tmp_path: Path) -> None:
    def labels_only(images: Pixels) -> np.ndarray:
        return np.eye(4, dtype=np.float32)[Quadrants()(images).argmax(axis=1)]

    with pytest.raises(Unsupported, match="sweep"):
        run(SEARCHES[0], tmp_path, engine=labels_only)
    by_labels = run(SEARCHES[1], tmp_path, engine=labels_only)
    by_scores = run(SEARCHES[1], tmp_path / "scores")
    assert np.array_equal(by_labels.queries, by_scores.queries)  # type: ignore[arg-type]
    one = Subject(lambda images: np.zeros((len(images), 1), np.float32), "one",
                  replace(DATA, labels=DATA.labels * 0))  # fmt: skip
    for attack in SEARCHES:
        with pytest.raises(Unsupported, match="one number"):
            search.search(attack, one, folder=tmp_path, seed=0, told=lambda count, note: None)
