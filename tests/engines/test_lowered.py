"""Networks lowered from torch, on onnxruntime: the judge's bits, and in float torch's values."""
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from qadtr_edge.export.fp32 import build_float
from qadtr_edge.export.ort import MODEL, OrtEngine, build

import nets
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import judge
from qadtr_edge.integer.lower import lower
from qadtr_edge.integer.lower_float import lower_float
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.types import QuantSpec

MODELS = {"mixed": nets.mixed, "resnet": nets.small_resnet}


def on_engine(net: QuantNet, bits: int, folder: Path) -> np.typing.NDArray[np.float32]:
    facts = build(lower(net, bits=bits), folder, threads=1)
    assert facts.precision == "integer" or "halve" in facts.float_layers, facts.float_layers
    with OrtEngine(folder / MODEL, threads=1) as engine:
        return engine(nets.pixels(16, seed=7).numpy())


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("scales", ["tied", "free", "strict"])
@pytest.mark.parametrize("name", MODELS)
def test_every_bit_is_the_judges(name: str, scales: str, bits: int, tmp_path: Path) -> None:
    net = nets.ready(MODELS[name](), QuantSpec(scales=scales), widths=(bits,))
    images = nets.pixels(16, seed=7).numpy()
    wanted = judge.run(lower(net, bits=bits), images)
    assert np.array_equal(on_engine(net, bits, tmp_path), wanted)


@pytest.mark.parametrize("spec", [QuantSpec(activations="unsigned"), QuantSpec(residual_bits=None)])
def test_so_it_is_under_other_specs(spec: QuantSpec, tmp_path: Path) -> None:
    net = nets.ready(nets.small_resnet(), spec, widths=(8, 3))
    for bits in net.widths:
        wanted = judge.run(lower(net, bits=bits), nets.pixels(16, seed=7).numpy())
        assert np.array_equal(on_engine(net, bits, tmp_path / str(bits)), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_the_float_yardstick_is_the_float_network(name: str, tmp_path: Path) -> None:
    net = nets.ready(MODELS[name](), widths=(8, 32))
    net.notes = ("noted",)
    graph = lower_float(net, source={"model": name})
    assert net.bits == 8
    assert (graph.source, graph.notes) == ({"model": name}, ("noted",))
    assert (graph.image, graph.classes) == ((3, 16, 16), 6)
    build_float(graph, tmp_path, threads=1)
    images = nets.pixels(16, seed=7)
    with torch.no_grad():
        wanted = net.select(32)(images).numpy()
    with OrtEngine(tmp_path / MODEL, threads=1) as engine:
        found = engine(images.numpy())
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_network_without_the_float_width_has_no_yardstick() -> None:
    with pytest.raises(BadInput, match="not 32"):
        lower_float(nets.ready(nets.small_resnet(), widths=(8,)))
