"""Paste changes exactly the pixels under the mask, to exactly the bytes the fixed point names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge.patch.paste import footprint, paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Pixels, Placements


def scene(seed: int, *, n: int, image: tuple[int, int], patch: tuple[int, int]) -> tuple[
    Pixels, Pixels, np.ndarray
]:  # fmt: skip
    """Images, one patch and a mask with holes; image bytes are even and patch bytes odd."""
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 128, (n, 3, *image)).astype(np.uint8) * 2
    pixels = chance.integers(0, 128, (3, *patch)).astype(np.uint8) * 2 + 1
    mask = chance.random(patch) < 0.7
    mask[patch[0] // 2, patch[1] // 2] = True
    return images, pixels, mask


def by_hand(images: Pixels, pixels: Pixels, *, mask: np.ndarray, at: Placements) -> Pixels:
    """The same paste, pixel by pixel in Python integers, as the module's docstring writes it."""
    pasted = images.copy()
    (height, width), one = mask.shape, 1 << 16
    for index in range(len(images)):
        turn, scale = np.radians(at.degrees[index]), at.scale[index]
        y = at.top[index] + scale * height / 2
        x = at.left[index] + scale * width / 2
        cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
        a, b = int(np.rint(cosine * one)), int(np.rint(sine * one))
        u = int(np.rint((width / 2 + cosine * (0.5 - x) - sine * (0.5 - y)) * one))
        v = int(np.rint((height / 2 + sine * (0.5 - x) + cosine * (0.5 - y)) * one))
        for r in range(images.shape[2]):
            for c in range(images.shape[3]):
                i, j = (v + b * c + a * r) >> 16, (u + a * c - b * r) >> 16
                if 0 <= i < height and 0 <= j < width and mask[i, j]:
                    colours = pixels if pixels.ndim == 3 else pixels[index]
                    pasted[index, :, r, c] = colours[:, i, j]
    return pasted


ANYWHERE = st.builds(
    lambda values: Placements(*np.array(values, float).T),
    st.lists(
        st.tuples(st.floats(-6, 16), st.floats(-6, 16), st.floats(-180, 180), st.floats(0.4, 2.0)),
        min_size=1,
        max_size=4,
    ),
)


@given(at=ANYWHERE, seed=st.integers(0, 1000), rows=st.integers(1, 7), wide=st.integers(1, 7))
def test_equals_the_definition_even_partly_outside(
    at: Placements, seed: int, rows: int, wide: int
) -> None:
    images, pixels, mask = scene(seed, n=len(at.top), image=(13, 11), patch=(rows, wide))
    found = paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(found, by_hand(images, pixels, mask=mask, at=at))


@given(name=st.sampled_from(["random", "plain"]), seed=st.integers(0, 1000))
def test_changes_exactly_the_mask(name: str, seed: int) -> None:
    images, pixels, mask = scene(seed, n=6, image=(24, 20), patch=(6, 5))
    ids = np.arange(6)
    at = place(policy(name, image_px=20), ids, seed=seed, patch_px=(6, 5), image_px=(24, 20))
    found = paste(images, pixels, mask=mask, placements=at)
    where = footprint(at, mask=mask, image_px=(24, 20))
    covered = np.zeros((6, 24, 20), bool)
    covered[where.image, where.row, where.column] = True
    assert np.array_equal((found != images).any(axis=1), covered)
    assert (found % 2 == covered[:, None]).all()
    if name == "plain":
        assert covered.sum() == 6 * mask.sum()


@given(seed=st.integers(0, 1000), solid=st.booleans())
def test_the_upright_path_equals_the_general_one(seed: int, solid: bool) -> None:
    images, pixels, mask = scene(seed, n=5, image=(16, 18), patch=(4, 7))
    mask = np.ones_like(mask) if solid else mask
    at = place(
        policy("plain", image_px=16), np.arange(5), seed=seed, patch_px=(4, 7), image_px=(16, 18)
    )
    # One tilted image among upright ones sends the batch down the general path.
    tilted = Placements(at.top, at.left, at.degrees + 10.0 * (np.arange(5) == 4), at.scale)
    fast = paste(images, pixels, mask=mask, placements=at)
    general = paste(images, pixels, mask=mask, placements=tilted)
    assert np.array_equal(fast[:4], general[:4])
    assert not np.array_equal(fast[4], general[4])


@pytest.mark.parametrize("name", ["random", "plain"])
def test_one_patch_per_image(name: str) -> None:
    images, _, mask = scene(0, n=3, image=(16, 16), patch=(5, 5))
    each = np.random.default_rng(1).integers(0, 256, (3, 3, 5, 5), dtype=np.uint8)
    at = place(policy(name, image_px=16), np.arange(3), seed=0, patch_px=(5, 5), image_px=(16, 16))
    together = paste(images, each, mask=mask, placements=at)
    for index in range(3):
        row = slice(index, index + 1)
        alone = Placements(at.top[row], at.left[row], at.degrees[row], at.scale[row])
        assert np.array_equal(
            together[row], paste(images[row], each[index], mask=mask, placements=alone)
        )


def test_positive_degrees_turn_counter_clockwise() -> None:
    pixels = np.zeros((3, 5, 5), np.uint8)
    pixels[:, 2, 4] = 255  # right of the centre
    quarter = Placements(*(np.array([value]) for value in (3.0, 3.0, 90.0, 1.0)))
    found = paste(
        np.zeros((1, 3, 11, 11), np.uint8), pixels, mask=np.ones((5, 5), bool), placements=quarter
    )
    assert np.argwhere(found[0, 0]).tolist() == [[3, 5]]  # above the centre (5, 5)


def test_the_images_given_are_left_alone_and_none_is_fine() -> None:
    images, pixels, mask = scene(0, n=2, image=(9, 9), patch=(3, 3))
    before = images.copy()
    images.setflags(write=False)
    at = place(policy("plain", image_px=9), np.arange(2), seed=0, patch_px=(3, 3), image_px=(9, 9))
    paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(images, before)
    none = Placements(*(np.empty(0) for _ in range(4)))
    assert paste(images[:0], pixels, mask=mask, placements=none).shape == (0, 3, 9, 9)
