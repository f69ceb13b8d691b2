"""Fake quantization: the grid it rounds to, and its gradients of first and second order."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch")

from torch import Tensor

from qadtr_edge.quant.codes import CodeRange
from qadtr_edge.quant.fake import fake_quantize, power_of_two, round_to_grid

RANGES = tuple(CodeRange(*ends) for ends in ((0, 3), (-1, 1), (-7, 7), (0, 127), (-128, 127)))

values = arrays(np.float32, 31, elements=st.floats(-300, 300, width=32)).map(torch.from_numpy)
scales = st.floats(2.0**-10, 4, width=32).map(torch.tensor)
code_ranges = st.sampled_from(RANGES)


def codes_of(result: Tensor, scale: Tensor) -> Tensor:
    return (result.double() / scale.double()).round()


@given(values, scales, code_ranges)
def test_results_lie_on_the_grid_inside_the_range(
    value: Tensor, scale: Tensor, codes: CodeRange
) -> None:
    result = fake_quantize(value, scale, codes=codes)
    whole = codes_of(result, scale)
    assert torch.equal(result, whole.float() * scale)
    assert whole.min() >= codes.low
    assert whole.max() <= codes.high


@given(values, scales, code_ranges)
def test_quantizing_twice_changes_nothing(value: Tensor, scale: Tensor, codes: CodeRange) -> None:
    once = fake_quantize(value, scale, codes=codes)
    assert torch.equal(fake_quantize(once, scale, codes=codes), once)


@given(values, scales, code_ranges)
def test_order_is_kept(value: Tensor, scale: Tensor, codes: CodeRange) -> None:
    ordered = value.sort().values
    assert (fake_quantize(ordered, scale, codes=codes).diff() >= 0).all()


@given(values, scales, code_ranges)
def test_inside_the_range_the_error_is_half_a_step(
    value: Tensor, scale: Tensor, codes: CodeRange
) -> None:
    inside = value.clamp(float(codes.low * scale), float(codes.high * scale))
    error = (fake_quantize(inside, scale, codes=codes) - inside).abs()
    assert error.max() <= 0.5 * scale * (1 + 1e-5)


def test_ties_go_to_the_even_code() -> None:
    ties = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) * 0.25
    result = fake_quantize(ties, torch.tensor(0.25), codes=CodeRange(-7, 7))
    assert (result / 0.25).tolist() == [-2, -2, 0, 0, 2, 2]


def test_it_divides_and_does_not_multiply_by_the_reciprocal() -> None:
    scale = torch.tensor(0.0123)
    value = (torch.arange(0, 120) + 0.5) * scale
    divided = (value / scale).round()
    assert not torch.equal(divided, (value * (1 / scale)).round()), "the case tells them apart"
    result = fake_quantize(value, scale, codes=CodeRange(0, 127))
    assert torch.equal(codes_of(result, scale).float(), divided)


def test_a_scale_per_channel_is_one_call_per_channel() -> None:
    value, scale = torch.randn(5, 3, 2, 2), torch.rand(5) + 0.1
    whole = fake_quantize(value, scale.view(5, 1, 1, 1), codes=CodeRange(-3, 3))
    rows = [fake_quantize(v, s, codes=CodeRange(-3, 3)) for v, s in zip(value, scale, strict=True)]
    assert torch.equal(whole, torch.stack(rows))


def test_nan_stays_nan_and_infinity_saturates() -> None:
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf])
    result = fake_quantize(odd, torch.tensor(0.5), codes=CodeRange(-7, 7))
    assert torch.isnan(result[0])
    assert result[1:].tolist() == [3.5, -3.5]


# -- gradients -------------------------------------------------------------------------------------


def closed_form(
    value: Tensor, scale: Tensor, codes: CodeRange, gradient: Tensor, elements: float
) -> tuple[Tensor, Tensor]:
    """Straight-through gradient, and LSQ's Eq. 3, of every element, in float64."""
    v, s, g = value.double(), scale.double(), gradient.double()
    ratio = v / s
    inside = (ratio > codes.low) & (ratio < codes.high)
    slope = g * torch.where(inside, ratio.round() - ratio, ratio.clamp(codes.low, codes.high))
    return g * inside, slope.sum_to_size(s.shape) / (elements * codes.high) ** 0.5


