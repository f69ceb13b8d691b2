"""The judge against loops over Python integers, and its own promises."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import handmade
from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge
from qadtr_edge.integer.judge import Judge, accumulator_type
from qadtr_edge.types import QuantSpec

SLOW = settings(max_examples=60, deadline=None, derandomize=True)


def half_even(value: Fraction) -> int:
    """Round half to even, exactly."""
    below = value.numerator // value.denominator
    rest = value - below
    return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def requantized(total: int, node: g.Conv | g.Linear, row: int, x: g.Tensor, y: g.Tensor) -> int:
    """``rint(f32(f32(acc) * f32(f32(sx * sw) / sy)))``, every step spelled out."""
    scale = np.float32(np.float32(x.scale) * node.weight_scale[row])
    factor = np.float32(scale / np.float32(y.scale))
    scaled = np.float32(np.float32(total) * factor)
    return min(max(half_even(Fraction(float(scaled))), y.low), y.high)


def naive_conv(
    node: g.Conv, codes: NDArray[np.int16], x: g.Tensor, y: g.Tensor
) -> NDArray[np.int16]:
    """The convolution of one image ``(C, H, W)``, one product at a time."""
    out = np.zeros(y.shape, np.int16)
    per_group = node.weight.shape[1]
    for o, row, column in product(*map(range, y.shape)):
        first = (o // (len(node.weight) // node.groups)) * per_group
        total = int(node.bias[o])
        for i, dy, dx in product(range(per_group), *map(range, node.weight.shape[2:])):
            iy = row * node.stride[0] + dy * node.dilation[0] - node.padding[0]
            ix = column * node.stride[1] + dx * node.dilation[1] - node.padding[1]
            if 0 <= iy < codes.shape[1] and 0 <= ix < codes.shape[2]:
                total += int(codes[first + i, iy, ix]) * int(node.weight[o, i, dy, dx])
        out[o, row, column] = requantized(total, node, o, x, y)
    return out


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[g.IntegerGraph, g.Conv, int]:
    """A graph that begins with a random convolution of the image, and a seed."""
    groups = draw(st.sampled_from([1, 1, 3]))
    channels = groups * draw(st.integers(1, 3))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    size = 6
    shape = [
        (size + padding[i] + padding[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(2)
    ]
    weight = rng.integers(-127, 128, (channels, 3 // groups, *kernel)).astype(np.int8)
    node = g.Conv(
        "conv", "images", "y", weight, rng.uniform(0.001, 0.01, channels).astype(np.float32),
        rng.integers(-9999, 9999, channels).astype(np.int32), stride, padding, dilation, groups,
    )  # fmt: skip
    high = draw(st.sampled_from([1, 7, 127]))
    tensors = {
        "images": g.Tensor("images", (3, size, size), 2.0**-7, -128, 127, 128),
        "y": g.Tensor("y", (channels, *shape), float(np.float32(0.05)), -high - 1, high, 128),
    }
    count = channels * shape[0] * shape[1]
    flat = replace(tensors["y"], name="flat", shape=(count,))
    last = g.Linear(
        "last", "flat", "logits", rng.integers(-9, 9, (2, count)).astype(np.int8),
        np.array([0.5, 0.25], np.float32), np.array([3, -4], np.int32),
    )  # fmt: skip
    graph = g.IntegerGraph(
        (node, g.Flatten("flatten", "y", "flat"), last), tensors | {"flat": flat}, "images",
        "logits", 2, QuantSpec(), {},
    )  # fmt: skip
    return graph, node, seed


@SLOW
@given(convolutions())
def test_convolution_and_linear_equal_the_loops(case: tuple[g.IntegerGraph, g.Conv, int]) -> None:
    graph, node, seed = case
    pixels = handmade.images(2, size=6, seed=seed)
    traced = judge.trace(graph, pixels)
    logits = judge.run(graph, pixels)
    x, y = graph.tensors["images"], graph.tensors["y"]
    last = graph.nodes[-1]
    assert isinstance(last, g.Linear)
    for index, image in enumerate(pixels.astype(np.int16) - 128):
        expected = naive_conv(node, image, x, y)
        np.testing.assert_array_equal(traced["y"][index], expected)
        for k in range(2):
            row = last.weight[k].astype(int)
            total = int(row @ expected.reshape(-1).astype(int)) + int(last.bias[k])
            scale = np.float32(np.float32(y.scale) * last.weight_scale[k])
            assert logits[index, k] == np.float32(np.float32(total) * scale)


@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_batches_do_not_change_a_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = handmade.GRAPHS[name](bits=8)
    pixels = handmade.images(9)
    whole = judge.run(graph, pixels)
    assert whole.shape == (9, 10)
    assert whole.dtype == np.float32
    assert len({row.tobytes() for row in whole}) == 9, "images must not all look the same"
    monkeypatch.setattr(judge, "_BATCH_BYTES", 1)
    assert [len(batch) for batch in Judge(graph).batches(pixels)] == [1] * 9
    np.testing.assert_array_equal(judge.run(graph, pixels), whole)
    assert judge.run(graph, pixels[:0]).shape == (0, 10)


@pytest.mark.parametrize("name", handmade.GRAPHS)
@pytest.mark.parametrize("bits", [8, 3, 2])
@pytest.mark.parametrize("is_unsigned", [False, True])
def test_codes_stay_in_their_range(name: str, bits: int, is_unsigned: bool) -> None:
    graph = handmade.GRAPHS[name](bits=bits, unsigned=is_unsigned)
    traced = judge.trace(graph, handmade.images(6))
    assert set(traced) == set(graph.tensors)
    for tensor_name, codes in traced.items():
        tensor = graph.tensors[tensor_name]
        assert codes.dtype == np.int16
        assert codes.shape == (6, *tensor.shape)
        assert tensor.low <= codes.min()
        assert codes.max() <= tensor.high


def test_the_input_is_the_raw_byte() -> None:
    pixels = handmade.images(3)
    traced = judge.trace(handmade.plain(), pixels)
    np.testing.assert_array_equal(traced["images"] + 128, pixels)


def test_the_sum_format_is_proven_from_the_weights() -> None:
    x = g.Tensor("x", (1,), 1.0, -128, 127, 128)
    limit = 2**24 // 128

    def layer(weights: int, bias: int) -> g.Linear:
        weight = np.full((1, weights), -1, np.int8)
        return g.Linear(
            "layer", "x", "y", weight, np.ones(1, np.float32), np.array([bias], np.int32)
        )

    assert accumulator_type(layer(limit - 1, 127), x) is np.float32
    assert accumulator_type(layer(limit - 1, 128), x) is np.float64
    assert accumulator_type(layer(limit, 0), x) is np.float64
    with pytest.raises(Unsupported, match="'layer' can overflow"):
        accumulator_type(layer(1, 2**31 - 128), x)


def test_sums_beyond_float32_are_exact() -> None:
    """Half a million products of 127 * 127 pass 2**24; a float32 sum would lose the last bits."""
    b = handmade.Builder(size=416)
    shape = (3, 416, 416)
    flat = b.node(g.Flatten("flatten", "images", "flat"), (int(np.prod(shape)),), "images")
    weight = np.full((2, b.tensors[flat].shape[0]), 127, np.int8)
    weight[1, ::2] = -127
    last = g.Linear("last", flat, "logits", weight, np.ones(2, np.float32), np.ones(2, np.int32))
    graph = g.IntegerGraph(
        (*b.nodes, replace(last, weight=weight // 8)), b.tensors, "images", "logits", 2, b.spec, {}
    )
    pixels = handmade.images(2, size=416)
    codes = pixels.reshape(2, -1).astype(np.int64) - 128
    exact = codes @ (weight // 8).astype(np.int64).T + 1
    assert (
        abs(exact).max() > 2**24 or accumulator_type(graph.nodes[-1], b.tensors[flat]) is np.float64
    )
    expected = exact.astype(np.float32) * np.float32(2.0**-7)
    np.testing.assert_array_equal(judge.run(graph, pixels), expected)


def test_pooling_equals_the_loops() -> None:
    graph = handmade.join(bits=8)
    pixels = handmade.images(3)
    traced = judge.trace(graph, pixels)
    pool, mean = (node for node in graph.nodes if isinstance(node, g.MaxPool | g.AveragePool))
    x, y = graph.tensors[mean.x], graph.tensors[mean.y]
    for image, channel, row, column in product(range(3), range(12), range(4), range(4)):
        before = traced[pool.x][image, channel]
        window = before[max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 1) : 2 * column + 2]
        assert traced[pool.y][image, channel, row, column] == window.max()
        before = traced[mean.x][image, channel]
        window = before[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        total = np.float32(0)
        for code in window.reshape(-1):
            total = np.float32(total + np.float32(code) * np.float32(x.scale))
        value = np.float32(np.float32(total / np.float32(window.size)) / np.float32(y.scale))
        shifted = np.float32(value + np.float32(y.zero_point))
        code = min(max(half_even(Fraction(float(shifted))) - y.zero_point, y.low), y.high)
        assert traced[mean.y][image, channel, row, column] == code


def test_shortcut_of_option_a_moves_codes_only() -> None:
    graph = handmade.residual()
    traced = judge.trace(graph, handmade.images(3))
    x, wide = traced["block0.sum"], traced["block1.wide"]
    np.testing.assert_array_equal(wide[:, 4:12], x[:, :, ::2, ::2])
    assert not wide[:, :4].any()
    assert not wide[:, 12:].any()


def test_tied_sums_are_the_same_on_both_instruction_sets() -> None:
    pixels = handmade.images(10)
    for seed in range(3):
        tied = handmade.residual(seed=seed, tied=True)
        np.testing.assert_array_equal(
            judge.run(tied, pixels), judge.run(tied, pixels, add="aarch64")
        )
    # Sums of powers of two that are not tied meet exact halves, where the two roundings differ.
    untied = [handmade.residual(seed=seed, tied=False, powers_of_two=True) for seed in range(5)]
    different = [
        (judge.run(graph, pixels) != judge.run(graph, pixels, add="aarch64")).any()
        for graph in untied
    ]
    assert any(different), "untied sums round differently somewhere, or the option does nothing"
