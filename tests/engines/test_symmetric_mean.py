"""Symmetric integers calculated by hand, and a mean that is taken inside the product behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx")

from qadtr_edge.export import symmetric, symmetric_mean

from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge
from qadtr_edge.types import QuantSpec


def _by_hand(*, mean: tuple[float, int, int] = (0.1, 0, 255)) -> tuple[g.IntegerGraph, g.Float32]:
    """Bytes x 0.1, a 1x1 convolution to codes 0 to 255 of 0.1, a mean on that grid, a product."""
    scale, low, high = mean
    tensors = [
        g.Tensor("images", (3, 1, 2), float(np.float32(0.1)), 0, 255),
        g.Tensor("act", (1, 1, 2), float(np.float32(0.1)), 0, 255),
        g.Tensor("mean", (1, 1, 1), float(np.float32(scale)), low, high),
        g.Tensor("row", (1,), float(np.float32(scale)), low, high),
    ]
    one = np.ones(1, np.float32)
    sums = np.array([[200], [-50]], np.int16)
    nodes = (
        g.Conv("act", "images", "act", np.array([[[[1]], [[0]], [[0]]]], np.int8), one,
               np.array([100], np.int32)),
        g.GlobalAveragePool("mean", "act", "mean"),
        g.Flatten("row", "mean", "row"),
        g.Linear("fc", "row", "logits", sums, np.float32([0.5, 0.5]), np.array([30, 9], np.int32)),
    )  # fmt: skip
    graph = g.IntegerGraph(
        nodes, {x.name: x for x in tensors}, "images", "logits", 2,
        QuantSpec(activations="unsigned"), {},
    )  # fmt: skip
    reals = np.float32(0.1) * np.arange(256, dtype=np.float32)
    return graph, np.tile(reals, (3, 1))


def test_one_case_by_hand() -> None:
    """Steps grow by 255/127: codes 0 to 127; biases shrink by it; 200 becomes 127; -50 stays."""
    graph, pixels = _by_hand()
    made = symmetric.symmetric(graph, pixels=pixels)
    table, conv, row, head = made.nodes
    step = float(np.float32(np.float32(0.1) * 255 / 127))
    for name in ("pixels", "act", "row"):
        x = made.tensors[name]
        assert (x.low, x.high) == (0, 127)
        assert x.scale == pytest.approx(step, rel=1e-6)
    assert isinstance(table, g.PixelTable)
    assert table.table[0, [0, 1, 2, 100, 255]].tolist() == [0, 0, 1, 50, 127]  # byte * 127 / 255
    assert isinstance(conv, g.Conv)
    assert conv.bias.tolist() == [50]  # 100 * 127 / 255 = 49.8
    assert isinstance(row, g.Flatten)
    assert (row.x, made.tensors["row"].shape) == ("act", (2,))
    assert isinstance(head, g.Linear)
    assert head.weight.tolist() == [[127, 127], [-50, -50]]
    np.testing.assert_allclose(head.weight_scale, [0.5 * 200 / 127 / 2, 0.25], rtol=1e-6)
    # 30 * 2 / (200/127) * 127/255 = 18.97; 9 * 2 * 127/255 = 8.96: in steps of x times w
    assert head.bias.tolist() == [19, 9]
    image = np.array([[[[100, 255]], [[7, 7]], [[7, 7]]]], np.uint8)
    # 50 + 50 and 127 + 50, limited to 127: (100 + 127) * 127 + 19 and 227 * -50 + 9
    wanted = np.array([[28848, -11341]]) * step * head.weight_scale
    np.testing.assert_allclose(judge.run(made, image), wanted, rtol=1e-6)


def test_a_mean_inside_its_product_is_the_mean() -> None:
    """Of the real numbers: within half a step of the file's rounded mean, times its weight."""
    graph, _ = _by_hand()
    made = symmetric_mean.with_means_inside(graph)
    assert not any(isinstance(node, g.GlobalAveragePool) for node in made.nodes)
    pixels = np.random.default_rng(0).integers(0, 150, (50, 3, 1, 2), np.uint8)
    sums = (pixels[:, 0, 0].astype(int) + 100).sum(1, keepdims=True)
    exact = 0.05 * (sums / 2 * [200, -50] + [30, 9])
    np.testing.assert_allclose(judge.run(made, pixels), exact, rtol=1e-5)
    assert np.abs(judge.run(graph, pixels) - exact).max() == pytest.approx(0.05 * 200 / 2)


@pytest.mark.parametrize("mean", [(0.05, 0, 255), (0.1, 0, 254), (0.25, 0, 127)])
def test_a_mean_that_limits_or_that_int8_holds_stays(mean: tuple[float, int, int]) -> None:
    graph, _ = _by_hand(mean=mean)
    assert symmetric_mean.with_means_inside(graph) is graph


def test_a_mean_that_is_read_twice_or_makes_a_large_product_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, _ = _by_hand()
    again = replace(graph, nodes=(*graph.nodes, g.Flatten("again", "mean", "again")))
    assert symmetric_mean.with_means_inside(again) is again
    head = graph.nodes[-1]
    assert isinstance(head, g.Linear)
    full = replace(head, bias=np.array([2**30, 0], np.int32))
    large = replace(graph, nodes=(*graph.nodes[:-1], full))
    assert symmetric_mean.with_means_inside(large) is large
    monkeypatch.setattr(symmetric_mean, "MOST_WEIGHTS", 3)
    assert symmetric_mean.with_means_inside(graph) is graph
