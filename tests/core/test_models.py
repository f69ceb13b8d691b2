"""Every model of the registry: traced, prepared, run at several widths, float unchanged."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import nets
from qadtr_edge import registry
from qadtr_edge.models.checkpoint import build_model
from qadtr_edge.models.layers import PadChannels, PixelInput, Subsample, WithPixels
from qadtr_edge.models.mobilenet import MobileNetV2, mobilenetv2_imagenet
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.resnet import ResNet
from qadtr_edge.models.steps import trace
from qadtr_edge.types import QuantSpec

SIZES = {
    "resnet8": 75_290, "resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586,
    "resnet56": 853_018, "vgg11": 9_231_114, "vgg16": 14_728_266, "mobilenetv2": 2_236_682,
    "mobilenetv2_imagenet": 3_504_872, "resnet18": 11_689_512, "resnet34": 21_797_672,
    "resnet50": 25_557_032, "squeezenet1_1": 1_235_496,
}  # fmt: skip
"""Parameters: those of the public implementations, but for the VGGs."""

IMAGENET = {"mobilenetv2_imagenet", "resnet18", "resnet34", "resnet50", "squeezenet1_1"}
DEEP = {
    "resnet44",
    "resnet56",
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
}  # run at fewer widths: their parts are the others'


def test_the_table_below_is_the_registry() -> None:
    assert set(registry.names("model")) - set(SIZES) == set()


@pytest.mark.parametrize("name", registry.names("model"))
def test_a_registered_model_runs_at_every_width(name: str) -> None:
    torch.manual_seed(0)
    classes = 1000 if name in IMAGENET else 10
    model = nets.lively(build_model(name, classes=classes))
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    widths = (32, 4) if name in DEEP else (32, 8, 4, 2)
    net = prepare(model, QuantSpec(), widths=widths, classes=classes, image_px=32).eval()
    images = nets.pixels(2, size=32)
    with torch.no_grad():
        for bits in widths:
            logits = net.select(bits)(images)
            assert logits.shape == (2, classes)
            assert torch.isfinite(logits).all()
        wanted = model(images)
        assert torch.allclose(
            net.select(32)(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())
        )


def test_mobilenet_for_large_images_halves_them_five_times() -> None:
    model = mobilenetv2_imagenet(classes=7).eval()
    large = MobileNetV2(image_px=224, classes=7).eval()
    assert [s.op for s in trace(model)] == [s.op for s in trace(large)]
    net = prepare(nets.lively(model), QuantSpec(), widths=(32, 8), classes=7, image_px=64).eval()
    with torch.no_grad():
        tensors = net.select(8).run(nets.pixels(1, size=64))
    assert tensors["features.18.0"].shape == (1, 1280, 2, 2)
    small = prepare(MobileNetV2(image_px=32), QuantSpec(), widths=(8,), classes=10, image_px=32)
    with torch.no_grad():
        assert small.eval().run(nets.pixels(1, size=32))["features.18.0"].shape == (1, 1280, 4, 4)


def test_a_depth_that_is_no_resnet_is_refused() -> None:
    with pytest.raises(ValueError, match="6n"):
        ResNet(21)


def test_the_shortcut_of_option_a_has_no_parameters() -> None:
    """He et al. 2016: identity, subsampled, with zero channels on both sides."""
    model = ResNet(8)
    shortcut = model.layer2[0].shortcut
    assert not list(shortcut.parameters())
    y = shortcut(torch.ones(1, 16, 6, 6))
    assert y.shape == (1, 32, 3, 3)
    assert y[0, :, 0, 0].tolist() == [0.0] * 8 + [1.0] * 16 + [0.0] * 8
    assert isinstance(model.layer1[0].shortcut, nn.Identity)


def test_subsampling_takes_the_first_row_and_column() -> None:
    image = torch.arange(25.0).view(1, 1, 5, 5)
    assert Subsample(2)(image)[0, 0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert PadChannels(1, 2)(image).shape == (1, 4, 5, 5)


def test_raw_pixels_need_no_rounding() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    values = PixelInput()(bytes_)
    assert torch.equal(values * 64, bytes_.float() - 128)


def test_mean_and_deviation_per_channel() -> None:
    pixel = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    values = PixelInput((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))(pixel).flatten()
    assert values.tolist() == pytest.approx([1, 3, 0.5])


def test_logits_that_are_a_mean_become_a_product_with_the_identity() -> None:
    steps = trace(build_model("squeezenet1_1", classes=7))
    last = steps[-1].module
    assert steps[-1].op == "linear"
    assert isinstance(last, nn.Linear)
    assert torch.equal(last.weight, torch.eye(7))


def test_a_classifier_of_ones_own_behind_the_pixels_is_prepared() -> None:
    own = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    model = nets.lively(WithPixels(own, PixelInput()))
    net = prepare(model, QuantSpec(), widths=(32, 8), classes=5, image_px=16).eval()
    images = nets.pixels(3, size=16)
    with torch.no_grad():
        assert torch.allclose(net.select(32)(images), model(images), rtol=1e-4, atol=1e-5)