@pytest.mark.parametrize("codes", RANGES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_activation_gradients_are_the_closed_form(
    codes: CodeRange, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    value = (torch.randn(4, 3, 5, 5) * codes.high * 0.2).to(memory_format=layout).requires_grad_()
    scale = torch.tensor(0.23, requires_grad=True)
    gradient = torch.randn_like(value)
    fake_quantize(value, scale, codes=codes).backward(gradient)
    wanted, step = closed_form(value, scale, codes, gradient, elements=3 * 5 * 5)
    assert 0.02 < (wanted == 0).float().mean() < 0.98, "both sides of the clip are there"
    assert torch.equal(value.grad.double(), wanted)
    assert scale.grad.item() == pytest.approx(step.item(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("codes", [CodeRange(-1, 1), CodeRange(-7, 7)])
def test_weight_gradients_are_the_closed_form(codes: CodeRange) -> None:
    torch.manual_seed(0)
    value = torch.randn(6, 3, 3, 3, requires_grad=True)
    scale = (torch.rand(6, 1, 1, 1) / codes.high + 0.1).requires_grad_()
    gradient = torch.randn_like(value)
    fake_quantize(value, scale, codes=codes).backward(gradient)
    wanted, step = closed_form(value, scale, codes, gradient, elements=27)
    assert torch.equal(value.grad.double(), wanted)
    assert torch.allclose(scale.grad.double(), step, rtol=1e-4, atol=1e-5)


def test_a_code_that_comes_in_as_one_keeps_its_gradient_and_zero_of_a_relu_does_not() -> None:
    for scale in (0.1, 0.3, 0.0123, 1.7):
        step = torch.tensor(scale)
        for codes in RANGES:
            value = (torch.arange(codes.low - 1, codes.high + 2) * step).requires_grad_()
            fake_quantize(value, step, codes=codes).sum().backward()
            first = 2 if codes.low == 0 else 1
            wanted = [0.0] * first + [1.0] * (len(value) - first - 1) + [0.0]
            assert value.grad.tolist() == wanted


def test_the_size_of_the_batch_does_not_change_the_weight_of_the_step() -> None:
    """Twice the same image: twice the gradient, as for any other parameter."""
    for shape in ((1, 3, 4, 4), (1, 12)):
        value = torch.randn(shape)
        slopes = []
        for batch in (value, value.repeat(2, *[1] * (value.dim() - 1))):
            scale = torch.tensor(0.3, requires_grad=True)
            fake_quantize(batch, scale, codes=CodeRange(0, 3)).sum().backward()
            slopes.append(scale.grad.item())
        assert slopes[1] == pytest.approx(2 * slopes[0], rel=1e-5)


def composed(value: Tensor, scale: Tensor, codes: CodeRange) -> Tensor:
    """The same function of ordinary operations, the codes' rounding error held constant."""
    ratio = (value / scale).clamp(codes.low, codes.high)
    return (ratio + (ratio.round() - ratio).detach()) * scale


def test_second_derivatives_are_those_of_the_composed_form() -> None:
    """Of an input-gradient penalty, as gradient regularisation needs it."""
    torch.manual_seed(0)
    x0, w0 = torch.rand(8, 6) * 2, torch.randn(5, 6)
    found = []
    for quantize in (lambda v, s, c: fake_quantize(v, s, codes=c), composed):
        x, w = x0.clone().requires_grad_(), w0.clone().requires_grad_()
        one = torch.tensor(0.3, requires_grad=True)
        many = torch.full((5, 1), 0.25, requires_grad=True)
        weight = quantize(w, many, CodeRange(-7, 7))
        y = quantize(quantize(x, one, CodeRange(0, 7)) @ weight.T, one, CodeRange(-7, 7))
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), (x, w)))
    for mine, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", [(), (5, 1)])
def test_the_gradient_of_the_step_can_be_differentiated(shape: tuple[int, ...]) -> None:
    """Against the composed formula of LSQ's gradient, the codes held constant."""
    torch.manual_seed(1)
    codes = CodeRange(-3, 3)
    value, gradient = torch.randn(5, 7), torch.randn(5, 7)
    v, s, g = (
        value.requires_grad_(),
        torch.full(shape, 0.4).requires_grad_(),
        gradient.requires_grad_(),
    )
    result = fake_quantize(v, s, codes=codes)
    (slope,) = torch.autograd.grad(result, s, g, create_graph=True)
    ratio = v / s
    inside = (ratio > codes.low) & (ratio < codes.high)
    whole = ratio.clamp(codes.low, codes.high).round().detach()
    elements = value.numel() / s.numel() / (1 if shape else len(value))
    formula = (g * (whole - ratio * inside)).sum_to_size(s.shape) * (elements * codes.high) ** -0.5
    assert torch.allclose(slope, formula, rtol=1e-4, atol=1e-5)
    mine = torch.autograd.grad(slope.sum(), (v, s, g))
    theirs = torch.autograd.grad(formula.sum(), (v, s, g))
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


# -- grids -----------------------------------------------------------------------------------------


def test_powers_of_two_are_exact_and_nearest_in_the_logarithm() -> None:
    exact = torch.tensor([2.0**e for e in range(-40, 20)])
    assert torch.equal(power_of_two(exact), exact)
    assert power_of_two(torch.tensor([0.7, 0.72, 1.4, 1.42])).tolist() == [0.5, 1, 1, 2]
    scale = torch.tensor([0.3, 5.0], requires_grad=True)
    power_of_two(scale).backward(torch.tensor([2.0, -3.0]))
    assert scale.grad.tolist() == [2, -3]


@given(values, scales)
def test_rounding_to_a_grid_lands_on_it(value: Tensor, step: Tensor) -> None:
    result = round_to_grid(value, step)
    assert torch.equal(result, codes_of(result, step).float() * step)
    assert (result - value).abs().max() <= 0.5 * step * (1 + 1e-4)
    assert torch.equal(round_to_grid(value, torch.zeros(())), value)


def test_rounding_to_a_grid_passes_the_gradient() -> None:
    value, step = torch.tensor([0.3, 0.9], requires_grad=True), torch.tensor([0.5, 0.0])
    round_to_grid(value, step).backward(torch.tensor([1.0, 7.0]))
    assert value.grad.tolist() == [1, 7]
