"""Parity: equal is said only of what is equal, and what is planted is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qadtr_edge.export import ort, parity

import handmade
from qadtr_edge.integer import judge
from qadtr_edge.integer.graph import IntegerGraph
from qadtr_edge.types import EngineFacts

pytestmark = pytest.mark.needs("ort")


def compared(
    graph: IntegerGraph, folder: Path, *, count: int = 70, trace: bool = False
) -> tuple[parity.Parity, EngineFacts]:
    model = folder / ort.MODEL
    with ort.OrtEngine(model) as engine:
        found = parity.compare(
            graph, engine, images=handmade.images(count), model=model, trace=trace
        )
        return found, engine.facts


def edited(folder: Path, edit: Callable[[onnx.GraphProto], None]) -> None:  # type: ignore[name-defined]  # noqa: F821
    import onnx

    model = onnx.load(folder / ort.MODEL)
    edit(model.graph)
    onnx.save(model, folder / ort.MODEL)


@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_every_layer_is_the_judges(name: str, tmp_path: Path) -> None:
    graph = handmade.GRAPHS[name](bits=4)
    ort.build(graph, tmp_path)
    found, _ = compared(graph, tmp_path, trace=True)
    assert (found.images, found.logits_compared) == (70, 700)
    assert (found.logit_mismatches, found.argmax_mismatches, found.max_abs_diff) == (0, 0, 0.0)
    assert found.first_divergent_layer is None
    assert [layer.layer for layer in found.layers] == [node.name for node in graph.nodes]
    assert all(layer.elements and not layer.mismatches for layer in found.layers)
    assert found.notes == ()


@pytest.mark.parametrize("name", handmade.GRAPHS)
@pytest.mark.parametrize("bits", [8, 4])
def test_the_portable_file_fuses_to_the_same_integers(name: str, bits: int, tmp_path: Path) -> None:
    graph = handmade.GRAPHS[name](bits=bits)
    ort.build(graph, tmp_path)
    pixels = handmade.images(40)
    with ort.OrtEngine(tmp_path / ort.QDQ_MODEL) as engine:
        np.testing.assert_array_equal(engine(pixels), judge.run(graph, pixels))
        assert engine.facts.precision == "integer"
        assert engine.facts.bits == bits


def test_without_a_mismatch_and_without_asking_nothing_is_traced(tmp_path: Path) -> None:
    graph = handmade.residual()
    ort.build(graph, tmp_path)
    assert compared(graph, tmp_path)[0].layers == ()


@pytest.mark.parametrize("layer", ["stem", "block1.conv1", "classifier"])
def test_a_planted_wrong_scale_is_found(layer: str, tmp_path: Path) -> None:
    from onnx import numpy_helper

    graph = handmade.residual(bits=8)
    ort.build(graph, tmp_path)

    def plant(onnx_graph: object) -> None:
        for value in onnx_graph.initializer:  # type: ignore[attr-defined]
            if value.name == f"{layer}/weight_scale":
                wrong = numpy_helper.to_array(value) * np.float32(1.02)
                value.CopyFrom(numpy_helper.from_array(wrong, value.name))

    edited(tmp_path, plant)
    found, facts = compared(graph, tmp_path)
    assert found.logit_mismatches > 0
    assert found.max_abs_diff > 0
    assert found.first_divergent_layer == layer
    assert facts.precision == "integer"
    assert any("not the file" in note for note in facts.notes)


def test_a_planted_float_layer_is_named(tmp_path: Path) -> None:
    """One integer convolution computed in float, from a Cast that onnxruntime cannot fuse."""
    from onnx import helper, numpy_helper

    graph = handmade.residual(bits=8)
    ort.build(graph, tmp_path)

    def plant(onnx_graph: object) -> None:
        nodes = onnx_graph.node  # type: ignore[attr-defined]
        values = {v.name: v for v in onnx_graph.initializer}  # type: ignore[attr-defined]
        place, old = next((i, n) for i, n in enumerate(nodes) if n.name == "block0.conv1")
        x, x_scale, _, w, w_scale, _, y_scale, y_zero, _ = old.input
        scale = numpy_helper.to_array(values[w_scale])[:, None, None, None]
        weight = numpy_helper.to_array(values[w]) * scale * numpy_helper.to_array(values[x_scale])
        real = numpy_helper.from_array(weight.astype(np.float32), "planted/weight")
        onnx_graph.initializer.append(real)  # type: ignore[attr-defined]
        conv = helper.make_node("Conv", ["planted/x", "planted/weight"], ["planted/y"], old.name)
        conv.attribute.extend(old.attribute)
        grid = ["planted/y", y_scale, y_zero]
        planted = [
            helper.make_node("Cast", [x], ["planted/x"], "planted/cast", to=1),
            conv,
            helper.make_node("QuantizeLinear", grid, old.output, "planted/quantize"),
        ]
        nodes.remove(old)
        for offset, node in enumerate(planted):
            nodes.insert(place + offset, node)

    edited(tmp_path, plant)
    found, facts = compared(graph, tmp_path)
    assert facts.precision == "mixed"
    assert facts.float_layers == ("block0.conv1",)
    assert found.first_divergent_layer == "block0.conv1", "its bias was left out"


def test_batches_are_counted_as_they_go(tmp_path: Path) -> None:
    graph = handmade.mobile()
    ort.build(graph, tmp_path)
    heard: list[int] = []
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        parity.compare(graph, engine, images=handmade.images(130), on_batch=heard.append)
    assert heard == [64, 64, 2]
