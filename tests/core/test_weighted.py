"""One layer at several widths: what training sees is what ships."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

import nets
from qadtr_edge.models.steps import Step
from qadtr_edge.models.weighted import WeightedLayer

WIDTHS = (32, 8, 4, 2)
BITS = {8: 8, 4: 4, 2: 2}
LIMITS = {8: 127, 4: 7, 2: 1}
X_SCALE = torch.tensor(0.03)


def layer(*, norm: bool = True, strict: bool = False, bias: bool = False) -> WeightedLayer:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 10, 3, padding=1, bias=bias)
    follows = nn.BatchNorm2d(10) if norm else None
    if follows is not None:
        nets.lively(follows)
    step = Step("conv", "conv", ("x",), conv, follows)
    made = WeightedLayer(step, widths=WIDTHS, weight_bits=BITS, limits=LIMITS, is_strict=strict)
    for bits in BITS:
        made.calibrate(bits)
    return made.eval()


def x(count: int = 3) -> Tensor:
    return torch.rand(count, 4, 6, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_the_simulated_layer_is_the_folded_one(bits: int, strict: bool) -> None:
    made = layer(strict=strict)
    codes, scale, bias = made.folded(bits)
    whole = (bias / (X_SCALE.double() * scale)).round() * X_SCALE.double() * scale
    weight = codes * scale[:, None, None, None]
    wanted = nn.functional.conv2d(x().double(), weight, whole, padding=1)
    assert torch.allclose(made(x(), bits, x_scale=X_SCALE).double(), wanted, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_codes_are_whole_bounded_and_change_sign_with_gamma(bits: int) -> None:
    made = layer()
    codes = made.folded(bits).codes
    assert torch.equal(codes, codes.round())
    assert codes.abs().amax() == LIMITS[bits]
    norm = made.norms[f"w{bits}"]
    assert (norm.weight < 0).any(), "the case has negative gammas"
    with torch.no_grad():
        norm.weight.mul_(-1)
    assert torch.equal(made.folded(bits).codes, -codes)
    assert (made.folded(bits).scale > 0).all()


def test_at_eight_bits_the_largest_weight_of_a_channel_is_the_limit() -> None:
    made = layer()
    codes = made.folded(8).codes.flatten(1).abs()
    assert (codes.amax(1) == 127).all()
    largest = made.weight.detach().flatten(1).abs().argmax(1, keepdim=True)
    assert (codes.gather(1, largest) == 127).all()


@pytest.mark.parametrize("bits", [8, 2])
def test_strict_scales_are_powers_of_two_after_folding(bits: int) -> None:
    scale = layer(strict=True).folded(bits).scale
    assert torch.equal(torch.log2(scale), torch.log2(scale).round())
    assert len(scale.unique()) > 1


def test_training_follows_batch_statistics_and_evaluation_the_running_ones() -> None:
    made = layer()
    made.train()
    y = made(x(8), 4, x_scale=X_SCALE)
    shift = made.norms["w4"].bias
    assert torch.allclose(y.mean(dim=(0, 2, 3)), shift, atol=1e-5)
    made.eval()
    assert not torch.allclose(made(x(8), 4, x_scale=X_SCALE).mean(dim=(0, 2, 3)), shift, atol=1e-2)


def test_each_width_has_a_batch_norm_of_its_own() -> None:
    made = layer()
    before = {key: norm.running_mean.clone() for key, norm in made.norms.items()}
    made.train()
    made(x(), 4, x_scale=X_SCALE)
    changed = {
        key for key, norm in made.norms.items() if not torch.equal(norm.running_mean, before[key])
    }
    assert changed == {"w4"}


def test_under_strict_scales_statistics_stay_frozen() -> None:
    made = layer(strict=True)
    before = made.norms["w4"].running_mean.clone()
    made.train()
    made(x(), 4, x_scale=X_SCALE)
    assert torch.equal(made.norms["w4"].running_mean, before)


@pytest.mark.parametrize("bits", [8, 4])
def test_every_weight_inside_the_range_learns(bits: int) -> None:
    made = layer(norm=False, bias=True)
    made(x(), bits, x_scale=X_SCALE).square().sum().backward()
    learning = (made.weight.grad != 0).flatten(1)
    if bits == 8:
        assert learning.all(), "the largest weight defines the scale, and is not clipped by it"
    else:
        assert learning.any(1).all()
        assert made.scales["w4"].grad.abs().min() > 0
    assert made.bias.grad.abs().min() > 0


def test_only_learned_steps_are_parameters() -> None:
    assert set(layer().scales) == {"w4", "w2"}


@pytest.mark.parametrize(("norm", "bias"), [(True, False), (False, True), (False, False)])
def test_a_shift_moves_the_output_of_one_width_alone(norm: bool, bias: bool) -> None:
    made = layer(norm=norm, bias=bias)
    by = torch.linspace(-1, 1, 10)

    def means() -> dict[int, Tensor]:
        with torch.no_grad():
            return {bits: made(x(), bits).mean(dim=(0, 2, 3)) for bits in WIDTHS}

    before = means()
    made.shift_output(8, by / 2)
    made.shift_output(8, by / 2)
    after = means()
    assert torch.allclose(after[8] - before[8], by, atol=1e-5)
    for bits in (32, 4, 2):
        assert torch.equal(after[bits], before[bits])
    assert torch.allclose(
        made.folded(8).bias.float(),
        layer(norm=norm, bias=bias).folded(8).bias.float() + by,
        atol=1e-6,
    )


def test_the_float_layer_is_folded_as_it_runs() -> None:
    made = layer(bias=True)
    weight, bias = made.folded_float()
    wanted = nn.functional.conv2d(x(), weight, bias, padding=1)
    assert torch.allclose(made(x(), 32), wanted, atol=1e-5)
