"""TriQDef's penalties, on features and on input gradients: their values, gradients and reach."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.nn import functional

import nets
from qadtr_edge.defences import disagreement, edges
from qadtr_edge.defences.disagreement import FdpOptions, GpdpOptions
from qadtr_edge.models.mobilenet import MobileNetV2
from qadtr_edge.models.resnet import ResNet
from qadtr_edge.models.vgg import VGG
from widths_apart import batch, equal, fresh


def test_stages_end_before_the_resolution_drops() -> None:
    def ends(model: nn.Module, size: int = 32) -> tuple[str, ...]:
        net = nets.ready(model, widths=(32,), size=size)
        with torch.no_grad():
            return disagreement.stage_ends(net, net.run(nets.pixels(1, size=size)), stages=3)

    assert ends(ResNet(20)) == ("add_2", "add_5", "add_8")
    assert ends(VGG(11)) == ("features.0", "features.4", "features.11")
    assert ends(MobileNetV2()) == (
        "features.4.conv.0.0", "features.7.conv.0.0", "features.14.conv.0.0",
    )  # fmt: skip
    assert len(ends(nets.mixed(), 16)) >= 2
    assert ends(ResNet(8), 8) == ("add", "add_1"), "2 x 2 is too small"


def test_fdp_adds_stages_and_can_be_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = (
        torch.rand((2, 2, side, side), generator=chance, dtype=torch.float64) for side in (8, 4)
    )
    options = FdpOptions()
    both = disagreement.fdp([(first[0], second[0]), (first[1], second[1])], options)
    parts = [disagreement.fdp([(stage[0],), (stage[1],)], options) for stage in (first, second)]
    assert both.item() == pytest.approx(sum(parts).item())
    stack = torch.stack([first[0], first[1]], dim=1)
    held = edges.threshold(edges.magnitude(edges.sobel(stack / stack.amax((-2, -1), keepdim=True))))
    monkeypatch.setattr(edges, "threshold", lambda _: held)
    monkeypatch.setattr(edges, "STEEPNESS", 5.0)
    inputs = tuple(each.clone().requires_grad_() for each in first)
    assert torch.autograd.gradcheck(lambda a, b: disagreement.fdp([(a,), (b,)], options), inputs)


class Smooth(nn.Module):
    """A network whose widths differ by a gain, smooth enough for finite differences."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.bits = weight, 8

    def select(self, bits: int) -> Smooth:
        self.bits = bits
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = functional.softplus(functional.conv2d(x / 64, self.weight, padding=1) * self.bits)
        return torch.tanh(y * self.bits).mean(dim=2).flatten(1)


def test_gpdp_is_differentiated_through_the_input_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = torch.Generator().manual_seed(1)
    weight = torch.randn((2, 3, 3, 3), generator=chance, dtype=torch.float64).requires_grad_()
    images = 255 * torch.rand((2, 3, 4, 4), generator=chance, dtype=torch.float64)
    seen: list[Tensor] = []
    monkeypatch.setattr(edges, "STEEPNESS", 5.0)
    threshold = edges.threshold

    def held(values: Tensor) -> Tensor:
        seen.append(threshold(values))
        return seen[0]

    monkeypatch.setattr(edges, "threshold", held)

    def penalty(weight: Tensor) -> Tensor:
        return disagreement.gpdp(
            Smooth(weight), images, labels=torch.tensor([0, 5]), widths=(1, 2),
            options=GpdpOptions(),
        )  # fmt: skip

    monkeypatch.setattr(edges, "SMALLEST", 1e-14)  # gradients of pixels are small
    assert torch.autograd.gradcheck(penalty, (weight,), eps=1e-5, rtol=1e-2)


@pytest.mark.parametrize("widths", [(32, 8), (8, 2)])
def test_gpdp_reaches_the_weights_of_quantized_widths(widths: tuple[int, int]) -> None:
    net, shown = fresh().train().select(4), batch()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    penalty = disagreement.gpdp(
        net, shown.images.float(), labels=shown.labels, widths=widths, options=GpdpOptions()
    )
    assert net.training
    assert net.bits == 4
    assert equal(before, net.state_dict())
    penalty.backward()
    for name, layer in net.layers.items():
        assert torch.isfinite(layer.weight.grad).all(), name
        assert layer.weight.grad.abs().sum() > 0, name
    reached = {int(name.split("@")[1]) for name, scale in net.scales.items() if scale.grad}
    assert reached == set(widths) - {32}


def test_gpdp_can_be_lowered() -> None:
    net, shown = fresh((32, 8)), batch()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9)
    found = []
    for _ in range(20):
        penalty = disagreement.gpdp(
            net, shown.images.float(), labels=shown.labels, widths=(32, 8), options=GpdpOptions()
        )
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
        found.append(penalty.item())
    assert sum(found[-5:]) < sum(found[:5])
