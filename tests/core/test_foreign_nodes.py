"""What only files made elsewhere hold: pixel tables, requantized logits, weights beyond int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import graph_file, judge
from qadtr_edge.integer.dequantized import dequantized
from qadtr_edge.types import QuantSpec

Codes = np.typing.NDArray[np.int64]


def handmade(*, zero: int | None = None) -> g.IntegerGraph:
    """A table (or the raw byte, less ``zero``), a 1x1 convolution on all of [-255, 255], logits."""
    rng = np.random.default_rng(0)
    table = np.sort(rng.integers(-100, 120, (3, 256)), axis=1).astype(np.int16)
    raw = g.Tensor("images", (3, 4, 4), 0.02, -(zero or 0), 255 - (zero or 0), zero or 0)
    pixels = g.Tensor("pixels", (3, 4, 4), 0.02, -100, 155, 100)
    x = "images" if zero is not None else "pixels"
    weight = rng.integers(-180, 76, (5, 3, 4, 4)).astype(np.int16)
    scale = np.full(5, 0.001, np.float32)
    bias = rng.integers(-999, 999, 5).astype(np.int32)
    nodes: tuple[g.Node, ...] = (
        g.Conv("conv", x, "out", weight, scale, bias),
        g.Flatten("flat", "out", "row"),
        g.Dequantize("last", "row", "logits"),
    )
    if zero is None:
        nodes = (g.PixelTable("pixels", "images", "pixels", table), *nodes)
    out = g.Tensor("out", (5, 1, 1), 0.003, -77, 178, 77)
    row = g.Tensor("row", (5,), 0.003, -77, 178, 77)
    tensors = {t.name: t for t in (raw, pixels, out, row) if zero is None or t is not pixels}
    return g.IntegerGraph(
        nodes, tensors, "images", "logits", 5, QuantSpec(scales="free"), {"model": "handmade"}
    )


def shown(count: int = 7) -> np.typing.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)


def by_hand(graph: g.IntegerGraph, codes: Codes) -> np.typing.NDArray[np.float32]:
    conv = next(node for node in graph.nodes if isinstance(node, g.Conv))
    x, y = graph.tensors[conv.x], graph.tensors["out"]
    total = np.einsum("nchw,ochw->no", codes, conv.weight.astype(np.int64)) + conv.bias
    factor = np.float32(x.scale) * conv.weight_scale / np.float32(y.scale)
    rounded = np.rint(total.astype(np.float32) * factor)
    return np.clip(rounded, y.low, y.high).astype(np.float32) * np.float32(y.scale)


def test_the_judge_looks_pixels_up_and_dequantizes() -> None:
    graph, images = handmade(), shown()
    table = graph.nodes[0]
    assert isinstance(table, g.PixelTable)
    codes = np.stack([table.table[c][images[:, c]] for c in range(3)], axis=1).astype(np.int64)
    assert np.array_equal(judge.run(graph, images), by_hand(graph, codes))
    assert np.array_equal(judge.trace(graph, images)["pixels"], codes)


@pytest.mark.parametrize("zero", [0, 127, 200])
def test_the_raw_byte_may_have_any_zero_point(zero: int) -> None:
    graph, images = handmade(zero=zero), shown()
    assert np.array_equal(judge.run(graph, images), by_hand(graph, images.astype(np.int64) - zero))


@pytest.mark.parametrize("zero", [None, 127])
def test_the_file_keeps_it_all(zero: int | None, tmp_path: Path) -> None:
    graph = handmade(zero=zero)
    graph_file.save(graph, tmp_path / "graph.npz")
    loaded = graph_file.load(tmp_path / "graph.npz")
    assert graph_file.digest(loaded) == graph_file.digest(graph)
    assert np.array_equal(judge.run(loaded, shown()), judge.run(graph, shown()))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("zero", [None, 127])
def test_the_twin_is_the_judge_and_has_a_gradient(zero: int | None) -> None:
    import torch

    from qadtr_edge.integer.twin import Twin

    graph = handmade(zero=zero)
    pixels = torch.from_numpy(shown()).float().requires_grad_()
    logits = Twin(graph)(pixels)
    assert np.array_equal(logits.detach().numpy(), judge.run(graph, shown()))
    logits.sum().backward()
    assert pixels.grad is not None
    assert bool(pixels.grad.abs().amax(dim=(0, 2, 3)).gt(0).all())


@pytest.mark.needs("ort")
@pytest.mark.parametrize("zero", [None, 0, 127])
def test_onnxruntime_computes_the_judges_bits(zero: int | None, tmp_path: Path) -> None:
    from qadtr_edge.export import ort

    graph = handmade(zero=zero)
    facts = ort.build(graph, tmp_path)
    assert facts.precision == "integer"
    for name in (ort.MODEL, ort.QDQ_MODEL):
        with ort.OrtEngine(tmp_path / name) as engine:
            assert np.array_equal(engine(shown()), judge.run(graph, shown())), name


@pytest.mark.needs("ort")
def test_the_float_graph_rounds_nothing(tmp_path: Path) -> None:
    from qadtr_edge.export import fp32, ort

    graph, images = handmade(zero=127), shown()
    fp32.build_float(dequantized(graph), tmp_path)
    conv = graph.nodes[0]
    assert isinstance(conv, g.Conv)
    real = (images - 127.0) * graph.tensors["images"].scale
    weight = conv.weight * conv.weight_scale[:, None, None, None]
    bias = conv.bias * conv.weight_scale * graph.tensors["images"].scale
    wanted = np.einsum("nchw,ochw->no", real, weight) + bias
    limits = (0.003 * -77, 0.003 * 178)
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        assert np.abs(engine(images) - np.clip(wanted, *limits)).max() < 1e-4


def test_a_table_that_is_no_line_has_no_float_graph() -> None:
    bent = np.tile(np.sqrt(np.arange(256, dtype=np.float32)), (3, 1))
    with pytest.raises(Unsupported, match="no straight line"):
        dequantized(handmade(), pixels=bent)


@pytest.mark.needs("ort")
@pytest.mark.parametrize(("low", "high"), [(-200, 100), (3, 256), (-256, -3)])
def test_weights_that_no_zero_point_holds_are_refused(low: int, high: int) -> None:
    from qadtr_edge.export.dialects import weight_zero_point

    with pytest.raises(Unsupported, match=f"from {low} to {high} do not fit"):
        weight_zero_point(np.array([low, high], np.int16))


@pytest.mark.needs("ort")
@pytest.mark.parametrize(("low", "high", "zero"), [(3, 200, 0), (-200, -3, 200), (-100, 155, 100)])
def test_weights_on_one_side_of_zero_have_a_zero_point(low: int, high: int, zero: int) -> None:
    """As a quantizer of uint8 leaves weights that are all positive: its ranges hold 0."""
    from qadtr_edge.export.dialects import weight_zero_point

    assert weight_zero_point(np.array([low, high], np.int16)) == zero


@pytest.mark.needs("ort")
def test_onnxruntime_computes_weights_on_one_side_of_zero(tmp_path: Path) -> None:
    from qadtr_edge.export import ort

    graph, images = handmade(zero=127), shown()
    conv = graph.nodes[0]
    assert isinstance(conv, g.Conv)
    weight = (130 + np.arange(conv.weight.size) % 80).astype(np.int16).reshape(conv.weight.shape)
    finer = replace(conv, weight=weight, weight_scale=conv.weight_scale / np.float32(100))
    positive = replace(graph, nodes=(finer, *graph.nodes[1:]))
    assert len(np.unique(judge.run(positive, images))) > 8, "more than the limits are reached"
    assert ort.build(positive, tmp_path).precision == "integer"
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        np.testing.assert_array_equal(engine(images), judge.run(positive, images))
