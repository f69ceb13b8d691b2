"""Upright patches: exactly the bytes of the exact paste, every place, gradients read back."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from qadtr_edge.attacks import upright
from qadtr_edge.errors import BadInput
from qadtr_edge.patch import paste as exact


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(4, 12), st.integers(4, 12), st.integers(1, 4),
    st.integers(1, 4), st.integers(0, 2**32),
)  # fmt: skip
def test_it_pastes_the_bytes_of_the_exact_paste(
    n: int, height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 256, (n, 3, height, width), dtype=np.uint8)
    pixels = chance.integers(0, 256, (n, 3, rows, columns), dtype=np.uint8)
    places = upright.corners_of((height, width), (rows, columns))
    corners = torch.from_numpy(places[chance.integers(0, len(places), n)])
    given_images, given_pixels = torch.from_numpy(images).float(), torch.from_numpy(pixels).float()
    before = given_images.clone()
    shown = upright.paste(given_images, given_pixels, corners=corners)
    mask = np.ones((rows, columns), bool)
    wanted = exact.paste(images, pixels, mask=mask, placements=upright.placements(corners))
    assert np.array_equal(shown.numpy(), wanted)
    assert torch.equal(given_images, before)
    assert torch.equal(upright.read(shown, corners, patch_px=(rows, columns)), given_pixels)


def test_a_patch_moved_by_k_pixels_is_the_same_bytes_k_pixels_on() -> None:
    images = torch.zeros(1, 3, 9, 9)
    pixels = torch.arange(1.0, 28.0).reshape(1, 3, 3, 3)
    here = upright.paste(images, pixels, corners=torch.tensor([[1, 2]]))
    there = upright.paste(images, pixels, corners=torch.tensor([[4, 3]]))
    assert torch.equal(there, here.roll((3, 1), dims=(2, 3)))


def test_the_memory_layout_of_the_images_is_kept() -> None:
    images = torch.zeros(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    shown = upright.paste(images, torch.ones(2, 3, 2, 2), corners=torch.zeros(2, 2).long())
    assert shown.is_contiguous(memory_format=torch.channels_last)


def test_a_gradient_read_at_the_patch_is_the_gradient_of_the_patch() -> None:
    torch.manual_seed(0)
    images, weights = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    pixels = torch.rand(3, 3, 2, 3, requires_grad=True)
    corners = torch.tensor([[0, 0], [6, 5], [2, 3]])
    shown = upright.paste(images, pixels, corners=corners)
    (own,) = torch.autograd.grad((weights * shown.square()).sum(), pixels)
    leaf = shown.detach().requires_grad_(True)
    (whole,) = torch.autograd.grad((weights * leaf.square()).sum(), leaf)
    assert torch.equal(upright.read(whole, corners, patch_px=(2, 3)), own)


def test_all_places_first_and_last_row_and_column_included() -> None:
    places = upright.corners_of((7, 5), (3, 2))
    assert {tuple(place) for place in places} == {(r, c) for r in range(5) for c in range(4)}
    assert len(places) == 20


def test_the_central_square_is_left_free() -> None:
    covered = np.zeros((32, 32), bool)
    places = upright.corners_of((32, 32), (6, 6), avoid_px=10)
    for top, left in places:
        covered[top : top + 6, left : left + 6] = True
    square = np.zeros_like(covered)
    square[11:21, 11:21] = True  # the paper's: rows and columns 11 to 20
    assert np.array_equal(covered, ~square)
    assert len(places) == 27 * 27 - 15 * 15


def test_no_place_left_is_refused() -> None:
    with pytest.raises(BadInput, match="no place"):
        upright.corners_of((8, 8), (4, 4), avoid_px=6)
    with pytest.raises(BadInput, match="larger than"):
        upright.corners_of((8, 8), (9, 4))
