"""Places are a pure function of (seed, id, policy), inside the image, and all are reachable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.patch.paste import footprint
from qadtr_edge.patch.placement import box, place, policy
from qadtr_edge.types import Placements

NAMES = st.sampled_from(["random", "plain", "centre", "fixed:3,5"])
SIDES = st.integers(1, 9)


def places(
    name: str, ids: np.ndarray, *, seed: int = 0, patch: tuple[int, int] = (6, 6),
    image: tuple[int, int] = (32, 32), draw: int = 0,
) -> Placements:  # fmt: skip
    how = policy(name, image_px=min(image))
    return place(how, ids, seed=seed, patch_px=patch, image_px=image, draw=draw)


def columns(found: Placements) -> np.ndarray:
    return np.stack([found.top, found.left, found.degrees, found.scale], axis=1)


@given(name=NAMES, seed=st.integers(0, 2**63), order=st.permutations(list(range(8))))
def test_a_place_depends_on_its_own_id_alone(name: str, seed: int, order: list[int]) -> None:
    ids = np.arange(8) + 1000
    whole = columns(places(name, ids, seed=seed))
    shuffled = columns(places(name, ids[order], seed=seed))
    assert np.array_equal(whole[order], shuffled)
    assert np.array_equal(whole[2:3], columns(places(name, ids[2:3], seed=seed)))


@pytest.mark.parametrize("change", [{"seed": 1}, {"draw": 1}])
def test_another_seed_or_draw_gives_other_places(change: dict[str, int]) -> None:
    ids = np.arange(50)
    assert not np.array_equal(
        columns(places("random", ids)), columns(places("random", ids, **change))
    )


@given(name=NAMES, seed=st.integers(0, 2**31), rows=SIDES, wide=SIDES)
def test_the_whole_patch_lies_inside(name: str, seed: int, rows: int, wide: int) -> None:
    found = places(name, np.arange(40), seed=seed, patch=(rows, wide), image=(20, 18))
    high, across = box(found.scale * rows, found.scale * wide, degrees=found.degrees)
    for corner, side, extent, limit in (
        (found.top, rows, high, 20),
        (found.left, wide, across, 18),
    ):
        middle = corner + found.scale * side / 2
        assert (middle - extent / 2 >= -1e-9).all()
        assert (middle + extent / 2 <= limit + 1e-9).all()


@pytest.mark.parametrize("name", ["random", "plain"])
def test_first_and_last_row_and_column_are_painted(name: str) -> None:
    found = places(name, np.arange(20_000))
    where = footprint(found, mask=np.ones((6, 6), bool), image_px=(32, 32))
    assert set(where.row) == set(range(32))
    assert set(where.column) == set(range(32))


def test_every_plain_corner_is_drawn_and_equally_often() -> None:
    found = places("plain", np.arange(200_000), patch=(6, 6), image=(12, 10))
    counts = np.zeros((7, 5))
    np.add.at(counts, (found.top.astype(int), found.left.astype(int)), 1)
    expected = 200_000 / counts.size
    assert (np.abs(counts - expected) < 6 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("image", "degrees"), [(32, 15.0), (224, 22.5)])
def test_random_rotates_and_scales_over_its_range(image: int, degrees: float) -> None:
    found = places("random", np.arange(5000), image=(image, image))
    assert -degrees <= found.degrees.min() < -0.98 * degrees
    assert 0.98 * degrees < found.degrees.max() <= degrees
    assert 0.9 <= found.scale.min() < 0.905
    assert 1.095 < found.scale.max() <= 1.1


def test_fixed_and_centre_are_where_they_say() -> None:
    fixed, centre = places("fixed:3,5", np.arange(4)), places("centre", np.arange(4))
    assert (fixed.top == 3).all()
    assert (fixed.left == 5).all()
    assert (centre.top == 13).all()
    assert not columns(centre)[:, 2].any()


@pytest.mark.parametrize(
    ("name", "patch"),
    [("plain", (33, 4)), ("random", (32, 32)), ("random", (30, 4)), ("fixed:27,0", (6, 6))],
)
def test_what_does_not_fit_is_refused_with_a_remedy(name: str, patch: tuple[int, int]) -> None:
    with pytest.raises(BadInput) as error:
        places(name, np.arange(2), patch=patch)
    assert error.value.remedy


def test_a_patch_as_large_as_the_image_fits_plainly() -> None:
    found = places("plain", np.arange(3), patch=(32, 32))
    assert not found.top.any()


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="random"):
        policy("randon", image_px=32)
