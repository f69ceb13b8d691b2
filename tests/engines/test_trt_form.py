"""The file that TensorRT is given, as arithmetic: its float meaning is the judge's integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qadtr_edge.export import parity, trt_form

import handmade
from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge
from qadtr_edge.integer.graph import IntegerGraph

pytestmark = pytest.mark.needs("ort")

WIDTHS = (8, 6, 4, 3, 2)


def simulated(graph: IntegerGraph, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of the file as its float operators say, by onnxruntime with its Q/DQ fusion off."""
    import onnxruntime as ort

    model = trt_form.spell_signed(graph, digest="of a test").SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    codes = (images ^ np.uint8(128)).view(np.int8)
    logits: NDArray[np.float32] = session.run(None, {"images": codes})[0]
    return logits


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "not tied"])
def test_with_powers_of_two_the_float_meaning_is_the_integers(bits: int, is_tied: bool) -> None:
    """Every product and sum is exact in float32 then: 0 logits may differ."""
    graph = handmade.residual(bits=bits, powers_of_two=True, tied=is_tied, seed=bits)
    images = handmade.images(24, seed=bits)
    np.testing.assert_array_equal(simulated(graph, images), judge.run(graph, images))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", ["residual", "plain", "mobile", "swish", "join"])
def test_with_free_scales_it_differs_by_float_rounding_alone(name: str, bits: int) -> None:
    """A code on the edge of rounding may flip; the answers stay those of the same network."""
    graph = handmade.GRAPHS[name](bits=bits, seed=bits)
    images = handmade.images(24, seed=bits)
    ours, theirs = judge.run(graph, images), simulated(graph, images)
    spread = float(ours.max() - ours.min())
    assert np.abs(ours - theirs).max() <= 0.05 * spread
    assert np.abs(ours - theirs).mean() <= 0.005 * spread


def test_a_wrong_weight_is_seen() -> None:
    graph = handmade.residual(powers_of_two=True)
    stem = graph.nodes[0]
    assert isinstance(stem, g.Conv)
    bent = replace(stem, weight=np.roll(stem.weight, 1, axis=0))
    other = replace(graph, nodes=(bent, *graph.nodes[1:]))
    images = handmade.images(4)
    assert (simulated(other, images) != judge.run(graph, images)).any()


def test_the_same_graph_gives_the_same_bytes() -> None:
    made = [trt_form.spell_signed(handmade.swish(bits=3), digest="d") for _ in range(2)]
    assert made[0].SerializeToString(deterministic=True) == made[1].SerializeToString(
        deterministic=True
    )


def test_both_operands_of_a_sum_are_quantized_and_narrow_ranges_are_integer_clips() -> None:
    model = trt_form.spell_signed(handmade.residual(bits=4), digest="d")
    nodes = {node.name: node for node in model.graph.node}
    writers = {node.output[0]: node for node in model.graph.node}
    total = nodes["block0.add"]
    assert [writers[name].op_type for name in total.input] == ["DequantizeLinear"] * 2
    clip = nodes["block0.conv1/clip"]
    assert writers[clip.input[0]].op_type == "QuantizeLinear"
    assert nodes["block0.conv1"].input[2] == "block0.conv1/bias"
    assert next(entry.version for entry in model.opset_import if not entry.domain) == 21


def test_unsigned_activations_are_refused() -> None:
    with pytest.raises(Unsupported, match=r'activations="unsigned".*255') as caught:
        trt_form.spell_signed(handmade.residual(unsigned=True), digest="d")
    assert "signed" in caught.value.remedy


@pytest.mark.parametrize("zero_point", [0, 100])
def test_another_input_is_refused(zero_point: int) -> None:
    graph = handmade.plain()
    image = replace(graph.tensors["images"], zero_point=zero_point)
    with pytest.raises(Unsupported, match=f"reads the byte less {zero_point}, not"):
        trt_form.spell_signed(replace(graph, tensors=graph.tensors | {"images": image}), digest="d")


def test_weights_with_a_zero_point_are_refused() -> None:
    graph = handmade.plain()
    conv = graph.nodes[0]
    assert isinstance(conv, g.Conv)
    shifted = replace(conv, weight=np.clip(conv.weight.astype(np.int16) * 3, -10, 200))
    with pytest.raises(Unsupported, match="a zero point for the weights of 'conv1'"):
        trt_form.spell_signed(replace(graph, nodes=(shifted, *graph.nodes[1:])), digest="d")


def test_codes_beyond_int8_are_refused_by_name() -> None:
    graph = handmade.residual()
    wide = replace(graph.tensors["block0.sum"], high=200)
    with pytest.raises(Unsupported, match=r"holds the codes 0 to 200 in 'block0\.sum'"):
        trt_form.spell_signed(
            replace(graph, tensors=graph.tensors | {"block0.sum": wide}), digest="d"
        )


def with_table(table: NDArray[np.int16]) -> IntegerGraph:
    """``plain`` behind a table of bytes, as files with a normalisation per channel have it."""
    graph = handmade.plain()
    first, *others = graph.nodes
    assert isinstance(first, g.Conv)
    pixels = replace(graph.tensors["images"], name="pixels")
    nodes = (g.PixelTable("table", "images", "pixels", table), replace(first, x="pixels"), *others)
    return replace(graph, nodes=nodes, tensors=graph.tensors | {"pixels": pixels})


@pytest.mark.parametrize("slope", [0.51, 0.997, 1.2, -0.71])
def test_a_table_of_bytes_is_the_line_it_rounds(slope: float) -> None:
    """Every byte of every channel gets its code."""
    lines = [np.rint(np.arange(256) * slope - start) for start in (101.3, 64.0, 7.25)]
    table = np.clip(lines, -128, 127).astype(np.int16)
    graph = with_table(table)
    assert all(trt_form.line_of(row, y=graph.tensors["pixels"]) for row in table)
    ramp = np.tile(np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8), (1, 3, 1, 1))
    np.testing.assert_allclose(simulated(graph, ramp), judge.run(graph, ramp), atol=1e-4)


def test_a_table_that_is_no_line_is_refused() -> None:
    bent = np.tile(np.rint(np.sqrt(np.arange(256)) * 7), (3, 1)).astype(np.int16)
    with pytest.raises(Unsupported, match="'table' rounds the input by a table"):
        trt_form.spell_signed(with_table(bent), digest="d")


def test_the_layers_can_be_shown(tmp_path: Path) -> None:
    """The names a tensor is traced under are those of the other forms."""
    graph = handmade.residual(bits=4)
    path = tmp_path / "model.onnx"
    path.write_bytes(trt_form.spell_signed(graph, digest="d").SerializeToString())
    import onnx

    shown = onnx.load_model_from_string(parity.exposed(path, list(graph.tensors)))
    names = {output.name for output in shown.graph.output}
    assert names >= set(graph.tensors) - {graph.input}
