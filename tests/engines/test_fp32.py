"""The float yardstick against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qadtr_edge.export.fp32 import build_float
from qadtr_edge.export.ort import MODEL, OrtEngine

import handmade
from qadtr_edge.integer import float_graph as f
from qadtr_edge.integer import graph as g

pytestmark = pytest.mark.needs("ort", "torch")

RNG = np.random.default_rng(0)


def weights(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)


def biases(size: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.1, size).astype(np.float32)


def network() -> f.FloatGraph:
    """Every float node type once."""
    nodes: tuple[f.FloatNode, ...] = (
        f.FloatConv(
            "stem", "input", "stem.y", weights(8, 3, 3, 3), biases(8), padding=(1, 1, 1, 1)
        ),
        f.Clip("relu", "stem.y", "a"),
        f.FloatConv("deep", "a", "deep.y", weights(8, 1, 3, 3), biases(8), (2, 2), (0, 0, 1, 1),
                    groups=8),
        f.Clip("relu6", "deep.y", "b", 0.0, 6.0),
        g.Subsample("sub", "a", "sub.y", (2, 2)),
        g.Add("sum", "b", "sub.y", "c"),
        g.PadChannels("pad", "c", "wide", 2, 2),
        g.Sigmoid("gate", "wide", "gate.y"),
        g.Mul("silu", "wide", "gate.y", "d"),
        f.Shift("hard.shift", "wide", "shifted", 3.0),
        f.Clip("hard.clip", "shifted", "clipped", 0.0, 6.0),
        f.Multiply("hard.sixth", "clipped", "sixth", 1 / 6),
        g.Mul("hard", "wide", "sixth", "e"),
        g.Concat("join", ("d", "e"), "joined"),
        g.MaxPool("max", "joined", "max.y", (3, 3), (1, 1), (1, 1, 1, 1)),
        g.AveragePool("mean", "max.y", "mean.y", (3, 3), (1, 1), (1, 1, 1, 1)),
        f.FloatConv("dilated", "mean.y", "f", weights(6, 24, 2, 2), biases(6), dilation=(2, 2)),
        g.GlobalAveragePool("pool", "f", "pooled"),
        g.Flatten("flatten", "pooled", "flat"),
        f.FloatLinear("head", "flat", "output", weights(5, 6), biases(5)),
    )  # fmt: skip
    return f.FloatGraph(nodes, "input", 2.0**-6, (3, 8, 8), "output", 5, {})


def in_torch(graph: f.FloatGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same network, written with torch.nn.functional."""
    import torch
    from torch.nn import functional as F

    w = {
        node.name: (torch.from_numpy(node.weight), torch.from_numpy(node.bias))
        for node in graph.nodes
        if isinstance(node, f.FloatConv | f.FloatLinear)
    }
    x = (torch.from_numpy(pixels).float() - 128) * graph.input_scale
    a = F.relu(F.conv2d(x, *w["stem"], padding=1))
    b = F.relu6(F.conv2d(F.pad(a, (0, 1, 0, 1)), *w["deep"], stride=2, groups=8))
    wide = F.pad(b + a[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
    joined = torch.cat([F.silu(wide), F.hardswish(wide)], 1)
    mean = F.avg_pool2d(F.max_pool2d(joined, 3, 1, 1), 3, 1, 1, count_include_pad=False)
    pooled = F.conv2d(mean, *w["dilated"], dilation=2).mean((2, 3))
    logits: NDArray[np.float32] = F.linear(pooled, *w["head"]).numpy()
    return logits


def test_every_float_node_is_torchs(tmp_path: Path) -> None:
    graph = network()
    facts = build_float(graph, tmp_path)
    assert (facts.bits, facts.precision, facts.integer_kernels) == (32, "float", 0)
    assert {"stem", "deep", "dilated", "head", "sum"} <= set(facts.float_layers)
    pixels = handmade.images(12)
    with OrtEngine(tmp_path / MODEL) as engine:
        logits = engine(pixels)
        assert engine.facts == facts
    expected = in_torch(graph, pixels)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, atol=2e-5)


def test_equal_graphs_equal_bytes(tmp_path: Path) -> None:
    graph = network()
    build_float(graph, tmp_path / "a")
    build_float(graph, tmp_path / "b")
    assert (tmp_path / "a" / MODEL).read_bytes() == (tmp_path / "b" / MODEL).read_bytes()
