"""Lowering: the integers are the simulation's, and what would not fit them is said."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import nets
from handmade import FOREIGN
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge
from qadtr_edge.integer.lower import lower
from qadtr_edge.integer.twin import Twin
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.types import QuantSpec

WIDTHS = (8, 6, 4, 3, 2)
MODELS = {"mixed": nets.mixed, "resnet": nets.small_resnet}


def simulated(net: QuantNet, bits: int, images: torch.Tensor) -> np.typing.NDArray[np.float32]:
    with torch.no_grad():
        return net.select(bits)(images).numpy()


@pytest.mark.parametrize("activations", ["signed", "unsigned"])
@pytest.mark.parametrize("scales", ["tied", "free", "strict"])
@pytest.mark.parametrize("name", MODELS)
def test_simulation_judge_and_twin_agree(name: str, scales: str, activations: str) -> None:
    spec = QuantSpec(scales=scales, activations=activations)
    net = nets.ready(MODELS[name](), spec, widths=(32, *WIDTHS))
    images = nets.pixels(32, seed=7)
    for bits in WIDTHS:
        graph = lower(net, bits=bits)
        assert graph.spec == QuantSpec(bits=bits, scales=scales, activations=activations)
        logits = judge.run(graph, images.numpy())
        with torch.no_grad():
            assert np.array_equal(Twin(graph)(images).numpy(), logits)
        fake = simulated(net, bits, images)
        spread = logits.std()
        assert np.abs(fake - logits).max() < 0.15 * spread
        assert (fake.argmax(1) == logits.argmax(1)).mean() > 0.96
        equal = (np.abs(fake - logits) < 1e-5 * spread).all(axis=1).mean()
        assert equal > 0.5, "a tie in float32 moves one code now and then, no more"


@pytest.mark.parametrize("bits", WIDTHS)
def test_with_strict_scales_the_simulation_is_exact(bits: int) -> None:
    net = nets.ready(nets.small_resnet(), QuantSpec(scales="strict"), widths=(32, bits))
    images = nets.pixels(48, seed=8)
    assert np.array_equal(
        simulated(net, bits, images), judge.run(lower(net, bits=bits), images.numpy())
    )


@pytest.mark.parametrize("bits", [8, 3])
def test_codes_are_the_simulated_ones_layer_by_layer(bits: int) -> None:
    net = nets.ready(nets.mixed(), widths=(bits,))
    images = nets.pixels(8, seed=2)
    graph = lower(net, bits=bits)
    with torch.no_grad():
        values = net.select(bits).run(images)
    codes = judge.trace(graph, images.numpy())
    assert set(codes) == set(values) - {graph.logits}
    for name, tensor in graph.tensors.items():
        fake = np.rint(values[name].numpy() / np.float32(tensor.scale))
        assert np.mean(fake == codes[name]) > 0.99, name
        assert np.abs(fake - codes[name]).max() <= 2, name


def test_every_operation_has_its_node() -> None:
    nodes = lower(nets.ready(nets.mixed()), bits=4).nodes
    nodes += lower(nets.ready(nets.small_resnet()), bits=4).nodes
    assert {type(node).__name__ for node in nodes} == set(g.NODE_TYPES) - FOREIGN


def test_geometry_is_carried_over() -> None:
    nodes = {node.name: node for node in lower(nets.ready(nets.mixed()), bits=8).nodes}
    grouped, deep, mean = nodes["grouped"], nodes["deep"], nodes["halve"]
    assert isinstance(grouped, g.Conv)
    assert isinstance(deep, g.Conv)
    assert isinstance(mean, g.AveragePool)
    assert (grouped.groups, grouped.stride, grouped.dilation) == (2, (2, 2), (2, 2))
    assert grouped.padding == (2, 2, 2, 2)
    assert (deep.groups, deep.weight.shape) == (8, (8, 1, 3, 3))
    assert (mean.kernel, mean.stride, mean.padding) == ((3, 3), (2, 2), (1, 1, 1, 1))
    assert mean.count_include_pad is True


@pytest.mark.parametrize("spec", [QuantSpec(), QuantSpec(avx2_safe=False)])
def test_weights_stay_in_their_range_and_are_avx2_safe(spec: QuantSpec) -> None:
    graph = lower(nets.ready(nets.mixed(), spec), bits=8)
    for node in graph.nodes:
        if isinstance(node, g.Conv | g.Linear):
            x = graph.tensors[node.x]
            largest = np.abs(node.weight.astype(int)).max()
            assert largest == (64 if spec.avx2_safe and x.is_signed else 127), node.name


def test_hard_swish_adds_exactly_three() -> None:
    graph = lower(nets.ready(nets.mixed()), bits=8)
    (shift,) = (node for node in graph.nodes if isinstance(node, g.AddConstant))
    assert shift.code * shift.scale == 3
    assert 0 < shift.code <= 127, "it fits a signed and an unsigned byte"


def test_six_is_the_last_code_of_relu6() -> None:
    for scales in ("tied", "strict"):
        net = nets.ready(nets.mixed(), QuantSpec(scales=scales))
        tensor = lower(net, bits=8).tensors["grouped"]
        assert tensor.low == 0
        assert abs(tensor.high * tensor.scale - 6) <= tensor.scale / 2 or tensor.high == 127


def altered(change: str) -> QuantNet:
    """A ResNet one of whose batch norms has switched channels off, or nearly."""
    model = nets.small_resnet()
    norm = model.layer1[0].bn1
    with torch.no_grad():
        match change:
            case "gamma zero":
                norm.weight[:4] = 0
            case "gamma and beta zero":
                norm.weight[:4] = 0
                norm.bias[:4] = 0
                norm.running_mean[:4] = 0
            case "gamma tiny, beta large":
                norm.weight[:4] = 1e-12
                norm.bias[:4] = 2.5
            case "variance huge":
                norm.running_var[:4] = 1e30
    return nets.ready(model)


@pytest.mark.parametrize("bits", [8, 2])
@pytest.mark.parametrize(
    "change", ["gamma zero", "gamma and beta zero", "gamma tiny, beta large", "variance huge"]
)
def test_channels_that_batch_norm_switched_off_keep_their_bias(change: str, bits: int) -> None:
    net = altered(change)
    graph = lower(net, bits=bits)
    images = nets.pixels(16, seed=3)
    logits = judge.run(graph, images.numpy())
    with torch.no_grad():
        assert np.array_equal(Twin(graph)(images).numpy(), logits)
        values = net.select(bits).run(images)["layer1.0.conv1"][:, :4]
    tensor = graph.tensors["layer1.0.conv1"]
    codes = judge.trace(graph, images.numpy())["layer1.0.conv1"][:, :4]
    assert np.abs(values.numpy() - codes * np.float32(tensor.scale)).max() <= tensor.scale + 1e-6
    assert np.abs(simulated(net, bits, images) - logits).max() < 0.15 * logits.std()
    for node in graph.nodes:
        if isinstance(node, g.Conv | g.Linear):
            assert (node.weight_scale > 0).all()
            assert np.isfinite(node.weight_scale).all()


def test_biases_are_on_the_grid_of_the_accumulator() -> None:
    net = nets.ready(nets.mixed())
    graph = lower(net, bits=4)
    for node in graph.nodes:
        if isinstance(node, g.Conv | g.Linear):
            step = next(step for step in net.steps if step.name == node.name)
            wanted = net.layer(step).folded(4).bias.numpy()
            grid = graph.tensors[node.x].scale * node.weight_scale.astype(np.float64)
            assert np.abs(node.bias * grid - wanted).max() <= grid.max() / 2 * 1.0001


def test_provenance_and_notes_are_carried() -> None:
    net = nets.ready(nets.mixed())
    net.notes = ("a fold was not exact",)
    graph = lower(net, bits=8, source={"model": "mixed"})
    assert graph.source == {"model": "mixed"}
    assert graph.notes == net.notes
    assert (graph.classes, graph.input, graph.logits) == (6, "pixels", "head")


def test_lowering_leaves_the_network_as_it_was() -> None:
    net = nets.ready(nets.mixed())
    net.select(2).train()
    lower(net, bits=8)
    assert (net.bits, net.training) == (2, True)


def test_a_width_without_integers_is_refused() -> None:
    net = nets.ready(nets.small_resnet())
    with pytest.raises(BadInput, match="float model has no integer graph"):
        lower(net, bits=32)
    with pytest.raises(BadInput, match="holds the widths 32, 8, 4, 2, not 5"):
        lower(net, bits=5)
    with pytest.raises(BadInput, match="9 bits"):
        lower(net, bits=9)


def test_a_convolution_bias_is_kept() -> None:
    model = nets.mixed()
    assert isinstance(model.gate, nn.Conv2d)
    with torch.no_grad():
        model.gate.bias += torch.linspace(-3, 3, 8)
    graph = lower(nets.ready(model), bits=8)
    node = next(node for node in graph.nodes if node.name == "gate")
    assert isinstance(node, g.Conv)
    real = node.bias * graph.tensors[node.x].scale * node.weight_scale
    assert np.allclose(real, model.gate.bias.detach().numpy(), atol=1e-3)
