"""The procedural traffic signs: the same bytes everywhere, whatever is asked for with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qadtr_edge.data import SPLITS, load
from qadtr_edge.data.sign_scenes import photographs
from qadtr_edge.data.signs import CLASS_NAMES, FIRST_ID, SIZES
from qadtr_edge.errors import BadInput

# Not machine-dependent: every operation is correctly rounded and every sum has a written order.
DIGEST_OF_100_TEST_IMAGES = "c27018968aaa2e4c8ae6c50fabbfcc171c4a36f4a6937a86e51bbf4df0a8a277"


def test_the_images_are_these() -> None:
    assert load("signs", "test", limit=100).digest == DIGEST_OF_100_TEST_IMAGES


def test_what_a_split_holds() -> None:
    signs = load("signs", "craft", limit=60)
    assert signs.images.shape == (60, 3, 32, 32)
    assert signs.images.dtype == np.uint8
    assert signs.labels.dtype == signs.ids.dtype == np.int64
    assert len(signs.class_names) == len(set(signs.class_names)) == 12
    assert not signs.flip_allowed
    assert len(load("signs", "calibration")) == SIZES["calibration"]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(1, 150), st.integers(1, 150))
def test_a_limit_changes_no_image(split: str, one: int, other: int) -> None:
    a, b = load("signs", split, limit=one), load("signs", split, limit=other)
    n = min(one, other)
    np.testing.assert_array_equal(a.images[:n], b.images[:n])
    np.testing.assert_array_equal(a.labels[:n], b.labels[:n])
    np.testing.assert_array_equal(a.ids[:n], b.ids[:n])


def test_an_image_depends_on_its_id_alone() -> None:
    signs = load("signs", "test", limit=40)
    backwards = photographs(signs.ids[::-1].copy(), signs.labels[::-1].copy())
    np.testing.assert_array_equal(backwards[::-1], signs.images)


def test_every_limit_is_balanced() -> None:
    labels = load("signs", "train", limit=600).labels
    for n in (12, 120, 600):
        assert set(np.bincount(labels[:n], minlength=12)) == {n // 12}
    assert not np.array_equal(labels[:12], labels[12:24]), "the order within a block must vary"


def test_no_image_is_in_two_splits() -> None:
    ids = [FIRST_ID[split] + np.arange(SIZES[split]) for split in SPLITS]
    assert len(np.unique(np.concatenate(ids))) == sum(SIZES.values())
    parts = [load("signs", split, limit=1_000) for split in SPLITS]
    seen = {image.tobytes() for part in parts for image in part.images}
    assert len(seen) == sum(len(part) for part in parts)
    for part in parts:
        assert set(part.ids) <= set(FIRST_ID[part.split] + np.arange(SIZES[part.split]))


def test_a_pictogram_alone_tells_speed_limits_apart() -> None:
    """The same scene with another number on the plate: most of the picture is the same."""
    ids = load("signs", "test", limit=64).ids
    thirty, fifty = (
        photographs(ids, np.full(64, CLASS_NAMES.index(name))) for name in ("speed-30", "speed-50")
    )
    differing = (thirty != fifty).any(axis=1).mean(axis=(1, 2))
    assert 0.01 < np.median(differing) < 0.2


def test_a_size_it_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="32 x 32 pixels, not 64"):
        load("signs", "test", image_size=64)
    assert len(load("signs", "test", limit=3, image_size=32)) == 3
