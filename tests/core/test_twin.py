"""The judge's torch twin: its backward pass, and what it takes and holds."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

import handmade
import nets
from qadtr_edge.integer import judge
from qadtr_edge.integer.lower import lower
from qadtr_edge.integer.twin import Backward, Twin
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.types import QuantSpec


@pytest.fixture(scope="module")
def net() -> QuantNet:
    return nets.ready(nets.small_resnet())


@pytest.fixture(scope="module")
def mixed() -> QuantNet:
    return nets.ready(nets.mixed())


def gradient(victim: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    pixels = images.float().requires_grad_()
    torch.nn.functional.cross_entropy(victim(pixels), labels).backward()
    assert pixels.grad is not None
    return pixels.grad.flatten(1)


def alike(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=1).mean())


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("bits", [8, 5, 4, 2])
@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_every_node_type_equals_the_judge(name: str, bits: int, unsigned: bool) -> None:
    graph = handmade.GRAPHS[name](bits=bits, unsigned=unsigned, seed=bits)
    size = graph.tensors[graph.input].shape[1]
    images = handmade.images(12, size=size)
    with torch.no_grad():
        found = Twin(graph)(torch.from_numpy(images)).numpy()
    assert np.array_equal(found, judge.run(graph, images))


def test_the_forward_pass_is_the_same_with_gradients(mixed: QuantNet) -> None:
    """Crafting runs with gradients, scoring without: neither may change a bit."""
    images = nets.pixels(8)
    for bits in (8, 2):
        graph = lower(mixed, bits=bits)
        wanted = judge.run(graph, images.numpy())
        for rule in ("clipped", "identity", "autograd"):
            pixels = images.float().requires_grad_()
            assert np.array_equal(Twin(graph, backward=rule)(pixels).detach().numpy(), wanted)


def test_float_pixels_are_rounded_to_bytes(net: QuantNet) -> None:
    twin = Twin(lower(net, bits=8))
    images = nets.pixels(4)
    exact = twin(images)
    assert torch.equal(twin(images.float()), exact)
    assert torch.equal(twin((images.float() + 0.4).clamp(0, 255)), exact)
    assert torch.equal(twin((images.float() - 0.4).clamp(0, 255)), exact)
    beyond = torch.where(images == 255, 300.0, images.float())
    assert torch.equal(twin(torch.where(images == 0, -40.0, beyond)), exact)


def test_it_holds_nothing_that_trains(net: QuantNet) -> None:
    twin = Twin(lower(net, bits=4))
    assert list(twin.parameters()) == []
    assert twin.classes == 6


@pytest.mark.parametrize("bits", [8, 4])
def test_gradients_point_where_the_simulations_do(
    net: QuantNet, mixed: QuantNet, bits: int
) -> None:
    images = nets.pixels(16, seed=4)
    for made in (net, mixed):
        twin = Twin(lower(made, bits=bits))
        labels = twin(images).argmax(1)
        simulated = gradient(made.select(bits), images, labels)
        assert alike(gradient(twin, images, labels), simulated) > 0.99


def test_gradients_follow_the_float_network(net: QuantNet) -> None:
    images = nets.pixels(16, seed=4)
    twin = Twin(lower(net, bits=8))
    labels = twin(images).argmax(1)
    floats = gradient(net.select(32), images, labels)
    found = gradient(twin, images, labels)
    assert alike(found, floats) > 0.6
    assert alike(found, floats.roll(1, dims=0)) < 0.5 * alike(found, floats)
    assert 0.2 < float(found.norm() / floats.norm()) < 5, "and have its scale"


def test_identity_passes_what_clipping_stops(net: QuantNet) -> None:
    images = nets.pixels(16, seed=4)
    graph = lower(net, bits=2)
    labels = Twin(graph)(images).argmax(1)
    found: dict[Backward, Tensor] = {
        rule: gradient(Twin(graph, backward=rule), images, labels)
        for rule in ("clipped", "identity")
    }
    reached = {rule: float((part != 0).float().mean()) for rule, part in found.items()}
    assert reached["identity"] >= reached["clipped"] > 0
    assert found["identity"].norm() > found["clipped"].norm()


def test_a_step_along_the_gradient_raises_the_loss(net: QuantNet) -> None:
    images = nets.pixels(16, seed=4)
    twin = Twin(lower(net, bits=4))
    labels = twin(images).argmax(1)
    step = gradient(twin, images, labels).sign().view_as(images)
    moved = (images.float() + 4 * step).clamp(0, 255)
    loss = torch.nn.functional.cross_entropy
    assert loss(twin(moved), labels) > 1.2 * loss(twin(images), labels)


def test_a_saturated_pixel_has_no_gradient_when_clipped() -> None:
    made = nets.ready(nets.small_resnet(), QuantSpec())
    twin = Twin(lower(made, bits=8))
    pixels = nets.pixels(2).float()
    pixels[:, :, 0] = 300.0
    pixels.requires_grad_()
    twin(pixels).square().sum().backward()
    assert (pixels.grad[:, :, 0] == 0).all()
    assert (pixels.grad[:, :, 1:] != 0).any()


@pytest.mark.parametrize("bits", [8, 2])
def test_plain_autograd_has_no_gradient_at_all(net: QuantNet, mixed: QuantNet, bits: int) -> None:
    images = nets.pixels(8, seed=4)
    for made in (net, mixed):
        twin = Twin(lower(made, bits=bits), backward="autograd")
        labels = twin(images).argmax(1)
        assert not gradient(twin, images, labels).any()
