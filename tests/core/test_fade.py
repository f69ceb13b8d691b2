"""Blending, flattening and resizing: exact in bytes."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qadtr_edge.patch.fade import blend, contrast, resized
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Patch

SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
PIXELS = arrays.arrays(np.uint8, (2, 3, 8, 8))


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


@given(PIXELS, PIXELS, st.sampled_from(SHARES))
def test_a_blend_is_the_formula_rounded_half_up(
    images: np.ndarray, pasted: np.ndarray, share: float
) -> None:
    found = blend(images, pasted, opacity=share)
    assert found.dtype == np.uint8
    for x, p, y in zip(images.flat, pasted.flat, found.flat, strict=True):
        assert y == half_up(int(x) + Fraction(share) * (int(p) - int(x)))


@given(PIXELS, arrays.arrays(np.uint8, (3, 5, 4)), st.integers(0, 99))
def test_opacity_1_is_the_paste_and_0_the_image(
    images: np.ndarray, pixels: np.ndarray, seed: int
) -> None:
    mask = np.ones((5, 4), bool)
    mask[0, 0] = False
    places = place(
        policy("random", image_px=8), np.arange(2), seed=seed, patch_px=(5, 4), image_px=(8, 8)
    )
    pasted = paste(images, pixels, mask=mask, placements=places)
    np.testing.assert_array_equal(blend(images, pasted, opacity=1.0), pasted)
    np.testing.assert_array_equal(blend(images, pasted, opacity=0.0), images)
    untouched = pasted == images
    np.testing.assert_array_equal(blend(images, pasted, opacity=0.5)[untouched], images[untouched])


@given(arrays.arrays(np.uint8, (3, 4, 5)), arrays.arrays(np.bool_, (4, 5)),
       st.sampled_from(SHARES))  # fmt: skip
def test_contrast_is_the_formula_about_the_mean_of_the_mask(
    pixels: np.ndarray, mask: np.ndarray, share: float
) -> None:
    mask[1, 1] = True
    flat = contrast(Patch(pixels, mask, target=None), share)
    np.testing.assert_array_equal(flat.pixels[:, ~mask], pixels[:, ~mask])
    for was, now in zip(pixels[:, mask], flat.pixels[:, mask], strict=True):
        mean = Fraction(int(was.sum()), len(was))
        for before, after in zip(was, now, strict=True):
            assert after == half_up(mean + Fraction(share) * (int(before) - mean))


def test_contrast_1_is_the_patch() -> None:
    patch = Patch(np.arange(48, dtype=np.uint8).reshape(3, 4, 4), np.ones((4, 4), bool), None)
    np.testing.assert_array_equal(contrast(patch, 1.0).pixels, patch.pixels)


@pytest.mark.parametrize(
    ("shape", "longer", "expected"),
    [((6, 6), 3, (3, 3)), ((6, 6), 12, (12, 12)), ((2, 12), 3, (1, 3)), ((4, 12), 6, (2, 6))],
)
def test_resizing_keeps_the_proportion(
    shape: tuple[int, int], longer: int, expected: tuple[int, int]
) -> None:
    patch = Patch(np.zeros((3, *shape), np.uint8), np.ones(shape, bool), None)
    assert resized(patch, longer).mask.shape == expected


def test_resizing_takes_the_nearest_pixel() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    mask = np.array([[True, False], [True, True]])
    twice = resized(Patch(pixels, mask, None), 4)
    np.testing.assert_array_equal(twice.pixels, pixels.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(twice.mask, mask.repeat(2, axis=0).repeat(2, axis=1))
    same = resized(Patch(pixels, mask, None), 2)
    np.testing.assert_array_equal(same.pixels, pixels)
    np.testing.assert_array_equal(same.mask, mask)
