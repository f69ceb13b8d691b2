"""The certificate against brute force: what it certifies, no patch can change behind two masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge.attacks.certificate import GREY, certify, cover
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput


def _data(images: np.ndarray, labels: np.ndarray) -> Dataset:
    return Dataset(
        name="noise", split="test", images=images, labels=labels, ids=np.arange(len(images)),
        class_names=("dark", "light"), flip_allowed=False,
    )  # fmt: skip


def brightness(images: np.ndarray) -> np.ndarray:
    """Light when more pixels are above grey than below it."""
    above = (images > GREY).sum(axis=(1, 2, 3)) - (images < GREY).sum(axis=(1, 2, 3))
    return np.stack([-above, above], axis=1).astype(np.float32)


@given(st.integers(4, 60), st.integers(1, 12), st.integers(1, 8))
def test_every_patch_is_behind_a_mask(image_px: int, patch_px: int, count: int) -> None:
    patch_px = min(patch_px, image_px)
    starts, length = cover(image_px, patch_px, count=count)
    assert len(starts) <= count
    assert starts.min() >= 0
    assert starts.max() + length <= image_px
    for first in range(image_px - patch_px + 1):
        assert any(s <= first and first + patch_px <= s + length for s in starts)


def test_it_is_what_showing_every_pair_says() -> None:
    rng = np.random.default_rng(0)
    light = rng.integers(0, 256, (40, 1, 1, 1))
    images = np.clip(rng.integers(-150, 151, (40, 3, 8, 8)) + light, 0, 255).astype(np.uint8)
    data = _data(images, brightness(images).argmax(axis=1))
    found = certify(brightness, data, patch_px=(2, 2), per_axis=3, batch=7)
    starts, length = cover(8, 2, count=3)
    expected = np.ones(40, bool)
    for a in [(t, c) for t in starts for c in starts]:
        for b in [(t, c) for t in starts for c in starts]:
            masked = images.copy()
            for top, left in (a, b):
                masked[:, :, top : top + length, left : left + length] = GREY
            expected &= brightness(masked).argmax(axis=1) == data.labels
    assert (found.certified == expected).all()
    assert 0 < found.certified.sum() < 40, "some hold and some do not"
    assert found.shown <= 40 * 45


def test_no_patch_fools_double_masking_on_a_certified_image() -> None:
    """Theorem 1, by brute force: one mask hides the patch, and under all others too it is right."""
    rng = np.random.default_rng(1)
    images = np.clip(rng.integers(-60, 61, (12, 3, 8, 8)) + 190, 0, 255).astype(np.uint8)
    data = _data(images, np.ones(12, np.int64))
    found = certify(brightness, data, patch_px=(2, 2), per_axis=3)
    assert found.certified.any()
    starts, length = cover(8, 2, count=3)
    for image in images[found.certified]:
        for top in range(7):
            for left in range(7):
                attacked = image.copy()
                attacked[:, top : top + 2, left : left + 2] = 0
                row = next(s for s in starts if s <= top and top + 2 <= s + length)
                column = next(s for s in starts if s <= left and left + 2 <= s + length)
                attacked[:, row : row + length, column : column + length] = GREY
                assert brightness(attacked[None]).argmax() == 1


def test_a_patch_larger_than_the_image_is_refused() -> None:
    images = np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.raises(BadInput, match="9x9"):
        certify(brightness, _data(images, np.zeros(1, np.int64)), patch_px=(9, 9))
    with pytest.raises(BadInput, match="hides the whole image"):
        certify(brightness, _data(images, np.zeros(1, np.int64)), patch_px=(8, 8))
    certify(brightness, _data(images, np.zeros(1, np.int64)), patch_px=(8, 7))


def _double_masked(image: np.ndarray, starts: np.ndarray, length: int) -> int:
    """Algorithm 1 of the paper, for one image, as it is written there."""
    places = [(top, left) for top in starts for left in starts]

    def label(*masks: tuple[int, int]) -> int:
        shown = image.copy()
        for top, left in masks:
            shown[:, top : top + length, left : left + length] = GREY
        return int(brightness(shown[None]).argmax())

    first = [label(mask) for mask in places]
    most = int(np.bincount(first).argmax())
    for mask, seen in zip(places, first, strict=True):
        if seen != most and all(label(mask, second) == seen for second in places):
            return seen
    return most


def test_it_tells_what_double_masking_answers() -> None:
    rng = np.random.default_rng(2)
    light = rng.integers(100, 156, (60, 1, 1, 1))
    images = np.clip(rng.integers(-150, 151, (60, 3, 8, 8)) + light, 0, 255).astype(np.uint8)
    images[:20, :, :3, :3] = 255  # a bright corner that decides some of them, unless it is masked
    found = certify(brightness, _data(images, np.ones(60, np.int64)), patch_px=(2, 2), per_axis=3)
    starts, length = cover(8, 2, count=3)
    expected = [_double_masked(image, starts, length) for image in images]
    assert found.answers.tolist() == expected
    plain = brightness(images).argmax(axis=1)
    assert (found.answers != plain).any(), "masks change some answers"
    assert (found.answers[found.certified] == 1).all()
    assert (found.masks, found.mask_px) == (len(starts) ** 2, (length, length))
