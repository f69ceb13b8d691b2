"""The judge: exact execution of an integer graph in NumPy. Every engine is compared with it.

Products and sums of codes run in floating-point matrix products, which are exact in any order as
long as no partial sum can leave the integers the format holds; the bound is proven from the real
weights of each layer, and decides between float32 (2**24) and float64 (2**53).

Inside, activations are float32 codes laid out ``(C, N, H, W)``, so that a convolution is one
matrix product without a transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import Unsupported
from ..types import Pixels
from . import arithmetic, pooling
from . import graph as g
from .graph import AddRounding, Float32, IntegerGraph, Node, Tensor, inputs_of
from .windows import columns, padded, taps

Codes = NDArray[np.int16]
Exact = NDArray[np.float32] | NDArray[np.float64]
Step = Callable[..., Float32]

_BATCH_BYTES = 8 << 20


def run(graph: IntegerGraph, images: Pixels, *, add: AddRounding = "x86") -> Float32:
    """Logits ``(N, K) float32`` of ``images`` ``(N, 3, H, W) uint8``, bit for bit.

    ``add`` is the instruction set whose rounding of an untied sum is followed. Memory does not
    grow with N (beyond the logits), so ``images`` may be a memory map.
    """
    judge = Judge(graph, add=add)
    logits = [judge(batch) for batch in judge.batches(images)]
    return np.concatenate(logits) if logits else np.empty((0, graph.classes), np.float32)


def trace(graph: IntegerGraph, images: Pixels, *, add: AddRounding = "x86") -> dict[str, Codes]:
    """Codes ``(N, *shape) int16`` of every tensor by name, the input included; all kept at once."""
    judge = Judge(graph, add=add)
    parts = [judge.codes(batch) for batch in judge.batches(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in graph.tensors}


class Judge:
    """An integer graph made ready to run: weights unpacked, tables and bounds computed once."""

    def __init__(self, graph: IntegerGraph, *, add: AddRounding = "x86") -> None:
        self.graph = graph
        self._steps = [(node, _step(node, graph, add)) for node in graph.nodes]
        last_use = {name: i for i, node in enumerate(graph.nodes) for name in inputs_of(node)}
        self._spent = [
            [name for name, last in last_use.items() if last == i] for i in range(len(graph.nodes))
        ]

    def __call__(self, images: Pixels) -> Float32:
        """Logits ``(N, K) float32`` of one batch ``(N, 3, H, W) uint8``."""
        values = {self.graph.input: _input_codes(images, self.graph)}
        for (node, step), spent in zip(self._steps, self._spent, strict=True):
            values[node.y] = step(*(values[name] for name in inputs_of(node)))
            for name in spent:
                del values[name]
        return np.ascontiguousarray(values[self.graph.logits].T)

    def codes(self, images: Pixels) -> dict[str, Codes]:
        """Codes ``(N, *shape) int16`` of every tensor of one batch."""
        values = {self.graph.input: _input_codes(images, self.graph)}
        for node, step in self._steps:
            values[node.y] = step(*(values[name] for name in inputs_of(node)))
        return {name: values[name].swapaxes(0, 1).astype(np.int16) for name in self.graph.tensors}

    def batches(self, images: Pixels) -> Iterator[Pixels]:
        """``images`` in batches that keep the widest layer's working set in the cache."""
        largest = max(_working_set_bytes(node, self.graph) for node in self.graph.nodes)
        size = max(1, _BATCH_BYTES // largest)
        for start in range(0, len(images), size):
            yield np.asarray(images[start : start + size])


def _input_codes(images: Pixels, graph: IntegerGraph) -> Float32:
    codes = images.swapaxes(0, 1).astype(np.float32)
    codes -= np.float32(graph.tensors[graph.input].zero_point)
    return codes


def _working_set_bytes(node: Node, graph: IntegerGraph) -> int:
    """Bytes one image needs in ``node``: for a convolution, its matrix of input windows."""
    elements = sum(int(np.prod(graph.tensors[name].shape)) for name in inputs_of(node))
    if isinstance(node, g.Conv):
        area = int(np.prod(graph.tensors[node.y].shape[1:]))
        elements = area * node.weight[0].size * node.groups
    return 4 * max(elements, 1)


def _step(node: Node, graph: IntegerGraph, rounding: AddRounding) -> Step:
    """The function that computes ``node`` from the codes of its inputs."""
    xs = [graph.tensors[name] for name in inputs_of(node)]
    if isinstance(node, g.Linear) and node.y == graph.logits:
        return partial(_linear, _matrix(node, xs[0]), node.bias, _logits_scale(node, xs[0]), None)
    x = xs[0]
    if isinstance(node, g.Dequantize):
        return lambda codes: codes * np.float32(x.scale)
    y = graph.tensors[node.y]
    match node:
        case g.Linear():
            scale = arithmetic.multiplier(x.scale, node.weight_scale, scale_y=y.scale)
            return partial(_linear, _matrix(node, x), node.bias, scale, y)
        case g.Conv():
            return _conv_step(node, x, y)
        case g.Add():
            return _add_step(xs[0], xs[1], y, rounding)
        case g.AddConstant():
            constant = arithmetic.constant_tensor(node.code, node.scale)
            table = arithmetic.sum_table(x, constant, y=y, rounding=rounding)
            return partial(_lookup, table[:, node.code + constant.zero_point], x.zero_point)
        case g.Mul():
            return partial(arithmetic.product, x_a=xs[0], x_b=xs[1], y=y)
        case g.Sigmoid():
            return partial(_lookup, arithmetic.sigmoid_table(x, y), x.zero_point)
        case g.Requantize() if x.scale != y.scale:
            return partial(_lookup, arithmetic.requantize_table(x, y), x.zero_point)
        case g.Requantize() | g.Rescale():
            return partial(_clamped, y)
        case g.Concat():
            parts = [g.Requantize(node.name, part.name, node.y) for part in xs]
            return partial(_concat, [_step(part, graph, rounding) for part in parts])
        case g.MaxPool():
            return lambda codes: pooling.max_pool(node, y, codes=codes)
        case g.AveragePool():
            return lambda codes: pooling.average_pool(node, x, y=y, codes=codes)
        case g.GlobalAveragePool():
            return lambda codes: pooling.global_average_pool(x, y, codes=codes)
        case g.Subsample():
            rows, columns_ = node.stride
            return lambda codes: _clamped(y, codes[:, :, ::rows, ::columns_])
        case g.PadChannels():
            widths = ((node.before, node.after), (0, 0), (0, 0), (0, 0))
            return lambda codes: _clamped(y, np.pad(codes, widths))
        case g.PixelTable():
            return partial(_pixels_looked_up, node.table.astype(np.float32), x.zero_point)
        case g.Flatten():
            return lambda codes: _clamped(y, _flat(codes))


def _clamped(y: Tensor, codes: Float32) -> Float32:
    return arithmetic.clamp(codes.copy(), y)


def _lookup(table: Float32, zero_point: int, codes: Float32) -> Float32:
    return table.take((codes + np.float32(zero_point)).astype(np.uint8))


def _pixels_looked_up(table: Float32, zero_point: int, codes: Float32) -> Float32:
    bytes_ = (codes + np.float32(zero_point)).astype(np.uint8)
    return np.stack([row.take(channel) for row, channel in zip(table, bytes_, strict=True)])


def _concat(steps: list[Step], *parts: Float32) -> Float32:
    return np.concatenate([step(part) for step, part in zip(steps, parts, strict=True)])


def _flat(codes: Float32) -> Float32:
    """``(C, N, H, W)`` to ``(C*H*W, N)``."""
    return codes.transpose(0, 2, 3, 1).reshape(-1, codes.shape[1])


# -- weighted layers -------------------------------------------------------------------------------


def accumulator_type(node: g.Conv | g.Linear, x: Tensor) -> type[np.float32] | type[np.float64]:
    """The narrower float type whose sums are exact for this layer, whatever the order.

    Every partial sum lies between the sum of the most negative and of the most positive products.
    """
    rows = node.weight.reshape(len(node.weight), -1).astype(np.int64)
    up, down = np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1)
    low, high = min(x.low, 0), max(x.high, 0)
    most = np.maximum(up * high - down * low, down * high - up * low)
    bound = int((most + np.abs(node.bias.astype(np.int64))).max(initial=0))
    if bound >= 2**31:
        raise Unsupported(
            f"Layer {node.name!r} can overflow a 32-bit accumulator (bound {bound}).",
            "Lower the weight or activation bits of that layer.",
        )
    return np.float32 if bound < 2**24 else np.float64


