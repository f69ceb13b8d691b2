"""Fake quantization with straight-through gradients, differentiable twice.

``n = clip(round_half_even(v / s), low, high)``, value ``s * n``. Dividing by ``s`` (never
multiplying by 1/s) matches ONNX QuantizeLinear at ties. Backward: 1 inside the range, 0 outside
(straight-through estimator, Bengio et al. 2013), where a range that starts at 0 leaves out 0
itself, as ReLU does; the step learns as in LSQ (arXiv 1902.08153,
Eq. 3): ``n - v/s`` inside, ``low`` or ``high`` outside, times ``1 / sqrt(elements * high)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .codes import CodeRange

_REACH = 1 + 2.0**-20
"""The comparisons are strict, as ReLU's is at 0; this takes in an end of the range that float32
rounding may have pushed over: the weight that defines the scale, a code that comes in as one."""


class _FakeQuantize(torch.autograd.Function):
    """The rule above for any broadcastable ``scale``; backward is built of differentiable parts."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        value: Tensor,
        scale: Tensor,
        low: int,
        high: int,
        step_gradient: float,
        noise: float,
    ) -> Tensor:
        result = torch.div(value, scale).clamp_(low, high).round_().mul_(scale)
        ctx.save_for_backward(value, scale, result)
        ctx.low, ctx.high, ctx.step_gradient = low, high, step_gradient  # type: ignore[attr-defined]
        ctx.noise = noise  # type: ignore[attr-defined]
        return result

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        value, scale, result = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high = ctx.low, ctx.high  # type: ignore[attr-defined]
        reach = scale.detach() * _REACH
        gradient = _laid_out_as(value, gradient)
        if ctx.noise:  # type: ignore[attr-defined]
            gradient = gradient * (1 + ctx.noise * torch.randn_like(gradient))  # type: ignore[attr-defined]
        if scale.numel() == 1:  # one pass, where the comparison and the product would be four
            low, high = low * reach.item(), high * reach.item()
            inner = torch.ops.aten.hardtanh_backward(gradient, value, low, high)
        else:
            inner = gradient * ((value > low * reach) & (value < high * reach))
        grad_scale = None
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            # sum g (n - inside v/s) = sum g (s n) / s - sum_inside g v / s. The codes n are
            # constants to a second derivative, so their part is cut from the graph.
            coded, s = result.detach(), scale.detach()
            if scale.numel() == 1:
                slope = _dot(gradient, coded) / s - _dot(inner, value) / scale
            else:
                slope = (gradient * coded).sum_to_size(scale.shape) / s
                slope = slope - (inner * value).sum_to_size(scale.shape) / scale
            grad_scale = slope.view(scale.shape) * ctx.step_gradient  # type: ignore[attr-defined]
        return inner, grad_scale, None, None, None, None


def _laid_out_as(value: Tensor, gradient: Tensor) -> Tensor:
    """``gradient`` in the memory layout of ``value``: mixed ones make every step behind it slow."""
    if gradient.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last):
        return gradient.contiguous(memory_format=torch.channels_last)
    return gradient


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the elementwise product, 0-d; no copy where both share a dense memory layout."""
    if a.dim() == 4 and not a.is_contiguous() and a.stride() == b.stride():
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    # In half precision the difference of two such sums would be noise.
    return torch.dot(a.reshape(-1).float(), b.reshape(-1).float())


def fake_quantize(value: Tensor, scale: Tensor, *, codes: CodeRange, noise: float = 0.0) -> Tensor:
    """``value`` on the grid ``scale * [low..high]``; gradients reach ``value`` and ``scale``.

    With ``noise`` the gradient that comes back is multiplied by ``1 + noise * N(0, 1)`` first.

    ``value``: any shape float32; ``scale``: positive, broadcastable to it. NaN stays NaN.
    """
    elements = value.numel() / max(scale.numel(), 1)
    if value.dim() > 1 and scale.dim() == 0:  # activations: the batch size must not matter
        elements /= value.shape[0]
    step_gradient = float((elements * max(codes.high, 1)) ** -0.5)
    result: Tensor = _FakeQuantize.apply(value, scale, codes.low, codes.high, step_gradient, noise)  # type: ignore[no-untyped-call]
    return result


class _PowerOfTwo(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scale: Tensor) -> Tensor:
        return torch.exp2(torch.log2(scale).round())

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient


def power_of_two(scale: Tensor) -> Tensor:
    """The nearest power of two in the logarithm, straight-through in the backward pass."""
    result: Tensor = _PowerOfTwo.apply(scale)  # type: ignore[no-untyped-call]
    return result


class _RoundToGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, step: Tensor) -> Tensor:
        return torch.where(step > 0, (value / step).round() * step, value)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def round_to_grid(value: Tensor, step: Tensor) -> Tensor:
    """``value`` on whole multiples of ``step``, straight-through; unchanged where ``step`` is 0."""
    result: Tensor = _RoundToGrid.apply(value, step)  # type: ignore[no-untyped-call]
    return result
