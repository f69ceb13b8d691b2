"""``QuantNet``: one network, several widths, and what its simulation promises."""
# ruff: noqa: E402

from __future__ import annotations

import weakref

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

import nets
from qadtr_edge.errors import BadInput
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.types import QuantSpec


@pytest.fixture(scope="module")
def net() -> QuantNet:
    return nets.ready(nets.mixed())


def test_a_width_it_does_not_hold_is_answered_with_those_it_does(net: QuantNet) -> None:
    with pytest.raises(BadInput, match="holds the widths 32, 8, 4, 2, not 3") as caught:
        net.select(3)
    assert "--bits 32,8,4,2,3" in caught.value.remedy


def test_widths_are_checked_and_kept_once() -> None:
    made = prepare(nets.small_resnet(), QuantSpec(), widths=(8, 4, 8), classes=6, image_px=16)
    assert made.widths == (8, 4)
    assert made.bits == 8
    with pytest.raises(BadInput, match="9 bits"):
        prepare(nets.small_resnet(), QuantSpec(), widths=(9,), classes=6, image_px=16)


def test_bytes_and_floats_of_the_same_value_give_the_same_logits(net: QuantNet) -> None:
    images = nets.pixels(3)
    for bits in net.widths:
        net.select(bits)
        assert torch.equal(net(images), net(images.float()))


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_every_tensor_lies_on_its_grid(net: QuantNet, bits: int) -> None:
    net.select(bits)
    points = net.plans[bits]
    with torch.no_grad():
        tensors = net.run(nets.pixels(6))
    assert set(tensors) == {s.name for s in net.steps} | {
        f"{name}:narrow" for name in points.narrow
    }
    narrow = {f"{name}:narrow": site for name, site in points.narrow.items()}
    for name, site in {**points.sites, **narrow}.items():
        codes = tensors[name] / net.scale(site, bits)
        assert (codes - codes.round()).abs().max() < 1e-4, name
        assert codes.min() >= site.codes.low - 1e-4, name
        assert codes.max() <= site.codes.high + 1e-4, name


def test_relu6_stops_at_six() -> None:
    class Six(nn.Module):
        """One relu6 merged into its convolution, one behind a pooling, where it stands alone."""

        def __init__(self) -> None:
            super().__init__()
            self.pixels, self.relu6 = PixelInput(), nn.ReLU6()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.most, self.pool = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu6(self.first(self.pixels(x)))
            x = self.relu6(self.most(self.second(x)))
            return self.head(torch.flatten(self.pool(x), 1))

    torch.manual_seed(0)
    model = Six()
    with torch.no_grad():
        model.first.weight.mul_(20)
        model.second.weight.mul_(10)
    made = nets.ready(model)
    assert {step.name: step.op for step in made.steps}["relu6"] == "clip"
    for bits in (32, 8, 4):
        with torch.no_grad():
            tensors = made.select(bits).run(nets.pixels(6))
        for name in ("first", "relu6"):
            step = 0.0 if bits == 32 else made.scale(made.plans[bits].sites[name], bits).item()
            assert tensors[name].min() == 0
            assert abs(float(tensors[name].max()) - 6) <= 0.5 * step + 1e-5


def test_tensors_are_let_go_once_they_were_read(net: QuantNet) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(output))
        most = max(most, sum(ref() is not None for ref in alive))

    layers = [net.layer(step) for step in net.steps if step.op in ("conv", "linear")]
    handles = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        net.select(32)(nets.pixels(2))
    for handle in handles:
        handle.remove()
    assert len(alive) == len(layers)
    assert most <= 3


def test_pixels_and_parameters_have_gradients_at_every_width(net: QuantNet) -> None:
    for bits in net.widths:
        net.select(bits).zero_grad()
        image = nets.pixels(4).float().requires_grad_()
        net(image).square().sum().backward()
        assert image.grad is not None
        assert (image.grad != 0).float().mean() > 0.1
        for step in net.steps:
            if step.op in ("conv", "linear"):
                gradient = net.layer(step).weight.grad
                assert gradient is not None
                assert gradient.abs().sum() > 0, step.name
        if bits != 32:
            learned = [p.grad for name, p in net.scales.items() if name.endswith(f"@{bits}")]
            assert all(slope is not None and torch.isfinite(slope) for slope in learned)
            assert sum(bool(slope != 0) for slope in learned) > len(learned) / 2
    net.zero_grad()


def test_the_input_gradient_can_be_differentiated_again(net: QuantNet) -> None:
    image = nets.pixels(2).float().requires_grad_()
    for bits in (8, 2):
        net.select(bits).zero_grad()
        loss = net(image).square().sum()
        (gradient,) = torch.autograd.grad(loss, image, create_graph=True)
        gradient.square().sum().backward()
        weight = net.layer(net.steps[1]).weight
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    net.zero_grad()


def test_tied_sums_never_round(net: QuantNet) -> None:
    made = nets.ready(nets.small_resnet())
    with torch.no_grad():
        tensors = made.select(8).run(nets.pixels(4))
    for step in made.steps:
        if step.op == "add":
            scale = made.scale(made.plans[8].sites[step.name], 8)
            parts = [(tensors[name] / scale).round() for name in step.inputs]
            total = (tensors[step.name] / scale).round()
            assert torch.equal(total, sum(parts).clamp(0, 127))


def test_strict_scales_are_powers_of_two() -> None:
    made = nets.ready(nets.small_resnet(), QuantSpec(scales="strict"))
    for bits, points in made.plans.items():
        for site in (*points.sites.values(), *points.narrow.values()):
            exponent = torch.log2(made.scale(site, bits))
            assert exponent == exponent.round()
