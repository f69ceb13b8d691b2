"""OpenVINO's own corners: batch, hints and threads, the float file, what is traced, strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from qadtr_edge.export import (
    facts,
    openvino,
    openvino_artefact,
    openvino_observe,
    openvino_runtime,
)

import handmade
import qadtr_edge
from qadtr_edge.engines import open_artefact
from qadtr_edge.errors import BadInput, EngineFailed

pytestmark = pytest.mark.needs("openvino")


@pytest.mark.parametrize(
    ("threads", "hint", "batch"),
    [(2, "latency", None), (2, "throughput", None), (1, "latency", 4), (2, "throughput", 4)],
)
def test_options_do_not_change_a_bit(
    threads: int, hint: Literal["latency", "throughput"], batch: int | None, tmp_path: Path
) -> None:
    openvino.build(handmade.residual(bits=4), tmp_path)
    pixels = handmade.images(11)
    with openvino.OpenVinoEngine(tmp_path / openvino.MODEL) as plain:
        expected = plain(pixels)
    with openvino.OpenVinoEngine(
        tmp_path / openvino.MODEL, threads=threads, hint=hint, batch=batch
    ) as engine:
        np.testing.assert_array_equal(engine(pixels), expected)
        np.testing.assert_array_equal(engine(pixels[:1]), expected[:1])
        assert engine(pixels[:0]).shape == (0, 10)
        options = engine.facts.options
    assert options["INFERENCE_NUM_THREADS"] == threads
    assert options["NUM_STREAMS"] == (threads if hint == "throughput" else 1)
    assert options["batch"] == batch


def test_the_compiled_model_has_the_options_that_facts_tell(tmp_path: Path) -> None:
    openvino.build(handmade.plain(), tmp_path)
    path = tmp_path / openvino.MODEL
    model = openvino_runtime.parsed(path.read_bytes(), path)
    asked = openvino_runtime.options(threads=2, hint="throughput")
    compiled = openvino_runtime.compiled(model, asked, path=path)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") == 2
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize(("threads", "batch"), [(0, None), (1, 0)])
def test_no_threads_or_no_images_is_a_sentence(threads: int, batch: int | None) -> None:
    with pytest.raises(BadInput, match="were asked for"):
        openvino_runtime.options(threads=threads, batch=batch)


def test_facts_json_says_layer_by_layer_what_ran(tmp_path: Path) -> None:
    graph = handmade.residual(bits=4)
    made = openvino.build(graph, tmp_path)
    document = json.loads((tmp_path / facts.FILE).read_text())
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert list(layers) == [node.name for node in graph.nodes]
    assert layers["block0.conv1"]["observed"] == "integer"
    assert layers["block0.conv1"]["kernels"] == ["Convolution -> uint8"]
    assert layers["block0.add"]["kernels"] == layers["block0.conv2"]["kernels"], "fused into it"
    record = facts.read(tmp_path)
    assert record is not None
    assert record.facts == made


def test_layers_that_run_in_float_are_named(tmp_path: Path) -> None:
    made = openvino.build(handmade.swish(bits=8), tmp_path)
    assert made.precision == "mixed"
    assert {"silu.sigmoid", "hswish.add", "minus", "join"} == set(made.float_layers)
    assert made.integer_kernels >= 4


def test_a_convolution_whose_input_is_not_quantized_runs_in_float(tmp_path: Path) -> None:
    """The gate must see what a user's file hides: one missing Q/DQ pair before a convolution."""
    import onnx

    openvino.build(handmade.plain(bits=8), tmp_path)
    path = tmp_path / openvino.MODEL
    model = onnx.load(path)
    nodes = {node.name: node for node in model.graph.node}
    pooled = nodes["pool2"].input[0]
    nodes["pool2"].input[0] = nodes["conv2"].output[0]
    assert pooled != nodes["conv2"].output[0]
    onnx.save(model, path)
    with openvino.OpenVinoEngine(path) as engine:
        assert engine.facts.precision == "mixed"
        assert "pool2" in engine.facts.float_layers


@pytest.mark.needs("torch")
def test_the_float_model_is_called_float(tmp_path: Path) -> None:
    from qadtr_edge.integer.lower_float import lower_float
    from qadtr_edge.models import checkpoint

    net, _ = checkpoint.load(
        Path(qadtr_edge.__file__).parent / "zoo/plain-resnet8-signs.safetensors"
    )
    graph = lower_float(net, source={})
    made = openvino.build_float(graph, tmp_path)
    assert (made.precision, made.integer_kernels, made.bits) == ("float", 0, 32)
    assert {"conv1", "linear"} <= set(made.float_layers)


def test_what_is_traced_is_what_ran(tmp_path: Path) -> None:
    graph = handmade.residual(bits=8)
    openvino.build(graph, tmp_path)
    model = tmp_path / openvino.MODEL
    with openvino.OpenVinoEngine(model) as engine:
        found = openvino.compare(graph, engine, images=handmade.images(20), model=model, trace=True)
    traced = {layer.layer for layer in found.layers}
    assert {"stem", "block0.conv1", "block0.add", "pool", "classifier"} <= traced
    assert "block0.conv2" not in traced, "it has no output of its own"
    assert any("fused" in note and "block0.conv2" in note for note in found.notes)
    assert not any("changed" in note for note in found.notes)


