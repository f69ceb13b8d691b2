"""Files made elsewhere become the integer graph: their simulation's classes, the engine's bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export import artefact_parity, ort, reader

import foreign_files as foreign
from golden import make_brevitas
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge

GOLDEN = Path(make_brevitas.__file__).parent
SAME = 0.995  # of images: what a reader must keep of a file's own predictions

STATIC = {  # activations, weights, per channel, symmetric
    "U8S8 per channel": ("QUInt8", "QInt8", True, False),
    "U8S8": ("QUInt8", "QInt8", False, False),
    "S8S8 per channel": ("QInt8", "QInt8", True, False),
    "S8S8 symmetric": ("QInt8", "QInt8", True, True),
    "U8U8 asymmetric": ("QUInt8", "QUInt8", False, False),
}


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.save(foreign.residual(), tmp_path_factory.mktemp("float") / "float.onnx")


def lowered(path: Path) -> reader.Lowered:
    return reader.lower(path, preprocess=agreed(path, None))


def share_of_same_class(graph: g.IntegerGraph, logits: np.typing.NDArray[np.float32]) -> float:
    pixels, _ = make_brevitas.images(len(logits), seed=2)
    return float((judge.run(graph, pixels).argmax(1) == logits.argmax(1)).mean())


@pytest.mark.parametrize("kind", STATIC)
def test_quantize_static(kind: str, float_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    activations, weights, per_channel, symmetric = STATIC[kind]
    foreign.quantize_static(
        float_file, path, activations=activations, weights=weights, per_channel=per_channel,
        symmetric=symmetric,
    )  # fmt: skip
    pixels, _ = make_brevitas.images(400, seed=2)
    found = lowered(path)
    assert found.graph.spec.bits == 8
    assert share_of_same_class(found.graph, foreign.simulated(path, pixels)) >= SAME
    facts = ort.build(found.graph, tmp_path / "engine")
    assert (facts.precision, facts.float_layers) == ("integer", ())
    with ort.OrtEngine(tmp_path / "engine" / ort.MODEL) as engine:
        assert np.array_equal(engine(pixels), judge.run(found.graph, pixels))
    own = artefact_parity.compare(path, images=pixels[:64], preprocess=agreed(path, None))
    assert (own.logits_compared, own.logit_mismatches) == (64 * foreign.CLASSES, 0)


def test_weights_beyond_int8_stay_what_they_are(float_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    foreign.quantize_static(
        float_file, path, activations="QUInt8", weights="QUInt8", per_channel=False
    )
    weights = [n.weight for n in lowered(path).graph.nodes if isinstance(n, g.Conv | g.Linear)]
    assert any(weight.dtype == np.int16 and abs(weight).max() > 128 for weight in weights)


@pytest.mark.parametrize("bits", make_brevitas.WIDTHS)
def test_brevitas_files_kept_here(bits: int, tmp_path: Path) -> None:
    path = GOLDEN / f"qcdq-{bits}.onnx"
    found = lowered(path)
    assert found.graph.spec.bits == bits
    with np.load(path.with_suffix(".npz")) as file:
        assert share_of_same_class(found.graph, file["logits"]) >= SAME
    facts = ort.build(found.graph, tmp_path)
    assert (facts.precision, facts.float_layers) == ("integer", ())
    pixels, _ = make_brevitas.images(100, seed=2)
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        assert np.array_equal(engine(pixels), judge.run(found.graph, pixels))


@pytest.mark.slow
@pytest.mark.needs("brevitas", "torch")
@pytest.mark.parametrize("bits", make_brevitas.WIDTHS)
def test_brevitas_files_made_now(bits: int, tmp_path: Path) -> None:
    pixels, _ = make_brevitas.images(400, seed=2)
    logits = make_brevitas.write(tmp_path, bits, shown=pixels)
    found = lowered(tmp_path / f"qcdq-{bits}.onnx")
    assert found.graph.spec.bits == bits
    assert share_of_same_class(found.graph, logits) >= SAME


def test_a_sum_with_one_part_in_float_is_read_and_said(tmp_path: Path) -> None:
    """As NVIDIA Model Optimizer writes residual sums: only the skip has a Q and a DQ."""
    path = foreign.save(foreign.skip_only(), tmp_path / "skip.onnx")
    found = lowered(path)
    assert any("rounded to the grid of their sum" in note for note in found.graph.notes)
    pixels, _ = make_brevitas.images(40, seed=2)
    wanted = foreign.simulated(path, pixels, value="b.q")
    # One rounding more than in the file, to the grid that the sum is rounded to in any case.
    assert np.abs(judge.trace(found.graph, pixels)["sum"] - wanted).max() <= 1


def test_channels_in_reverse_give_the_same_network(tmp_path: Path) -> None:
    """A BGR sidecar on a file whose first weights are reversed is the RGB file."""
    plain = foreign.save(foreign.skip_only(), tmp_path / "rgb.onnx")
    turned = foreign.save(
        foreign.with_reversed_channels(foreign.skip_only()), tmp_path / "bgr.onnx",
        sidecar=foreign.SIDECAR_GRAY.replace("RGB", "BGR"),
    )  # fmt: skip
    plain.with_suffix(".toml").write_text(foreign.SIDECAR_GRAY)
    pixels, _ = make_brevitas.images(20, seed=4)
    one, other = (judge.run(lowered(path).graph, pixels) for path in (plain, turned))
    assert np.array_equal(one, other)
    turned.with_suffix(".toml").write_text(foreign.SIDECAR_GRAY)
    assert not np.array_equal(one, judge.run(lowered(turned).graph, pixels))


def test_what_cannot_be_read_is_named_and_counted(float_file: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        lowered(float_file)
    assert "1 of the 14 nodes of" in caught.value.fact
    assert "Conv 'stem' has weights that are not quantized" in caught.value.fact
    assert "0 can, and 13 behind them wait" in caught.value.fact


def test_an_operator_without_a_place_is_named(tmp_path: Path) -> None:
    path = foreign.save(foreign.skip_only(activation="Elu"), tmp_path / "elu.onnx")
    with pytest.raises(Unsupported, match=r"1 of the \d+ nodes .* Elu 'act' is an operator that"):
        lowered(path)
