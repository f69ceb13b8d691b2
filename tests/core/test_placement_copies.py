"""Several copies of a patch on an image: apart, inside, and a pure function of seed and id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qadtr_edge import replay
from qadtr_edge.attacks import eot
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.cli import attack_names
from qadtr_edge.errors import BadInput
from qadtr_edge.patch import copies, light, placed, places, region
from qadtr_edge.patch.paste import footprint, paste
from qadtr_edge.patch.placement import place, policy, resolved, spoken
from qadtr_edge.types import Patch, PlacedPatches, Placements
from toy import Quadrants, pictures

IMAGE = (26, 30)
UPPER = np.zeros(IMAGE, bool)
UPPER[:14] = True
KINDS = ("random", "plain", "physical", f"within:{region.text_of(UPPER)}")


def drawn(name: str, ids: np.ndarray, *, seed: int = 0, patch: tuple[int, int] = (5, 4)) -> (
    Placements
):  # fmt: skip
    return place(policy(name, image_px=26), ids, seed=seed, patch_px=patch, image_px=IMAGE)


def covered(at: Placements, n: int, patch: tuple[int, int]) -> np.ndarray:
    """How many copies cover each pixel, ``(N, H, W)``."""
    found = np.zeros((n, *IMAGE), int)
    for one in places.copies(at):
        where = footprint(one, mask=np.ones(patch, bool), image_px=IMAGE)
        np.add.at(found, (where.image, where.row, where.column), 1)
    return found


@given(kind=st.sampled_from(KINDS), count=st.integers(2, 5), seed=st.integers(0, 1000))
def test_copies_lie_inside_and_touch_no_other(kind: str, count: int, seed: int) -> None:
    at = drawn(f"{kind}*{count}", np.arange(12), seed=seed)
    assert len(places.copies(at)) == count
    over = covered(at, 12, (5, 4))
    assert over.max() == 1
    if kind == "plain" or kind.startswith("within"):
        assert (over.sum(axis=(1, 2)) == count * 20).all(), "none is cut off"
    if kind.startswith("within"):
        assert not over[:, ~UPPER].any()


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
def test_copies_on_an_image_depend_on_its_own_id_alone(kind: str, seed: int) -> None:
    ids = np.arange(10) + 500
    order = np.random.default_rng(seed).permutation(10)
    whole = places.columns(drawn(f"{kind}*3", ids, seed=seed))
    again = places.columns(drawn(f"{kind}*3", ids[order], seed=seed))
    alone = places.columns(drawn(f"{kind}*3", ids[4:5], seed=seed))
    assert list(whole) == list(again)
    for name, column in whole.items():
        assert np.array_equal(column[order], again[name])
        assert np.array_equal(column[4:5], alone[name])


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 100))
def test_several_are_pasted_as_one_after_the_other(kind: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 256, (6, 3, *IMAGE), dtype=np.uint8)
    pixels, mask = chance.integers(0, 256, (3, 5, 4), dtype=np.uint8), chance.random((5, 4)) < 0.8
    at = drawn(f"{kind}*3", np.arange(6), seed=seed)
    shown = images
    for one in places.copies(at):
        shown = paste(shown, pixels, mask=mask, placements=one)
    found = paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(found, shown)
    changed = (found != images).any(axis=1)
    assert not changed[covered(at, 6, (5, 4)) == 0].any()
    soft = eot.paste(
        torch.from_numpy(images).float(), torch.from_numpy(pixels).float(), mask=mask, placements=at
    )
    assert np.array_equal(soft.numpy(), found.astype(np.float32))


def test_a_crowded_image_begins_anew_until_all_fit() -> None:
    """Two of 11 rows in 26: a first one in the middle third leaves no room above or below."""
    at = drawn("plain*2", np.arange(300), patch=(11, 14))
    assert covered(at, 300, (11, 14)).max() == 1
    with pytest.raises(BadInput, match="no room beside each other"):
        copies.apart(
            lambda ids, name: Placements(*np.array([[1.0], [1.0], [0.0], [1.0]])[:, 0 * ids]),
            lambda found: np.tile([0.0, 0.0, 5.0, 5.0], (len(found.top), 1)),
            ids=np.arange(3), copies=2,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("centre*2", "one place"),
        ("fixed:1,1*3", "one place"),
        ("random*30", "no room"),
        ("random*2*3", "no placement"),
        ("random*1", "no placement"),
        ("random*", "no placement"),
    ],
)
def test_what_has_no_room_for_copies_is_refused_with_a_remedy(name: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        drawn(name, np.arange(2))
    assert error.value.remedy


def test_names_of_copies_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray((UPPER * 255).astype(np.uint8)).save(path)
    kept = resolved(f"within:{path}*3")
    assert kept == f"within:{region.text_of(UPPER)}*3"
    assert spoken(kept) == f"within:{region.digest(region.text_of(UPPER))}*3"
    how = policy(kept, image_px=26)
    assert (how.copies, how.name) == (3, spoken(kept))
    assert repr(policy("random*2", image_px=26)) != repr(policy("random*3", image_px=26))


def test_columns_of_copies_are_taken_joined_and_stored(tmp_path: Path) -> None:
    at = drawn("physical*2", np.arange(8))
    held = places.columns(at)
    assert len(held) == 14
    assert places.columns(places.from_columns(held)).keys() == held.keys()
    halves = places.joined([places.taken(at, slice(0, 3)), places.taken(at, slice(3, 8))])
    for name, column in places.columns(halves).items():
        assert np.array_equal(column, held[name])
    assert places.whole(at, 8)
    assert not places.whole(at, 7)
    assert all(light.is_plain(one) for one in places.copies(light.without(at)))
    patch = PlacedPatches(
        np.arange(8), np.zeros((3, 5, 4), np.uint8), np.ones((5, 4), bool), at, target=None
    )
    placed.save(patch, tmp_path / "x.npz")
    assert placed.digest(placed.load(tmp_path / "x.npz")) == placed.digest(patch)
    fewer = replace(patch, placements=replace(at, more=()))
    assert placed.digest(fewer) != placed.digest(patch)


def test_replay_counts_copies_and_the_row_says_how_many() -> None:
    data, engine = pictures(60, split="test", side=16), Quadrants()
    patch = Patch(np.full((3, 3, 3), 255, np.uint8), np.ones((3, 3), bool), target=None)
    said = replay.Attacked("file", "surrogate", "unknown", "T1", "T-A")
    subject = replay.Subject(engine, "toy", data, 25)
    rows = [
        replay.replay(
            replay.Unit(said, patch, policy(name, image_px=16), 0), engine.facts, subject=subject
        )[0]
        for name in ("plain", "plain*4")
    ]
    assert [row.placement for row in rows] == ["plain", "plain*4"]
    assert rows[0].counts.fooled < rows[1].counts.fooled


def test_what_places_one_patch_itself_refuses_copies() -> None:
    with pytest.raises(BadInput, match="patch_rs looks for its own places"):
        attack_names.check_placement(attack_names.named("gap,patch_rs"), "random*2")
    with pytest.raises(BadInput, match="pgd shows one patch"):
        Pgd(placement="plain*2").search(
            torch.nn.Identity(), pictures(2, split="test"), seed=0,
            told=lambda count, note: None,
        )  # fmt: skip
