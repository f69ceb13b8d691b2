"""GIR: the penalty is a squared cosine whose gradient is right; its noise has the size it says."""
# ruff: noqa: E402

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

import nets
from qadtr_edge.analysis import alignment
from qadtr_edge.attacks.victim import state_digest
from qadtr_edge.defences import gir
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.types import QuantSpec

IMAGES = nets.pixels(8).float()
LABELS = torch.arange(8) % 6
SIGMA = 8 / 255


class Smooth(nn.Module):
    """A convolution, SiLU and a head: differentiable as often as one likes."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.conv, self.act = PixelInput(), nn.Conv2d(3, 6, 3, stride=2), nn.SiLU()
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.act(self.conv(self.pixels(x))))))


@pytest.fixture
def net() -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=(32, 8, 4))


def penalty(
    net: QuantNet, bits: tuple[int, int] = (8, 8), *, sigma: float = 0.0,
    region: Tensor | None = None, images: Tensor = IMAGES, labels: Tensor = LABELS,
) -> gir.Inconsistency:  # fmt: skip
    torch.manual_seed(0)
    return gir.inconsistency(net, images, labels=labels, bits=bits, sigma=sigma, region=region)


def input_gradients(net: QuantNet, bits: int) -> Tensor:
    images = IMAGES.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(net.eval().select(bits)(images), LABELS, reduction="sum")
    return torch.autograd.grad(loss, images)[0].flatten(1)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_identical_gradients_agree_wholly(net: QuantNet, bits: int) -> None:
    found, cosine, skipped = penalty(net, (bits, bits))
    assert skipped == 0
    assert found.item() == pytest.approx(1.0, abs=1e-5)
    assert cosine == pytest.approx(1.0, abs=1e-5)


def test_it_is_the_mean_squared_cosine_of_both_widths(net: QuantNet) -> None:
    one, other = input_gradients(net, 32), input_gradients(net, 4)
    cosines = (one * other).sum(dim=1) / one.norm(dim=1) / other.norm(dim=1)
    found, cosine, _ = penalty(net, (32, 4))
    assert torch.allclose(found, cosines.square().mean(), atol=1e-6)
    assert cosine == pytest.approx(float(cosines.mean()), abs=1e-6)
    assert 0 < found.item() < 0.99


def test_noise_lowers_the_agreement(net: QuantNet) -> None:
    exact, shaken, far = (penalty(net, sigma=sigma)[0].item() for sigma in (0.0, SIGMA, 0.5))
    assert exact > shaken > far > 0


@pytest.mark.parametrize("mode", [True, False])
def test_the_network_is_left_as_it_was(net: QuantNet, mode: bool) -> None:
    net.train(mode).select(4)
    before = state_digest(net)
    penalty(net, (8, 32), sigma=SIGMA)
    assert state_digest(net) == before
    assert net.bits == 4
    assert net.training == mode


def test_the_gradient_is_the_numerical_one() -> None:
    torch.manual_seed(5)
    net = prepare(Smooth(), QuantSpec(), widths=(32,), classes=6, image_px=16)
    penalty(net, (32, 32), sigma=0.3).penalty.backward()
    for name, weight in net.named_parameters():
        if weight.dim() == 1:
            assert weight.grad is None  # a bias
            continue
        way = torch.randn_like(weight) * weight.abs().mean()
        sides = []
        for sign in (1, -1):
            moved = copy.deepcopy(net)
            with torch.no_grad():
                moved.get_parameter(name).add_(sign * 0.02 * way)
            sides.append(penalty(moved, (32, 32), sigma=0.3)[0].item())
        assert (weight.grad * way).sum().item() == pytest.approx(
            (sides[0] - sides[1]) / 0.04, rel=0.01, abs=1e-5
        )


def test_descending_it_makes_gradients_disagree(net: QuantNet) -> None:
    first = penalty(net, (32, 4)).penalty
    descent = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(4):
        descent.zero_grad()
        penalty(net, (32, 4)).penalty.backward()
        descent.step()
    assert penalty(net, (32, 4))[0].item() < 0.9 * first.item()


def test_it_reaches_weights_and_not_the_images(net: QuantNet) -> None:
    images = IMAGES.clone().requires_grad_(True)
    penalty(net, (8, 32), sigma=SIGMA, images=images).penalty.backward()
    assert images.grad is None
    weight = net.layer(net.steps[1]).weight.grad
    assert weight.isfinite().all()
    assert weight.abs().sum() > 0


@pytest.mark.parametrize("scales", ["tied", "strict"])
def test_it_reaches_nothing_that_belongs_to_one_width(scales: str) -> None:
    net = nets.ready(nets.small_resnet(), QuantSpec(scales=scales), widths=(32, 8, 4))
    penalty(net, (8, 4), sigma=SIGMA).penalty.backward()
    reached = {name for name, weight in net.named_parameters() if weight.grad is not None}
    assert reached == {f"layers.{name}.weight" for name in net.layers}
    assert all(weight.requires_grad for weight in net.parameters())
    for weight in net.parameters():
        weight.requires_grad_(False)
    next(net.parameters()).requires_grad_(True)
    penalty(net, (8, 4))
    assert [weight.requires_grad for weight in net.parameters()].count(True) == 1


def test_images_without_a_gradient_are_left_out(net: QuantNet) -> None:
    region = torch.ones(8, 1, 16, 16)
    region[:3] = 0  # nothing of these gradients is looked at
    found, cosine, skipped = penalty(net, (32, 4), region=region)
    rest, rest_cosine, _ = penalty(net, (32, 4), images=IMAGES[3:], labels=LABELS[3:])
    assert torch.allclose(found, rest, atol=1e-6)
    assert cosine == pytest.approx(rest_cosine, abs=1e-6)
    assert skipped == pytest.approx(3 / 8)
    found.backward()
    reached = {name: weight.grad for name, weight in net.named_parameters()}
    assert all(each.isfinite().all() for each in reached.values() if each is not None)
    net.zero_grad()
    none, cosine, skipped = penalty(net, (32, 4), region=torch.zeros(8, 1, 16, 16))
    assert none == 0
    assert cosine is None  # nothing was measured
    assert skipped == 1
    none.backward()  # the processes of a group must give gradients to the same parameters
    for name, weight in net.named_parameters():
        assert (weight.grad is None) == (reached[name] is None)
        assert weight.grad is None or not weight.grad.any()


def test_a_gradient_vanishes_where_it_does_in_the_analysis(net: QuantNet) -> None:
    """Pixels are of 0..255 here and of 0..1 there."""
    assert pytest.approx(alignment.VANISHED) == 255 * gir.SMALLEST
    whole = net.forward
    for size, skipped in ((1e-8, 0), (1e-12, 1)):
        net.forward = lambda pixels, size=size: size * whole(pixels)  # type: ignore[misc]
        norms = torch.cat([input_gradients(net, bits).norm(dim=1) for bits in (8, 4)])
        assert ((norms < alignment.VANISHED) & ((norms < gir.SMALLEST) == bool(skipped))).all()
        found = penalty(net, (8, 4))
        assert found.skipped == skipped
        one, other = (input_gradients(net, bits) / norms.max() for bits in (8, 4))
        cosines = (one * other).sum(dim=1) / one.norm(dim=1) / other.norm(dim=1)
        wanted = 0.0 if skipped else float(cosines.square().mean())
        assert found.penalty.item() == pytest.approx(wanted, abs=1e-3)


def test_small_gradients_count_as_much_as_large_ones(net: QuantNet) -> None:
    """Right and sure predictions have gradients of 1e-6: their direction is what counts."""
    usual = penalty(net, (8, 4)).penalty
    norms = input_gradients(net, 8).norm(dim=1)
    assert norms.min() > 1e-5

    whole = net.forward
    net.forward = lambda pixels: 1e-3 * whole(pixels)  # type: ignore[method-assign]
    flat = penalty(net, (8, 4)).penalty
    one, other = (input_gradients(net, bits) for bits in (8, 4))
    assert one.norm(dim=1).max() < 1e-4
    cosines = (one * other).sum(dim=1) / one.norm(dim=1) / other.norm(dim=1)
    assert torch.allclose(flat, cosines.square().mean(), atol=1e-4)
    assert usual > 0


def test_a_region_is_all_the_cosine_sees(net: QuantNet) -> None:
    region = torch.zeros(8, 1, 16, 16)
    region[:, :, 2:7, 3:8] = 1
    one, other = (
        (input_gradients(net, bits).view_as(IMAGES) * region).flatten(1) for bits in (8, 4)
    )
    cosines = (one * other).sum(dim=1) / one.norm(dim=1) / other.norm(dim=1)
    assert torch.allclose(
        penalty(net, (8, 4), region=region)[0], cosines.square().mean(), atol=1e-5
    )


def test_noise_on_the_training_gradient_has_the_size_it_says() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 100)
    for weight in layer.parameters():
        weight.grad = torch.randn_like(weight)
    before = layer.weight.grad.clone()
    idle = nn.Linear(3, 3)
    gir.shake(nn.ModuleList([layer, idle]), sigma=0.5, epoch=0)
    added = layer.weight.grad - before
    assert float(added.norm() / before.norm()) == pytest.approx(0.5, rel=0.03)
    assert abs(float(added.mean())) < 0.02
    assert idle.weight.grad is None
    layer.weight.grad = before.clone()
    gir.shake(layer, sigma=0.5, epoch=9)
    later = float((layer.weight.grad - before).norm() / before.norm())
    assert later == pytest.approx(0.5 * 10**-0.55, rel=0.03)
    layer.weight.grad = before.clone()
    gir.shake(layer, sigma=0.0, epoch=0)
    assert torch.equal(layer.weight.grad, before)


def test_backward_noise_shakes_gradients_in_training_and_never_the_answer(net: QuantNet) -> None:
    def passed(noise: float, *, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        net.backward_noise = noise
        images = IMAGES.clone().requires_grad_(True)
        logits = net.select(8)(images)
        return logits.detach(), torch.autograd.grad(logits.square().sum(), images)[0]

    net.train()
    logits, gradient = passed(0.0, seed=0)
    noisy, shaken = passed(0.3, seed=1)
    assert torch.equal(noisy, logits)
    assert not torch.allclose(shaken, gradient)
    assert not torch.allclose(passed(0.3, seed=2)[1], shaken)
    assert torch.nn.functional.cosine_similarity(shaken.flatten(), gradient.flatten(), dim=0) > 0.5
    net.eval()
    assert torch.equal(passed(0.3, seed=1)[1], passed(0.0, seed=2)[1])
