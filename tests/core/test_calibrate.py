"""Post-training quantization: scales that fit, statistics that follow, means that are put right."""
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import nets
from qadtr_edge.defences.plain import accuracy
from qadtr_edge.errors import UnknownName
from qadtr_edge.models.calibrate import calibrate, correct_bias, reestimate_norms
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.resnet import resnet20
from qadtr_edge.models.weights import load_weights, public_pixels
from qadtr_edge.quant.fake import fake_quantize
from qadtr_edge.quant.methods import METHODS
from qadtr_edge.types import QuantSpec


def raw(model: nn.Module, *, widths: tuple[int, ...] = (32, 8, 4, 2)) -> QuantNet:
    return prepare(model, QuantSpec(), widths=widths, classes=6, image_px=nets.SIZE_PX).eval()


def error(net: QuantNet, bits: int) -> float:
    """Squared difference of the logits to the float network's, relative to their variance."""
    images = nets.pixels(48, seed=9)
    with torch.no_grad():
        wanted = net.select(32)(images)
        found = net.select(bits)(images)
    return float((found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())


@pytest.mark.parametrize("model", [nets.mixed, nets.small_resnet])
def test_eight_bits_follow_the_float_network(model: type) -> None:
    for method in METHODS:
        net = raw(model())
        assert error(net, 8) > 0.3, "uncalibrated scales do not fit"
        calibrate(net, nets.pixels(64), method=method)
        assert error(net, 8) < 0.02, method


def test_every_learned_scale_is_set_and_the_same_seed_sets_the_same() -> None:
    one, other, third = raw(nets.mixed()), raw(nets.mixed()), raw(nets.mixed())
    for net, seed in ((one, 0), (other, 0), (third, 1)):
        calibrate(net, nets.pixels(64), seed=seed)
    assert all(scale.item() not in (0.0, 1.0) for scale in one.scales.values())
    for layer in one.layers.values():
        assert all((scale != 1).all() for scale in layer.scales.values())
    equal = [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    assert all(equal)
    assert any(a != b for a, b in zip(one.scales.values(), third.scales.values(), strict=True))


def test_it_leaves_width_mode_and_weights_as_they_were() -> None:
    net = raw(nets.mixed())
    before = {name: p.clone() for name, p in net.named_parameters() if "scales" not in name}
    net.select(4).train()
    calibrate(net, nets.pixels(16))
    assert (net.bits, net.training) == (4, True)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters() if name in before)


def test_a_network_without_the_float_width_is_calibrated_the_same() -> None:
    with_float, without = raw(nets.mixed()), raw(nets.mixed(), widths=(8, 2))
    for net in (with_float, without):
        calibrate(net, nets.pixels(32))
    images = nets.pixels(8, seed=4)
    with torch.no_grad():
        for bits in (8, 2):
            assert torch.equal(with_float.select(bits)(images), without.select(bits)(images))


def test_minmax_of_a_shared_scale_covers_its_widest_tensor() -> None:
    net = raw(nets.small_resnet())
    images = nets.pixels(8)
    calibrate(net, images, method="minmax")
    with torch.no_grad():
        values = net.select(32).run(images)
    site = net.plans[8].sites["add"]
    members = [name for name, other in net.plans[8].sites.items() if other.group == site.group]
    assert len(members) > 8
    widest = max(float(values[name].abs().max()) for name in members)
    assert net.scale(site, 8).item() * 127 == pytest.approx(widest, rel=0.15)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UnknownName, match="minmax"):
        calibrate(raw(nets.small_resnet()), nets.pixels(4), method="max")