@pytest.mark.parametrize("layer", ["stem", "block1.conv1"])
def test_a_planted_wrong_scale_is_found(layer: str, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = handmade.residual(bits=4, seed=4)  # in which no code is rounded differently
    openvino.build(graph, tmp_path)
    path = tmp_path / openvino.MODEL
    model = onnx.load(path)
    for value in model.graph.initializer:
        if value.name == f"{layer}/weight_scale":
            wrong = numpy_helper.to_array(value) * np.float32(1.1)
            value.CopyFrom(numpy_helper.from_array(wrong, value.name))
    onnx.save(model, path)
    with openvino.OpenVinoEngine(path) as engine:
        found = openvino.compare(graph, engine, images=handmade.images(20), model=path)
    assert found.first_divergent_layer == layer


def test_a_file_on_its_own_is_observed(tmp_path: Path) -> None:
    made = openvino.build(handmade.plain(bits=3), tmp_path)
    (tmp_path / facts.FILE).unlink()
    with openvino.OpenVinoEngine(tmp_path / openvino.MODEL) as engine:
        seen = engine.facts
    assert (seen.bits, seen.precision, seen.digest) == (3, "integer", made.digest)
    assert seen.integer_kernels == made.integer_kernels
    assert "no facts file describes this file" in seen.notes


def test_a_model_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["x"], ["logits"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in ("x", "logits"))
    model = helper.make_model(helper.make_graph([node], "other", [x], [y]), ir_version=10)
    model.opset_import[0].version = 21
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BadInput, match="does not take uint8 images"):
        openvino.OpenVinoEngine(tmp_path / "other.onnx")


def test_an_operator_nobody_has_is_a_sentence(tmp_path: Path) -> None:
    import onnx

    openvino.build(handmade.plain(), tmp_path)
    model = onnx.load(tmp_path / openvino.MODEL)
    model.graph.node[-1].op_type = "Teleport"
    onnx.save(model, tmp_path / openvino.MODEL)
    with pytest.raises((BadInput, EngineFailed), match=r"OpenVINO refuses .*Teleport"):
        openvino.OpenVinoEngine(tmp_path / openvino.MODEL)


def test_kernels_between_images_and_logits_only(tmp_path: Path) -> None:
    openvino.build(handmade.residual(bits=8), tmp_path)
    path = tmp_path / openvino.MODEL
    options = openvino_runtime.options(threads=1)
    model = openvino_runtime.parsed(path.read_bytes(), path)
    compiled = openvino_runtime.compiled(model, options, path=path)
    ran = openvino_observe.kernels(compiled, ["stem", "classifier"])
    assert not any(kernel.operator == "Const" for kernel in ran)
    products = [k for k in ran if k.operator in {"Convolution", "FullyConnected"}]
    assert len(products) == 6
    assert all(k.runs_in == "integer" and k.reads[0] == "uint8" for k in products)
    assert products[0].layers == ("stem",)


# -- files that ship -------------------------------------------------------------------------------


def fixed_batch(path: Path, count: int) -> None:
    """Makes the file take ``count`` images at a time."""
    import onnx

    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = count
    onnx.save(model, path)


@pytest.mark.parametrize("batch", [None, 4])
def test_a_file_that_ships_answers_as_the_engine_made_of_it(
    batch: int | None, tmp_path: Path
) -> None:
    openvino.build(handmade.mobile(bits=4, seed=4), tmp_path)
    path, images = tmp_path / openvino.MODEL, handmade.images(10)
    with openvino.OpenVinoEngine(path) as engine:
        expected = engine(images)
    if batch:
        fixed_batch(path, batch)
    with open_artefact(path, "openvino") as shipped:
        assert (shipped.image, shipped.classes) == ((3, 8, 8), 10)
        np.testing.assert_array_equal(shipped(images), expected)
        np.testing.assert_array_equal(shipped(images[:1]), expected[:1])
        assert shipped(images[:0]).shape == (0, 10)
        assert (shipped.facts.precision, shipped.facts.bits) == ("integer", 4)
        assert shipped.facts.options["batch"] == batch
        shipped.close()
        with pytest.raises(EngineFailed, match="is closed"):
            shipped(images)


def test_a_file_that_ships_is_compared_with_what_was_read_of_it(tmp_path: Path) -> None:
    openvino.build(handmade.mobile(bits=4, seed=4), tmp_path)
    images = handmade.images(20)
    found = openvino_artefact.compare(tmp_path / openvino.MODEL, images=images)
    assert (found.images, found.logits_compared, found.argmax_mismatches) == (20, 200, 0)
    assert found.max_abs_diff <= 1e-5


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "absent"])
def test_a_damaged_file_that_ships_is_a_sentence(damage: str, tmp_path: Path) -> None:
    openvino.build(handmade.residual(), tmp_path)
    path = tmp_path / openvino.MODEL
    content = {"cut": path.read_bytes()[:5000], "noise": bytes(range(256)) * 20, "empty": b""}
    path.unlink()
    if damage in content:
        path.write_bytes(content[damage])
    with pytest.raises((BadInput, EngineFailed), match=r"model\.onnx"):
        open_artefact(path, "openvino")


@pytest.mark.needs("real_data")
def test_layers_of_a_published_file_that_run_in_float_are_named(data_root: Path) -> None:
    """Its activations are asymmetric: OpenVINO takes its first layer out of the integers."""
    path = data_root / "mlperf_tiny/converted_onnx/pretrainedResnet_quant.onnx"
    with open_artefact(path, "openvino") as engine:
        assert engine.facts.precision == "mixed"
        assert any("conv2d/Conv2D" in name for name in engine.facts.float_layers)
