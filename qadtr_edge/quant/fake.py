"""Fake quantization with straight-through gradients, differentiable twice.

``n = clip(round_half_even(v / s), low, high)``, value ``s * n``. Dividing by ``s`` (never
multiplying by 1/s) matches ONNX QuantizeLinear at ties. Backward: 1 inside the range, 0 outside
(straight-through estimator, Bengio et al. 2013); the step learns as in LSQ (arXiv 1902.08153,
Eq. 3): ``n - v/s`` inside, ``low`` or ``high`` outside, times ``1 / sqrt(elements * high)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .codes import CodeRange


class _FakeQuantize(torch.autograd.Function):
    """Forward and LSQ backward in few passes; backward is built of differentiable operations."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: FunctionCtx, value: Tensor, scale: Tensor, low: int, high: int, step_gradient: float
    ) -> Tensor:
        codes = torch.div(value, scale).clamp_(low, high).round_()
        ctx.save_for_backward(value, scale)
        ctx.low, ctx.high, ctx.step_gradient = low, high, step_gradient  # type: ignore[attr-defined]
        return codes.mul_(scale)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        value, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high = ctx.low, ctx.high  # type: ignore[attr-defined]
        ratio = value / scale
        inside = (ratio >= low) & (ratio <= high)
        grad_value = gradient * inside if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        grad_scale = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            codes = ratio.clamp(low, high).round()
            slope = gradient * (codes - ratio * inside)
            grad_scale = slope.sum_to_size(scale.shape) * ctx.step_gradient  # type: ignore[attr-defined]
        return grad_value, grad_scale, None, None, None


def fake_quantize(value: Tensor, scale: Tensor, codes: CodeRange) -> Tensor:
    """``value`` on the grid ``scale * [low..high]``; gradients reach ``value`` and ``scale``.

    ``value``: any shape float32; ``scale``: positive, broadcastable to it. NaN stays NaN.
    """
    elements = value.numel() / max(scale.numel(), 1)
    if value.dim() == 4 and scale.numel() == 1:  # activations: the batch size must not matter
        elements /= value.shape[0]
    step_gradient = float((elements * max(codes.high, 1)) ** -0.5)
    result: Tensor = _FakeQuantize.apply(value, scale, codes.low, codes.high, step_gradient)
    return result


class _PowerOfTwo(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scale: Tensor) -> Tensor:  # type: ignore[override]
        return torch.exp2(torch.log2(scale).round())

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def power_of_two(scale: Tensor) -> Tensor:
    """The nearest power of two in the logarithm, straight-through in the backward pass."""
    result: Tensor = _PowerOfTwo.apply(scale)
    return result


class _RoundToGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, step: Tensor) -> Tensor:  # type: ignore[override]
        return torch.where(step > 0, (value / step).round() * step, value)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def round_to_grid(value: Tensor, step: Tensor) -> Tensor:
    """``value`` on whole multiples of ``step``, straight-through; unchanged where ``step`` is 0."""
    result: Tensor = _RoundToGrid.apply(value, step)
    return result