def test_statistics_are_those_of_the_quantized_network() -> None:
    net = nets.ready(nets.small_resnet())
    images = nets.pixels(64, seed=3)
    floats = net.layers["conv1"].norms["w32"].running_mean.clone()
    reestimate_norms(net, images)
    assert torch.equal(net.layers["conv1"].norms["w32"].running_mean, floats)
    net.select(2)
    step = next(step for step in net.steps if step.name == "layer1.0.conv1")
    layer = net.layer(step)
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        net.train()
        handle = layer.norms["w2"].register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
        net(images)
        handle.remove()
    # the statistics of one batch of all images are the cumulative mean over one batch
    assert layer.norms["w2"].momentum == 0.1
    wanted = seen[0].mean(dim=(0, 2, 3))
    net.eval()
    again = nets.ready(nets.small_resnet())
    reestimate_norms(again, images)
    found = again.layer(step).norms["w2"].running_mean
    assert torch.allclose(found, wanted, atol=1e-4)


def test_the_float_statistics_move_when_they_are_asked_for() -> None:
    images = nets.pixels(16, seed=3)
    for spec in (QuantSpec(), QuantSpec(scales="strict")):
        net = nets.ready(nets.small_resnet(), spec)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        reestimate_norms(net, images, widths=(32,))
        moved = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
        assert moved
        assert all(".w32." in name for name in moved)


def test_strict_statistics_stay_frozen() -> None:
    net = nets.ready(nets.small_resnet(), QuantSpec(scales="strict"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.select(4)
    reestimate_norms(net, nets.pixels(16, seed=3))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.bits == 4


@pytest.mark.parametrize("model", [nets.mixed, nets.small_resnet])
def test_bias_correction_restores_the_mean_logits(model: type) -> None:
    net = nets.ready(model())
    images = nets.pixels(32, seed=6)

    def means(bits: int) -> torch.Tensor:
        with torch.no_grad():
            return net.select(bits)(images).mean(0)

    wanted, before = means(32), {bits: means(bits) for bits in (8, 4, 2)}
    net.select(4)
    correct_bias(net, images)
    assert net.bits == 4
    assert torch.equal(means(32), wanted), "the float network stays as it was"
    for bits, old in before.items():
        assert (means(bits) - wanted).abs().max() < 0.01 * wanted.abs().max()
        assert (means(bits) - wanted).norm() < (old - wanted).norm()


def test_least_squares_loses_less_of_the_activations_at_few_bits() -> None:
    images = nets.pixels(64)
    lost: dict[str, list[float]] = {}
    for method in ("mse", "minmax"):
        net = raw(nets.small_resnet())
        calibrate(net, images, method=method)
        with torch.no_grad():
            values = net.select(32).run(images)
            for bits in (4, 2):
                sites = {**net.plans[bits].sites, **net.plans[bits].narrow}
                for name, site in sites.items():
                    if site.codes.high < 2**bits and site.fixed_scale is None:
                        scale = net.scale(site, bits)
                        error = fake_quantize(values[name], scale, codes=site.codes) - values[name]
                        share = error.square().sum() / values[name].square().sum()
                        lost.setdefault(method, []).append(share.item())
    assert len(lost["mse"]) == 12
    assert all(a <= b * 1.02 for a, b in zip(lost["mse"], lost["minmax"], strict=True))
    assert sum(lost["mse"]) < 0.8 * sum(lost["minmax"])


@pytest.mark.needs("real_data")
def test_public_weights_keep_their_accuracy_untrained(data_root: Path) -> None:
    """ResNet-20, 91.7 % in float; 300 images leave an interval of about 3 points either side."""
    from qadtr_edge.data import load

    model = resnet20(10, public_pixels())
    load_weights(model, data_root / "cifar10_weights" / "resnet20-12fca82f.th")
    held = load("cifar10", "calibration", root=data_root, limit=250)
    test = load("cifar10", "test", root=data_root, limit=300)
    net = prepare(model, QuantSpec(), widths=(8, 4), classes=10, image_px=32)
    calibrate(net, torch.from_numpy(held.images))
    images, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    assert accuracy(net.select(8), images, labels=labels) > 0.88
    assert accuracy(net.select(4), images, labels=labels) > 0.8
