"""The judge's torch twin: the same integers forward, straight-through gradients backward.

Used where gradients or torch's speed are wanted: white-box attacks craft on it, so the forward
pass of an attack is exactly the deployed arithmetic and only the backward pass is approximate
(BPDA, Athalye et al. 2018). Its logits equal the judge's bit for bit.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from . import arithmetic
from . import graph as g
from .judge import accumulator_type
from .pooling import covers

Backward = Literal["clipped", "identity", "autograd"]
"""``clipped``: no gradient through a saturated code; ``identity``: all of it, as if unclamped;
``autograd``: what torch itself has for a rounding, which is zero: nothing is straight-through."""


class _Replace(torch.autograd.Function):
    """Forward: the integers ``hard``. Backward: as if the result had been ``soft``."""

    @staticmethod
    def forward(ctx: FunctionCtx, soft: Tensor, hard: Tensor, low: float, high: float) -> Tensor:
        above = soft > low if low == 0 else soft >= low  # a ReLU is flat at 0
        ctx.save_for_backward(above & (soft <= high))
        return hard

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * inside, None, None, None


class Twin(nn.Module):
    """Pixels ``(N, 3, H, W)``, uint8 or float32 in 0..255, to logits ``(N, K) float32``.

    Float pixels are rounded to bytes first, straight-through, so what is judged is what a byte
    image would give. Holds no trainable parameter.
    """

    def __init__(self, graph: g.IntegerGraph, *, backward: Backward = "clipped") -> None:
        super().__init__()
        self.graph = graph
        self.backward_rule = backward
        self.classes = graph.classes
        last = {name: node.y for node in graph.nodes for name in g.inputs_of(node)}
        self._spent = {
            node.y: [name for name in last if last[name] == node.y] for node in graph.nodes
        }
        self._constants: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for node in graph.nodes:
            if isinstance(node, g.Conv | g.Linear):
                self._constants[node.name] = self._weighted_constants(node)

    def _weighted_constants(self, node: g.Conv | g.Linear) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and bias in a format whose sums are exact, and the float32 multiplier."""
        x = self.graph.tensors[node.x]
        exact = torch.float32 if accumulator_type(node, x) is np.float32 else torch.float64
        if node.y == self.graph.logits:
            scale = np.float32(x.scale) * node.weight_scale
        else:
            y = self.graph.tensors[node.y]
            scale = arithmetic.multiplier(x.scale, node.weight_scale, scale_y=y.scale)
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return weight.to(exact), bias.to(exact), torch.from_numpy(scale)

    def forward(self, pixels: Tensor) -> Tensor:
        zero = self.graph.tensors[self.graph.input].zero_point
        low, high = -zero, 255 - zero
        values = pixels.to(torch.float32) - zero
        codes = self._rounded(values, torch.round(values.detach()).clamp(low, high), low, high)
        tensors = {self.graph.input: codes}
        for node in self.graph.nodes:
            inputs = [tensors[name] for name in g.inputs_of(node)]
            tensors[node.y] = self._execute(node, inputs)
            for name in self._spent[node.y]:
                del tensors[name]
        return tensors[self.graph.logits]

    def _rounded(self, soft: Tensor, hard: Tensor, low: float, high: float) -> Tensor:
        if not soft.requires_grad:
            return hard
        if self.backward_rule == "autograd":
            return hard + 0.0 * soft.round()
        if self.backward_rule == "identity":
            low, high = -torch.inf, torch.inf
        result: Tensor = _Replace.apply(soft, hard, low, high)  # type: ignore[no-untyped-call]
        return result

    def _clamped(self, soft: Tensor, y: g.Tensor) -> Tensor:
        """Round half to even and clamp to the codes of ``y``."""
        return self._rounded(soft, soft.detach().round().clamp_(y.low, y.high), y.low, y.high)

    def _execute(self, node: g.Node, inputs: list[Tensor]) -> Tensor:
        tensors, x = self.graph.tensors, inputs[0]
        match node:
            case g.Conv():
                return self._clamped(self._convolved(node, x), tensors[node.y])
            case g.Linear():
                weight, bias, scale = self._constants[node.name]
                total = functional.linear(x.to(weight.dtype), weight) + bias
                result = total.to(torch.float32) * scale
                is_last = node.y == self.graph.logits
                return result if is_last else self._clamped(result, tensors[node.y])
            case g.Add():
                return self._sum(node, x, inputs[1])
            case g.Mul():
                return self._product(node, x, inputs[1])
            case g.Sigmoid():
                source, y = tensors[node.x], tensors[node.y]
                soft = torch.sigmoid(x * source.scale) / y.scale
                return self._looked_up(arithmetic.sigmoid_table(source, y), x, soft, node)
            case g.Requantize():
                source, y = tensors[node.x], tensors[node.y]
                soft = x if source.scale == y.scale else x * (source.scale / y.scale)
                return self._looked_up(arithmetic.requantize_table(source, y), x, soft, node)
            case g.AddConstant():
                source, y = tensors[node.x], tensors[node.y]
                constant = arithmetic.constant_tensor(node.code, node.scale)
                table = arithmetic.sum_table(source, constant, y=y, rounding="x86")
                soft = (x * source.scale + node.code * node.scale) / y.scale
                return self._looked_up(table[:, node.code + constant.zero_point], x, soft, node)
            case g.Concat():
                parts = []
                for name, part in zip(node.xs, inputs, strict=True):
                    source, y = tensors[name], tensors[node.y]
                    table = arithmetic.requantize_table(source, y)
                    soft = part * (source.scale / y.scale)
                    parts.append(self._looked_up(table, part, soft, g.Requantize("", name, node.y)))
                return torch.cat(parts, dim=1)
            case g.MaxPool():
                top, left, bottom, right = node.padding
                padded = functional.pad(x, (left, right, top, bottom), value=-torch.inf)
                return self._limited(functional.max_pool2d(padded, node.kernel, node.stride), node)
            case g.AveragePool() if not covers(node, tensors[node.x]):
                return self._averaged(node, x)
            case g.AveragePool() | g.GlobalAveragePool():
                count = x.shape[2] * x.shape[3]
                factor = float(
                    arithmetic.pooled_multiplier(tensors[node.x], tensors[node.y], count=count)
                )
                return self._clamped(x.sum(dim=(2, 3), keepdim=True) * factor, tensors[node.y])
            case g.Subsample():
                return self._limited(x[:, :, :: node.stride[0], :: node.stride[1]], node)
            case g.PadChannels():
                pad = (0, 0, 0, 0, node.before, node.after)
                return self._limited(functional.pad(x, pad), node)
            case g.Flatten():
                return self._limited(torch.flatten(x, 1), node)
            case g.Rescale():
                return self._limited(x, node)
            case g.PixelTable():
                return self._pixels_looked_up(node, x)
            case g.Dequantize():
                return x * tensors[node.x].scale

    def _pixels_looked_up(self, node: g.PixelTable, x: Tensor) -> Tensor:
        """The table forward; backward the straight line through the first and last code of it."""
        y = self.graph.tensors[node.y]
        table = torch.from_numpy(node.table.astype(np.float32))
        bytes_ = (x + self.graph.tensors[node.x].zero_point).to(torch.float32)
        slope = ((table[:, -1] - table[:, 0]) / 255).view(1, 3, 1, 1)
        soft = bytes_ * slope + table[:, 0].view(1, 3, 1, 1)
        rows = torch.arange(3, device=x.device).view(1, 3, 1, 1)
        return self._rounded(soft, table[rows, bytes_.detach().to(torch.int64)], y.low, y.high)

    def _limited(self, codes: Tensor, node: g.Node) -> Tensor:
        """Codes that only moved, clamped where the output's range is narrower."""
        y = self.graph.tensors[node.y]
        x = self.graph.tensors[g.inputs_of(node)[0]]
        if (x.low, x.high) == (y.low, y.high):
            return codes
        return self._rounded(codes, codes.detach().clamp(y.low, y.high), y.low, y.high)

    def _convolved(self, node: g.Conv, x: Tensor) -> Tensor:
        weight, bias, scale = self._constants[node.name]
        top, left, bottom, right = node.padding
        padding: tuple[int, int] = (top, left)
        if (top, left) != (bottom, right):
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        total = functional.conv2d(
            x.to(weight.dtype), weight, None, node.stride, padding, node.dilation, node.groups
        )
        total = total + bias.view(1, -1, 1, 1)
        return total.to(torch.float32) * scale.view(1, -1, 1, 1)

    def _looked_up(self, table: g.Float32, codes: Tensor, soft: Tensor, node: g.Node) -> Tensor:
        source = self.graph.tensors[g.inputs_of(node)[0]]
        y = self.graph.tensors[node.y]
        entries = torch.from_numpy(np.ascontiguousarray(table))
        hard = entries[(codes.detach() + source.zero_point).to(torch.int64)]
        return self._rounded(soft, hard, y.low, y.high)

    def _sum(self, node: g.Add, left: Tensor, right: Tensor) -> Tensor:
        a, b, y = (self.graph.tensors[name] for name in (node.a, node.b, node.y))
        if a.scale == b.scale == y.scale:
            return self._clamped(left + right, y)
        table = torch.from_numpy(arithmetic.sum_table(a, b, y=y, rounding="x86"))
        rows = (left.detach() + a.zero_point).to(torch.int64)
        columns = (right.detach() + b.zero_point).to(torch.int64)
        soft = left * (a.scale / y.scale) + right * (b.scale / y.scale)
        return self._rounded(soft, table[rows, columns], y.low, y.high)

    def _product(self, node: g.Mul, left: Tensor, right: Tensor) -> Tensor:
        a, b, y = (self.graph.tensors[name] for name in (node.a, node.b, node.y))
        factor = float(arithmetic.multiplier(a.scale, np.float32(b.scale), scale_y=y.scale))
        hard = arithmetic.product(left.detach().numpy(), right.detach().numpy(), x_a=a, x_b=b, y=y)
        return self._rounded((left * right) * factor, torch.from_numpy(hard), y.low, y.high)

    def _averaged(self, node: g.AveragePool, x: Tensor) -> Tensor:
        """float32 in window order, as the judge and onnxruntime add."""
        source, y = self.graph.tensors[node.x], self.graph.tensors[node.y]
        top, left, bottom, right = node.padding
        pad = partial(functional.pad, pad=(left, right, top, bottom))
        values = pad(x * source.scale)
        inside = pad(torch.ones_like(x[:1, :1]))
        rows, columns = node.stride
        height = (values.shape[2] - node.kernel[0]) // rows + 1
        width = (values.shape[3] - node.kernel[1]) // columns + 1
        total = count = torch.zeros(())
        for i in range(node.kernel[0]):
            for j in range(node.kernel[1]):
                window = (
                    ...,
                    slice(i, i + rows * height, rows),
                    slice(j, j + columns * width, columns),
                )
                total = total + values[window][..., :height, :width]
                count = count + inside[window][..., :height, :width]
        if node.count_include_pad:
            count = torch.tensor(float(node.kernel[0] * node.kernel[1]))
        zero = float(y.zero_point)
        soft = total / count / y.scale + zero
        hard = (soft.detach().round() - zero).clamp(y.low, y.high)
        return self._rounded(soft - zero, hard, y.low, y.high)
