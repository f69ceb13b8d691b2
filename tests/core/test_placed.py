"""Placed patches: what is stored is what is replayed, on the image it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qadtr_edge.errors import BadInput
from qadtr_edge.patch import bank, placed
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import Policy
from qadtr_edge.replay import Attacked, Subject, Unit, identity, replay
from qadtr_edge.types import Patch, PlacedPatches, Placements
from toy import Quadrants, pictures, reordered

CHANCE = np.random.default_rng(3)
DATA = pictures(40, split="test")
N = len(DATA)


def places(n: int = N) -> Placements:
    top, left = CHANCE.integers(0, 11, (2, n)).astype(float)
    return Placements(top=top, left=left, degrees=np.zeros(n), scale=np.ones(n))


OWN = PlacedPatches(
    ids=DATA.ids,
    pixels=CHANCE.integers(0, 256, (N, 3, 6, 6), dtype=np.uint8),
    mask=np.ones((6, 6), bool),
    placements=places(),
    target=None,
    queries=CHANCE.integers(1, 100, N),
    origin={"attack": "any", "seed": 5},
)
SHARED = replace(OWN, pixels=OWN.pixels[0], queries=None, target=2, mask=np.eye(6, dtype=bool))


def unit(patch: PlacedPatches) -> Unit:
    attacked = Attacked("any", knowledge="scores", victim="toy", tier="T4", threat="T-C")
    return Unit(attacked, patch, Policy("searched"), seed=0)


@pytest.mark.parametrize("patches", [OWN, SHARED])
def test_they_come_back_as_they_were(patches: PlacedPatches, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        placed.save(patches, tmp_path / name)
    found = placed.load(tmp_path / "a.npz")
    assert np.array_equal(found.pixels, patches.pixels)
    assert np.array_equal(found.placements.left, patches.placements.left)
    assert (found.target, found.origin) == (patches.target, patches.origin)
    assert (found.queries is None) == (patches.queries is None)
    assert bank.digest(found) == bank.digest(patches)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_digest_holds_all_that_is_replayed() -> None:
    moved = replace(OWN.placements, top=OWN.placements.top[::-1].copy())
    others = [
        replace(OWN, pixels=OWN.pixels ^ 1),
        replace(OWN, placements=moved),
        replace(OWN, ids=OWN.ids + 1),
        replace(OWN, mask=np.eye(6, dtype=bool)),
        replace(OWN, queries=None),
        SHARED,
    ]
    assert len({bank.digest(each) for each in (OWN, *others)}) == len(others) + 1
    assert bank.digest(replace(OWN, origin={})) == bank.digest(OWN)


def test_every_torn_or_altered_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    placed.save(OWN, path)
    whole = path.read_bytes()
    for content in (b"", b"not a zip", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="damaged"):
            placed.load(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        columns = dict(file)
    for altered in (
        {"pixels": columns["pixels"] ^ 1},
        {"top": columns["top"] + 1},
        {"ids": columns["ids"][:-1]},
        {"pixels": columns["pixels"].astype(np.int16)},
        {"header": np.array("[]")},
        {"ids": np.array([object()], dtype=object)},
    ):
        np.savez(path, **{**columns, **altered})
        with pytest.raises(BadInput, match="damaged"):
            placed.load(path)
    with pytest.raises(BadInput, match="missing"):
        placed.load(tmp_path / "none.npz")


def test_they_are_no_patch_for_all_images(tmp_path: Path) -> None:
    placed.save(SHARED, tmp_path / "p.npz")
    with pytest.raises(BadInput, match="single images"):
        bank.load(tmp_path / "p.npz")


@pytest.mark.parametrize("patches", [OWN, SHARED])
def test_replay_shows_each_image_its_own_patch_at_its_own_place(patches: PlacedPatches) -> None:
    engine = Quadrants()
    row, outcomes = replay(unit(patches), engine.facts, subject=Subject(engine, "e", DATA, 7))
    shown = paste(DATA.images, patches.pixels, mask=patches.mask, placements=patches.placements)
    assert np.array_equal(outcomes.patched.labels, engine(shown).argmax(axis=1))
    assert (row.tier, row.threat, row.placement, row.patch_seed) == ("T4", "T-C", "searched", 5)
    assert row.patch_digest == bank.digest(patches)


def test_neither_order_nor_a_limit_moves_a_patch_to_another_image() -> None:
    order = np.random.default_rng(0).permutation(N)[:23]
    subject, part = (Subject(Quadrants(), "e", d, 5) for d in (DATA, reordered(DATA, order)))
    _, whole = replay(unit(OWN), Quadrants().facts, subject=subject)
    _, some = replay(unit(OWN), Quadrants().facts, subject=part)
    assert np.array_equal(some.patched.margins, whole.patched.margins[order])


def test_the_median_of_the_queries_is_over_eligible_images() -> None:
    engine = Quadrants()
    data = replace(DATA, labels=np.where(np.arange(N) < 15, (DATA.labels + 1) % 4, DATA.labels))
    row, outcomes = replay(unit(OWN), engine.facts, subject=Subject(engine, "e", data))
    assert OWN.queries is not None
    able = outcomes.clean.labels == data.labels
    assert 0 < able.sum() < N
    assert row.queries_median == np.median(OWN.queries[able])
    shared, _ = replay(unit(SHARED), engine.facts, subject=Subject(engine, "e", data))
    assert shared.queries_median is None


def test_an_image_without_a_patch_is_refused() -> None:
    later = pictures(N + 1, split="test")
    engine = Quadrants()
    with pytest.raises(BadInput, match="none for 1 of 41"):
        replay(unit(OWN), engine.facts, subject=Subject(engine, "e", later))


def test_the_key_holds_pixels_places_and_ids() -> None:
    subject = Subject(Quadrants(), "e", DATA)
    moved = replace(OWN.placements, left=OWN.placements.left[::-1].copy())
    patches = (OWN, replace(OWN, placements=moved), replace(OWN, pixels=OWN.pixels ^ 1))
    assert len({identity(unit(each), subject) for each in patches}) == 3
    same = Patch(OWN.pixels[0], OWN.mask, None)
    assert bank.digest(same) != bank.digest(replace(OWN, pixels=OWN.pixels[0]))