def _exact(array: NDArray[np.generic], kind: type[np.float32] | type[np.float64]) -> Exact:
    return array.astype(np.float32, copy=False) if kind is np.float32 else array.astype(np.float64)


def _matrix(node: g.Linear, x: Tensor) -> Exact:
    return _exact(node.weight, accumulator_type(node, x))


def _logits_scale(node: g.Linear, x: Tensor) -> Float32:
    return np.float32(x.scale) * node.weight_scale


def _linear(
    matrix: Exact,
    bias: NDArray[np.int32],
    scale: Float32,
    y: Tensor | None,
    codes: Float32,
) -> Float32:
    """Logits when there is no ``y`` to requantize to. ``codes (F, N)`` to ``(O, N)``."""
    total = matrix @ codes.astype(matrix.dtype, copy=False)
    total += bias[:, None].astype(matrix.dtype)
    result = total.astype(np.float32, copy=False)
    result *= scale[:, None]
    return result if y is None else arithmetic.clamp(np.rint(result, out=result), y)


def _conv_step(node: g.Conv, x: Tensor, y: Tensor) -> Step:
    kind = accumulator_type(node, x)
    depthwise = node.weight.shape[:2] == (node.groups, 1) and node.groups > 1
    weight, bias = _exact(node.weight, kind), _exact(node.bias, kind)[:, None, None, None]
    scale = arithmetic.multiplier(x.scale, node.weight_scale, scale_y=y.scale)[:, None, None, None]
    multiply = _depthwise if depthwise else _grouped

    def step(codes: Float32) -> Float32:
        total = multiply(node, weight, _exact(codes, kind))
        total += bias
        result = total.astype(np.float32, copy=False)
        result *= scale
        return arithmetic.clamp(np.rint(result, out=result), y)

    return step


