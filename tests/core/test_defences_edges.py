"""Maps that agree score high, maps that do not score low, and all of it can be differentiated."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from qadtr_edge.defences import edges
from qadtr_edge.defences.edges import agreement, cosines, hog, magnitude, sobel, soft_dice

SIDE = 8


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stripes(*, upright: bool) -> Tensor:
    """Stripes two pixels wide, ``(16, 16)``: upright ones have slopes across alone."""
    line = (torch.arange(16) // 2 % 2).double()
    return line.expand(16, 16).clone() if upright else line[:, None].expand(16, 16).clone()


def test_sobel_of_a_ramp_is_its_slope() -> None:
    ramp = torch.arange(6.0).expand(1, 5, 6)
    down, across = sobel(ramp)
    assert torch.equal(down, torch.zeros(1, 5, 6))
    assert torch.equal(across[..., 1:-1], torch.full((1, 5, 4), 8.0))
    assert torch.equal(across[..., [0, -1]], torch.full((1, 5, 2), 4.0)), "the border is repeated"
    assert torch.equal(sobel(ramp.mT)[0], across.mT)


def test_a_flat_map_has_no_edges_and_a_finite_second_derivative() -> None:
    flat = torch.full((1, SIDE, SIDE), 3.0, dtype=torch.float64, requires_grad=True)
    assert magnitude(sobel(flat)).max() < 2e-4
    (first,) = torch.autograd.grad(magnitude(sobel(flat)).sum(), flat, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), flat)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


def test_the_threshold_leaves_fifteen_per_cent_above_and_carries_no_gradient() -> None:
    values = maps(3, 10, 10).requires_grad_()
    found = edges.threshold(values)
    assert found.shape == (3, 1, 1)
    assert not found.requires_grad
    assert ((values > found).flatten(1).sum(1) == 15).all()
    kept = edges.soft_edges(values)
    (gradient,) = torch.autograd.grad(kept.sum(), values)
    slope = edges.STEEPNESS * kept * (1 - kept)
    assert torch.allclose(gradient, slope), "a gradient through the percentile would be subtracted"


def test_soft_dice_of_equal_disjoint_and_half_equal_maps() -> None:
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], right[:, 2:] = 1, 1
    top = left.mT
    found = soft_dice(torch.stack([left, left, right, top]).flatten(1)[None])[0]
    assert found[0, 1] == pytest.approx(1, abs=1e-6)
    assert found[0, 2] == 0
    assert found[0, 3] == pytest.approx(0.5, abs=1e-6)
    assert torch.equal(found, found.mT)


def test_orientation_agrees_for_equal_maps_and_less_for_turned_ones() -> None:
    random = maps(16, 16)
    upright, lying = stripes(upright=True), stripes(upright=False)
    stack = torch.stack([random, random, random.rot90(), upright, 1 - upright, lying])
    found = cosines(hog(sobel(stack), cells=4)[None])[0]
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] < 0.9
    assert found[3, 4] == pytest.approx(1), "the sign of a slope does not matter"
    assert found[3, 5] < 0.2


def test_a_slope_falls_into_the_bins_around_its_direction() -> None:
    angles = torch.arange(edges.BINS, dtype=torch.float64) * torch.pi / edges.BINS
    slopes = torch.stack([angles.sin(), angles.cos()])[..., None, None].expand(2, -1, SIDE, SIDE)
    found = hog(slopes, cells=1)
    assert torch.equal(found.argmax(1), torch.arange(edges.BINS))
    assert (found.diagonal() > 0.75).all()
    assert torch.allclose(found.sum(1), torch.ones(edges.BINS, dtype=torch.float64))


def test_agreement_is_the_mean_over_pairs_and_images() -> None:
    stack = maps(3, 3, SIDE, SIDE)
    options = {"cells": 4, "dice": 0.5, "orientation": 1.0}
    parts = [
        agreement(stack[image : image + 1, list(pair)], **options)
        for image in range(3)
        for pair in ((0, 1), (0, 2), (1, 2))
    ]
    assert agreement(stack, **options).item() == pytest.approx(torch.stack(parts).mean().item())
    scaled = stack * torch.tensor([1.0, 1e-3, 50.0], dtype=torch.float64)[:, None, None]
    assert agreement(scaled, **options).item() == pytest.approx(agreement(stack, **options).item())


def test_equal_maps_agree_in_full_and_each_term_has_its_weight() -> None:
    twice = maps(2, 1, SIDE, SIDE).expand(2, 2, SIDE, SIDE)
    assert agreement(twice, cells=4, dice=0, orientation=2).item() == pytest.approx(2)
    assert agreement(twice, cells=4, dice=2, orientation=0).item() == pytest.approx(2, abs=0.3)
    assert agreement(twice, cells=4, dice=0, orientation=0).item() == 0


def test_images_without_a_gradient_are_left_out() -> None:
    stack = maps(2, 2, SIDE, SIDE)
    dead = torch.cat([stack, torch.zeros(1, 2, SIDE, SIDE)]).requires_grad_()
    options = {"cells": 4, "dice": 0.5, "orientation": 1.0}
    found = agreement(dead, **options)
    assert found.item() == pytest.approx(agreement(stack, **options).item())
    (gradient,) = torch.autograd.grad(found, dead)
    assert torch.isfinite(gradient).all()
    assert agreement(torch.zeros(1, 2, SIDE, SIDE), **options) == 0
    assert agreement(stack[:, :1], **options) == 0, "one width makes no pair"


@pytest.mark.parametrize(("dice", "orientation"), [(1.0, 0.0), (0.0, 1.0)])
def test_agreement_can_be_differentiated_twice(
    monkeypatch: pytest.MonkeyPatch, dice: float, orientation: float
) -> None:
    """Against finite differences, the percentile held still, as it is for gradients."""
    stack = maps(1, 2, 5, 5, seed=2).requires_grad_()
    peak = stack.detach().amax(dim=(-2, -1), keepdim=True)
    held = edges.threshold(magnitude(sobel(stack.detach() / peak)))
    monkeypatch.setattr(edges, "threshold", lambda _: held)
    monkeypatch.setattr(edges, "STEEPNESS", 5.0)

    def measured(values: Tensor) -> Tensor:
        return agreement(values, cells=2, dice=dice, orientation=orientation)

    assert torch.autograd.gradcheck(measured, (stack,))
    assert torch.autograd.gradgradcheck(measured, (stack,))
