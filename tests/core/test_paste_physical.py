"""Perspective and light: the integers the docstrings write, in NumPy and in torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge.attacks import eot
from qadtr_edge.patch import light, perspective, places
from qadtr_edge.patch.paste import coefficients, footprint, paste
from qadtr_edge.patch.placement import Policy, box, place, policy
from qadtr_edge.types import Pixels, Placements

IMAGE = (23, 19)
SEEDS = st.integers(0, 1000)
SIDES = st.integers(1, 9)


def scene(seed: int, *, n: int, patch: tuple[int, int]) -> tuple[Pixels, Pixels, np.ndarray]:
    """Images, one patch for each, and a mask with holes."""
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 256, (n, 3, *IMAGE), dtype=np.uint8)
    pixels = chance.integers(0, 256, (n, 3, *patch), dtype=np.uint8)
    mask = chance.random(patch) < 0.7
    mask[patch[0] // 2, patch[1] // 2] = True
    return images, pixels, mask


def anywhere(seed: int, n: int) -> Placements:
    """Places at any angle, partly outside, in any perspective and light there may be."""
    chance = np.random.default_rng([seed, 1])
    return Placements(
        top=chance.uniform(-6, 20, n), left=chance.uniform(-6, 16, n),
        degrees=chance.uniform(-180, 180, n), scale=chance.uniform(0.4, 2.0, n),
        corners=chance.uniform(0, 0.33, (n, 4, 2)), contrast=chance.uniform(0, 2, n),
        brightness=chance.uniform(-80, 80, n),
    )  # fmt: skip


def by_hand(images: Pixels, pixels: Pixels, *, mask: np.ndarray, at: Placements) -> Pixels:
    """The paste pixel by pixel in Python's integers, which never overflow."""
    fixed, _, _ = coefficients(at, patch_px=mask.shape, image_px=IMAGE)
    rows = np.concatenate(fixed, axis=1).tolist()
    pasted = images.copy()
    for index, (p0, p1, p2, q0, q1, q2, w0, w1, w2) in enumerate(rows):
        factor = round(256 * at.contrast[index])  # type: ignore[index]
        offset = round(256 * at.brightness[index])  # type: ignore[index]
        for r in range(IMAGE[0]):
            for c in range(IMAGE[1]):
                depth = w0 * c + w1 * r + w2
                if depth <= 0:
                    continue
                j = ((p0 * c + p1 * r + p2) << 22) // depth >> 16
                i = ((q0 * c + q1 * r + q2) << 22) // depth >> 16
                if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and mask[i, j]:
                    for channel in range(3):
                        byte = int(pixels[index, channel, i, j])
                        shown = (factor * byte + offset + 128) >> 8
                        pasted[index, channel, r, c] = min(max(shown, 0), 255)
    return pasted


@given(seed=SEEDS, rows=SIDES, wide=SIDES)
def test_equals_the_definition_even_partly_outside(seed: int, rows: int, wide: int) -> None:
    images, pixels, mask = scene(seed, n=3, patch=(rows, wide))
    at = anywhere(seed, 3)
    found = paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(found, by_hand(images, pixels, mask=mask, at=at))


@given(seed=SEEDS)
def test_each_corner_of_the_patch_is_seen_where_the_placement_puts_it(seed: int) -> None:
    """Checked through the definition alone: the map of real numbers, not the fixed point."""
    chance = np.random.default_rng(seed)
    corners = chance.uniform(0, 0.3, (1, 4, 2))
    at = Placements(*np.array([[4.0], [3.0], [0.0], [1.0]]), corners=corners)
    height, width = 12, 14
    fixed, _, _ = coefficients(at, patch_px=(height, width), image_px=IMAGE)
    rows = np.concatenate(fixed, axis=1)[0].astype(float).reshape(3, 3)
    stored = [(0, 0), (0, width), (height, width), (height, 0)]
    for (down, right), stands, (turn_y, turn_x) in zip(
        corners[0], stored, [(1, 1), (1, -1), (-1, -1), (-1, 1)], strict=True
    ):
        y = 4.0 + stands[0] + turn_y * down * height
        x = 3.0 + stands[1] + turn_x * right * width
        across, below, depth = rows @ [x - 0.5, y - 0.5, 1.0]
        assert across / depth * 2**6 == pytest.approx(stands[1], abs=0.01)
        assert below / depth * 2**6 == pytest.approx(stands[0], abs=0.01)


def test_no_perspective_shows_what_the_flat_map_shows() -> None:
    images, pixels, mask = scene(0, n=40, patch=(6, 7))
    at = replace(anywhere(0, 40), corners=None)
    bent = replace(at, corners=np.zeros((40, 4, 2)))
    flat = paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(paste(images, pixels, mask=mask, placements=bent), flat)


