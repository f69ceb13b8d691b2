"""Masked places: a region of the image, from a picture to the bytes an engine is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qadtr_edge import replay
from qadtr_edge.attacks import upright
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.devices import bundle_unit
from qadtr_edge.errors import BadInput
from qadtr_edge.patch import region
from qadtr_edge.patch.paste import footprint
from qadtr_edge.patch.placement import place, policy, resolved, spoken
from qadtr_edge.types import Patch

IMAGE = (14, 11)


def drawn(folder: Path, white: np.ndarray, *, mode: str = "L") -> Path:
    path = folder / "mask.png"
    Image.fromarray((white * 255).astype(np.uint8)).convert(mode).save(path)
    return path


REGIONS = st.builds(
    lambda seed, holes: np.random.default_rng(seed).random(IMAGE) > holes,
    st.integers(0, 1000), st.floats(0.0, 0.2),
)  # fmt: skip


@given(white=REGIONS)
def test_text_is_read_back_as_it_was(white: np.ndarray) -> None:
    assert np.array_equal(region.pixels(region.text_of(white)), white)


@given(white=REGIONS, rows=st.integers(1, 4), wide=st.integers(1, 15))
def test_corners_are_those_a_loop_over_all_finds(white: np.ndarray, rows: int, wide: int) -> None:
    wanted = [
        [top, left]
        for top in range(IMAGE[0] - rows + 1)
        for left in range(IMAGE[1] - wide + 1)
        if white[top : top + rows, left : left + wide].all()
    ]
    assert region.corners(region.text_of(white), (rows, wide)).tolist() == wanted


@given(white=REGIONS, seed=st.integers(0, 1000))
def test_every_place_lies_on_white_and_depends_on_its_own_id(white: np.ndarray, seed: int) -> None:
    name = f"within:{region.text_of(white)}"
    how, ids = policy(name, image_px=11), np.arange(30)
    if not len(region.corners(region.text_of(white), (2, 3))):
        return
    at = place(how, ids, seed=seed, patch_px=(2, 3), image_px=IMAGE)
    where = footprint(at, mask=np.ones((2, 3), bool), image_px=IMAGE)
    assert white[where.row, where.column].all()
    assert len(where.row) == 30 * 6, "nothing is cut off"
    one = place(how, ids[7:8], seed=seed, patch_px=(2, 3), image_px=IMAGE)
    assert (one.top[0], one.left[0]) == (at.top[7], at.left[7])


def test_all_allowed_places_are_equally_likely() -> None:
    white = np.zeros(IMAGE, bool)
    white[1:4, 2:9] = white[10:13, 0:3] = True
    how = policy(f"within:{region.text_of(white)}", image_px=11)
    at = place(how, np.arange(60_000), seed=0, patch_px=(3, 3), image_px=IMAGE)
    found, counts = np.unique(np.stack([at.top, at.left]), axis=1, return_counts=True)
    assert found.T.tolist() == [[1.0, float(left)] for left in range(2, 7)] + [[10.0, 0.0]]
    assert (np.abs(counts - 10_000) < 6 * np.sqrt(10_000)).all()


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_picture_is_read_once_and_rows_name_its_digest(tmp_path: Path, mode: str) -> None:
    white = np.arange(IMAGE[0] * IMAGE[1]).reshape(IMAGE) % 7 > 0
    name = f"within:{drawn(tmp_path, white, mode=mode)}"
    kept = resolved(name)
    assert kept == f"within:{region.text_of(white)}"
    (tmp_path / "mask.png").unlink()
    assert policy(kept, image_px=11).name == spoken(kept)
    assert spoken(kept).startswith("within:")
    assert len(spoken(kept)) == len("within:") + 8
    assert (resolved("random"), spoken("random")) == ("random", "random")


def test_another_region_is_another_policy() -> None:
    whole = policy(f"within:{region.text_of(np.ones(IMAGE, bool))}", image_px=11)
    white = np.ones(IMAGE, bool)
    white[0, 0] = False
    less = policy(f"within:{region.text_of(white)}", image_px=11)
    assert whole != less
    assert repr(whole) != repr(less)
    assert whole.name != less.name


def test_what_is_no_mask_is_refused_with_a_remedy(tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full(IMAGE, 128, np.uint8)).save(grey)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    black = drawn(tmp_path, np.zeros(IMAGE, bool))
    for name, said in (
        (f"within:{tmp_path / 'absent.png'}", "There is no picture"),
        (f"within:{grey}", "neither black nor white"), (f"within:{text}", "cannot be read"),
        (f"within:{black}", "black all over"), (f"within:{tmp_path}", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said) as error:
            resolved(name)
        assert error.value.remedy


def test_a_patch_that_fits_nowhere_and_a_mask_of_another_size_are_refused() -> None:
    white = np.zeros(IMAGE, bool)
    white[3:5, 3:9] = True
    how = policy(f"within:{region.text_of(white)}", image_px=11)
    for patch, image, said in (((3, 3), IMAGE, "fits nowhere"), ((2, 2), (32, 32), "14x11")):
        with pytest.raises(BadInput, match=said) as error:
            place(how, np.arange(2), seed=0, patch_px=patch, image_px=image)
        assert error.value.remedy


def test_an_ascent_starts_and_moves_within_the_region() -> None:
    white = np.zeros(IMAGE, bool)
    white[2:7, 1:6] = True
    text = region.text_of(white)
    listed = upright.corners_of(IMAGE, (3, 3), within=text)
    assert listed.tolist() == [[top, left] for top in (2, 3, 4) for left in (1, 2, 3)]
    allowed = upright.allowed_at(IMAGE, (3, 3), avoid_px=0, within=text)
    assert np.argwhere(allowed).tolist() == listed.tolist()


@pytest.mark.parametrize("name", ["physical", "within", "random"])
def test_a_bundle_carries_the_places_and_shows_the_same_bytes(name: str) -> None:
    white = np.zeros(IMAGE, bool)
    white[2:9, 1:9] = True
    how = policy(f"within:{region.text_of(white)}" if name == "within" else name, image_px=11)
    chance = np.random.default_rng(0)
    data = Dataset(
        "toy", "test", chance.integers(0, 256, (9, 3, *IMAGE), dtype=np.uint8),
        np.arange(9) % 2, np.arange(9), ("a", "b"), flip_allowed=False,
    )  # fmt: skip
    pixels = chance.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    patch = Patch(pixels, np.ones((4, 3), bool), target=None, origin={"seed": 1})
    said = replay.Attacked("gap", "simulation", "twin-w8a8", "T1", "T-A")
    unit = replay.Unit(said, patch, how, seed=5)
    unit = replace(unit, places=replay.places_of(unit, data))
    spoken_of = json.loads(json.dumps(bundle_unit.described(unit, data)))
    held = np.load(io.BytesIO(bundle_unit.packed_unit(unit, data)))
    key = bundle_unit.unit_key(unit, data)
    found = bundle_unit.unpacked_unit(dict(held), key, said=spoken_of, data=data)
    assert found.policy == how
    assert found.places is not None
    shown = [
        replay.pasted(one, data, places=replay.places_of(one, data), part=slice(2, 7))
        for one in (unit, found)
    ]
    assert np.array_equal(*shown)
