"""From a torch classifier to a ``QuantNet``: what folding the input's normalisation changes."""
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

import nets
from qadtr_edge.errors import Unsupported
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.resnet import ResNet, resnet20
from qadtr_edge.models.weights import IMAGENET_PIXELS, load_weights, public_pixels
from qadtr_edge.types import QuantSpec


def prepared(model: nn.Module, *, classes: int = 6) -> QuantNet:
    net = prepare(model, QuantSpec(), widths=(32, 8), classes=classes, image_px=nets.SIZE_PX)
    return net.eval()


def public_resnet() -> nn.Module:
    torch.manual_seed(0)
    return nets.lively(ResNet(8, classes=6, pixel_input=public_pixels()))


def test_the_model_given_is_left_as_it_was() -> None:
    model = public_resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    net = prepared(model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert model.training
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_raw_model_is_unchanged_and_has_nothing_to_note() -> None:
    model, images = nets.mixed(), nets.pixels(5)
    net = prepared(model)
    assert net.notes == ()
    with torch.no_grad():
        assert torch.allclose(net(images), model(images), rtol=1e-5, atol=1e-5)


def first_layer(net: QuantNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return net.select(32).run(images)["conv1"]


def test_mean_and_deviation_fold_exactly_inside_the_image() -> None:
    model, images = public_resnet(), nets.pixels(4)
    net = prepared(model)
    with torch.no_grad():
        wanted = model.relu(model.bn1(model.conv1(model.pixel_input(images))))
    found = first_layer(net, images)
    assert torch.allclose(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-5)
    assert not torch.allclose(found[..., 0, :], wanted[..., 0, :], atol=1e-2)
    assert net.notes == (
        "input mean and deviation folded into the first convolution; "
        "its padding is pixel 128, not the mean colour",
    )


def test_the_border_is_padded_with_pixel_128() -> None:
    """An image with a frame of pixel 128 drawn around it gives the same values as the padding."""
    model, images = public_resnet(), nets.pixels(4)
    framed = nn.functional.pad(images, (1, 1, 1, 1), value=128)
    with torch.no_grad():
        wide = model.relu(model.bn1(model.conv1(model.pixel_input(framed))))
    assert torch.allclose(first_layer(prepared(model), images), wide[..., 1:-1, 1:-1], atol=1e-5)


def test_without_padding_folding_is_exact_and_not_noted() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels = PixelInput(*IMAGENET_PIXELS)
            self.conv = nn.Conv2d(3, 4, 3)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(torch.relu(self.conv(self.pixels(x))))
            return self.head(torch.flatten(x, 1))

    model, images = Plain().eval(), nets.pixels(4)
    net = prepared(model)
    assert net.notes == ()
    with torch.no_grad():
        assert torch.allclose(net(images), model(images), atol=1e-5)


def test_a_normalisation_that_cannot_fold_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pixels = PixelInput(*IMAGENET_PIXELS)
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pixels(x)
            return self.head(torch.flatten(self.pool(self.a(x) + self.b(x)), 1))

    with pytest.raises(Unsupported, match="one first convolution"):
        prepared(Branching())
    grouped = nn.Sequential(
        PixelInput(*IMAGENET_PIXELS), nn.Conv2d(3, 3, 1, groups=3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(3, 6),
    )  # fmt: skip
    with pytest.raises(Unsupported, match="grouped"):
        prepared(grouped)


@pytest.mark.needs("real_data")
def test_public_weights_keep_their_accuracy(data_root: Path) -> None:
    """91.7 % is published; 500 images leave an interval of about 2.5 points either side."""
    from qadtr_edge.data import load

    model = resnet20(10, public_pixels())
    load_weights(model, data_root / "cifar10_weights" / "resnet20-12fca82f.th")
    model.eval()
    net = prepare(model, QuantSpec(), widths=(32,), classes=10, image_px=32).eval()
    data = load("cifar10", "test", root=data_root, limit=500)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    with torch.no_grad():
        original = torch.cat([model(batch) for batch in images.split(100)])
        folded = torch.cat([net(batch) for batch in images.split(100)])
    assert 0.89 <= (original.argmax(1) == labels).float().mean() <= 0.945
    assert (folded.argmax(1) == labels).float().mean() >= 0.88
    agree = (folded.argmax(1) == original.argmax(1)).float().mean()
    assert agree >= 0.98, "only the colour of the padding differs"