def _grouped(node: g.Conv, weight: Exact, codes: Exact) -> Exact:
    """Accumulators ``(O, N, Ho, Wo)`` by one matrix product a group."""
    out_channels = len(weight)
    cols, area = columns(
        codes, weight.shape[2:], stride=node.stride, padding=node.padding, dilation=node.dilation
    )
    cols = cols.reshape(node.groups, -1, cols.shape[-1])
    total: Exact = np.matmul(weight.reshape(node.groups, out_channels // node.groups, -1), cols)
    return total.reshape(out_channels, codes.shape[1], *area)


def _depthwise(node: g.Conv, weight: Exact, codes: Exact) -> Exact:
    """Accumulators of one filter a channel, tap by tap."""
    views = taps(
        padded(codes, node.padding, fill=0), weight.shape[2:],
        stride=node.stride, dilation=node.dilation,
    )  # fmt: skip
    weights = weight.reshape(len(weight), -1).T[:, :, None, None, None]
    total: Exact = views[0] * weights[0]
    for view, factor in zip(views[1:], weights[1:], strict=True):
        total += view * factor
    return total


# -- additions -----------------------------------------------------------------------------------


def _add_step(a: Tensor, b: Tensor, y: Tensor, rounding: AddRounding) -> Step:
    if a.scale == b.scale == y.scale:
        return lambda left, right: arithmetic.clamp(left + right, y)
    table = arithmetic.sum_table(a, b, y=y, rounding=rounding).reshape(-1)
    offset = np.float32(256 * a.zero_point + b.zero_point)
    return lambda left, right: table.take((left * np.float32(256) + right + offset).astype(np.intp))
