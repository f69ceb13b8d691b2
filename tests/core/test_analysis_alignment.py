"""The measures of alignment, on planted gradients and at chance."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from qadtr_edge import resampling
from qadtr_edge.analysis import alignment
from qadtr_edge.analysis.alignment import MEASURES, Traits, traits

SHAPE = (300, 3, 32, 32)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def measured(a: Traits, b: Traits) -> dict[str, np.ndarray]:
    region = np.zeros((len(a.alive), 32, 32), bool)
    region[:, 4:10, 4:10] = True
    found = alignment.measures(a, b, region=region)
    return dict(zip(MEASURES, found.T, strict=True))


def test_a_gradient_is_aligned_with_itself_and_with_its_multiples() -> None:
    for factor in (1.0, 1e-3, 50.0):
        found = measured(traits(noise(0)), traits(noise(0) * np.float32(factor)))
        for name in MEASURES:
            np.testing.assert_allclose(found[name], 1.0, atol=1e-6, err_msg=name)


def test_the_opposite_gradient_has_the_same_edges_and_cosine_minus_1() -> None:
    found = measured(traits(noise(0)), traits(-noise(0)))
    np.testing.assert_allclose(found["cosine"], -1.0, atol=1e-6)
    np.testing.assert_allclose(found["edge_iou"], 1.0)
    np.testing.assert_allclose(found["hog_centred"], 1.0, atol=1e-6)


def test_independent_noise_gives_the_chance_levels() -> None:
    """Cosine 0; Edge IoU 0.08; plain HOG between 0.80 and 0.84 in 8-pixel cells; centred 0."""
    found = {
        name: float(values.mean())
        for name, values in measured(traits(noise(1)), traits(noise(2))).items()
    }
    assert abs(found["cosine"]) < 0.01
    assert abs(found["cosine_in_patch"]) < 0.02
    assert round(found["edge_iou"], 2) == 0.08
    assert 0.80 <= found["hog_cosine"] <= 0.84
    assert abs(found["hog_centred"]) < 0.02


def test_the_cosine_in_the_patch_looks_nowhere_else() -> None:
    other = noise(2)
    other[:, :, 4:10, 4:10] = noise(1)[:, :, 4:10, 4:10]
    found = measured(traits(noise(1)), traits(other))
    np.testing.assert_allclose(found["cosine_in_patch"], 1.0, atol=1e-6)
    assert abs(found["cosine"]).max() < 0.5


def test_a_vanished_gradient_has_no_measure() -> None:
    dead = noise(0)
    dead[3] *= np.float32(1e-12)
    dead[7] = 0
    found = traits(dead)
    assert np.flatnonzero(~found.alive).tolist() == [3, 7]
    for values in measured(found, traits(noise(1))).values():
        assert np.flatnonzero(np.isnan(values)).tolist() == [3, 7]


def test_pairs_compare_with_other_images() -> None:
    a, region = traits(noise(0, (4, 3, 16, 16))), np.ones((4, 16, 16), bool)
    turned = traits(np.roll(a.gradients, 1, axis=0))
    found = alignment.measures(a, turned, region=region, pairs=np.array([1, 2, 3, 0]))
    np.testing.assert_allclose(found, 1.0, atol=1e-6)


def test_sobel_is_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    maps = noise(0, (2, 9, 11)).astype(np.float64)
    for found, axis in zip(alignment.sobel(maps), (0, 1), strict=True):
        for one, expected in zip(found, maps, strict=True):
            np.testing.assert_allclose(one, ndimage.sobel(expected, axis, mode="nearest"))


def test_the_histogram_counts_every_pixel_of_every_cell_once() -> None:
    down, across = noise(0, (2, 19, 16)), noise(1, (2, 19, 16))
    strength = np.hypot(down, across).astype(np.float64)
    found = alignment.hog(down, across, strength=strength)
    expected = np.zeros((2, 4, 9))
    for image in range(2):
        for row in range(16):  # rows 16 to 18 fill no cell
            for column in range(16):
                angle = np.arctan2(down[image, row, column], across[image, row, column]) % np.pi
                slot = min(int(angle * 9 / np.pi), 8)
                cell = row // 8 * 2 + column // 8
                expected[image, cell, slot] += strength[image, row, column]
    np.testing.assert_allclose(found, expected)


def test_edges_are_the_strongest_15_percent_of_each_image() -> None:
    strength = np.stack([np.arange(400.0).reshape(20, 20), np.arange(400.0).reshape(20, 20) * 9])
    found = alignment.edges(strength)
    assert found.sum(axis=(1, 2)).tolist() == [60, 60]
    assert found.reshape(2, -1)[:, 340:].all()


def test_images_smaller_than_a_cell_have_one() -> None:
    assert traits(noise(0, (2, 3, 6, 5))).hog.shape == (2, 1, 9)


def test_means_leave_out_what_is_not_known() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    known, unknown = resampling.means(values, seed=0)
    assert known.value == 2.0
    assert (known.low, known.high) == (1.0, 3.0)
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all()
    assert unknown.as_json() == {"value": None, "low": None, "high": None}


def test_the_interval_of_a_share_is_near_the_one_of_theory() -> None:
    won = np.zeros((1000, 1))
    won[:300] = 1
    (found,) = resampling.means(won, seed=0)
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert abs(found.low - (0.3 - spread)) < 0.002
    assert abs(found.high - (0.3 + spread)) < 0.002
    assert resampling.means(won, seed=0) == [found]
