"""DPR: the outline has the square's area, gets a gradient, and helps the patch to win."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge.attacks.dpr import Dpr, Outline


@given(st.lists(st.floats(0.2, 3.0), min_size=8, max_size=8), st.integers(4, 40))
def test_the_outline_always_has_the_area_of_the_square(lengths: list[float], area: int) -> None:
    mask = Outline((8, 8), area, rays=8).mask(torch.tensor(lengths))
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert mask.sum() == area


def test_equal_rays_are_a_disc() -> None:
    mask = Outline((11, 11), 49, rays=16).mask(torch.ones(16)).numpy() > 0.5
    down, across = np.indices((11, 11)) - 5.0
    far = np.hypot(down, across)
    assert far[mask].max() <= far[~mask].min() + 1e-4


def test_a_longer_ray_reaches_further() -> None:
    lengths = torch.ones(4)
    lengths[0] = 3.0  # to the right
    mask = Outline((11, 11), 30, rays=4).mask(lengths).numpy() > 0.5
    assert mask[5, 10]
    assert not mask[5, 0]


def test_the_outline_gets_a_gradient() -> None:
    lengths = torch.ones(8, requires_grad=True)
    weight = torch.zeros(9, 9)
    weight[:, 5:] = 1.0  # being on the right is good
    (Outline((9, 9), 20, rays=8).mask(lengths) * weight).sum().backward()
    assert lengths.grad is not None
    assert lengths.grad[0] > 0, "the ray to the right"
    assert lengths.grad[0] > lengths.grad[4]


def test_the_parameters_say_all_that_can_change_the_patch() -> None:
    assert set(Dpr().parameters) == set(vars(Dpr()))