@given(seed=SEEDS, rows=SIDES, wide=SIDES)
def test_a_physical_patch_lies_inside_and_changes_its_own_pixels_alone(
    seed: int, rows: int, wide: int
) -> None:
    images, pixels, mask = scene(seed, n=20, patch=(rows, wide))
    how = policy("physical", image_px=min(IMAGE))
    at = place(how, np.arange(20), seed=seed, patch_px=(rows, wide), image_px=IMAGE)
    high, across = box(at.scale * rows, at.scale * wide, degrees=at.degrees)
    for corner, side, extent, limit in (
        (at.top, rows, high, IMAGE[0]), (at.left, wide, across, IMAGE[1]),
    ):  # fmt: skip
        middle = corner + at.scale * side / 2
        assert (middle - extent / 2 >= -1e-9).all()
        assert (middle + extent / 2 <= limit + 1e-9).all()
    solid = footprint(replace(at, corners=None), mask=np.ones_like(mask), image_px=IMAGE)
    where = footprint(at, mask=mask, image_px=IMAGE)
    whole = set(zip(solid.image, solid.row, solid.column, strict=True))
    held = set(zip(where.image, where.row, where.column, strict=True))
    # Rounded coefficients may let the two maps disagree by one pixel on an edge they share.
    assert len(held - whole) <= 1
    covered = np.zeros((20, *IMAGE), bool)
    covered[where.image, where.row, where.column] = True
    changed = (paste(images, pixels, mask=mask, placements=at) != images).any(axis=1)
    assert not (changed & ~covered).any()


def test_a_physical_place_depends_on_its_own_id_alone() -> None:
    ids = np.arange(12) + 1000
    order = np.random.default_rng(0).permutation(12)
    how = policy("physical", image_px=19)
    whole = place(how, ids, seed=3, patch_px=(5, 5), image_px=IMAGE)
    again = place(how, ids[order], seed=3, patch_px=(5, 5), image_px=IMAGE)
    for name, column in places.columns(whole).items():
        assert np.array_equal(column[order], places.columns(again)[name])
    images, pixels, mask = scene(1, n=12, patch=(5, 5))
    together = paste(images, pixels, mask=mask, placements=whole)
    alone = paste(
        images[3:4], pixels[3:4], mask=mask, placements=places.taken(whole, slice(3, 4))
    )  # fmt: skip
    assert np.array_equal(together[3:4], alone)


def test_physical_draws_over_its_ranges() -> None:
    how = policy("physical", image_px=32)
    at = place(how, np.arange(5000), seed=0, patch_px=(6, 6), image_px=(32, 32))
    assert at.corners is not None
    assert at.contrast is not None
    assert at.brightness is not None
    for found, low, high in (
        (at.corners, 0.0, 0.125), (at.contrast, 0.8, 1.2), (at.brightness, -25.5, 25.5),
        (at.degrees, -15.0, 15.0), (at.scale, 0.9, 1.1),
    ):  # fmt: skip
        edge = 0.02 * (high - low)
        assert low <= found.min() < low + edge
        assert high - edge < found.max() <= high
    drawn = np.column_stack([at.corners.reshape(-1, 8), at.contrast, at.brightness, at.degrees])
    apart = np.corrcoef(drawn.T) - np.eye(11)
    assert np.abs(apart).max() < 0.08, "each is drawn on its own"


def test_light_alone_keeps_whole_pixels() -> None:
    images, pixels, mask = scene(2, n=30, patch=(4, 5))
    how = Policy("dim", contrast=(0.5, 0.5), brightness=0.0)
    at = place(how, np.arange(30), seed=0, patch_px=(4, 5), image_px=IMAGE)
    half = ((pixels.astype(int) + 1) // 2).astype(np.uint8)
    plain = light.without(at)
    assert np.array_equal(
        paste(images, pixels, mask=mask, placements=at),
        paste(images, half, mask=mask, placements=plain),
    )


@given(seed=SEEDS)
def test_the_differentiable_paste_shows_the_same_bytes(seed: int) -> None:
    images, pixels, mask = scene(seed, n=3, patch=(6, 5))
    at = anywhere(seed, 3)
    shown = eot.paste(
        torch.from_numpy(images).float(), torch.from_numpy(pixels).float(),
        mask=mask, placements=at, which=np.arange(3),
    )  # fmt: skip
    wanted = paste(images, pixels, mask=mask, placements=at)
    assert np.array_equal(shown.numpy(), wanted.astype(np.float32))


def test_the_gradient_of_a_lit_pixel_is_its_contrast_until_it_leaves_the_range() -> None:
    at = Placements(
        *np.array([[1.0], [1.0], [0.0], [1.0]]), contrast=np.array([1.5]),
        brightness=np.array([30.0]),
    )  # fmt: skip
    pixels = torch.tensor([10.0, 200.0]).repeat(3, 1, 1).requires_grad_(True)
    shown = eot.paste(torch.zeros(1, 3, 4, 4), pixels, mask=np.ones((1, 2), bool), placements=at)
    assert shown[0, :, 1, 1:3].tolist() == [[45.0, 255.0]] * 3
    shown.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.tolist() == [[[1.5, 0.0]]] * 3


def test_a_dented_corner_and_what_leaves_the_fixed_point_are_no_places() -> None:
    at = Placements(*np.array([[0.0], [0.0], [0.0], [1.0]]), corners=np.full((1, 4, 2), 0.35))
    with pytest.raises(AssertionError, match="dented"):
        perspective.coefficients(at, [np.ones(1)] * 4, patch_px=(6, 6))
    near = replace(at, corners=np.full((1, 4, 2), 0.3))
    with pytest.raises(AssertionError, match="fixed point"):
        perspective.coefficients(near, [np.full(1, 1e6)] * 4, patch_px=(1, 1))
