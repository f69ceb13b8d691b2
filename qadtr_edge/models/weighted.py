"""A convolution or linear layer at several widths: one weight; a batch norm and scale per width."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..quant.codes import CodeRange
from ..quant.fake import fake_quantize, power_of_two, round_to_grid
from ..quant.ranges import scale_of
from ..types import FLOAT_BITS
from .steps import Step


class Folded(NamedTuple):
    """What an engine gets of a layer at one width (float64 until the graph rounds it).

    ``codes``: the weight's integer codes, any shape ``(O, ...)``; ``scale``: ``(O,)``;
    ``bias``: ``(O,)``, in real units. ``codes * scale`` is the weight with batch norm folded in.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor


def _key(bits: int) -> str:
    return f"w{bits}"


def _normalised(norm: nn.BatchNorm2d, y: Tensor) -> Tensor:
    result: Tensor = norm(y)
    return result


class WeightedLayer(nn.Module):
    """``conv`` or ``linear`` of a step, followed by the batch norm of the width being run.

    Batch norm folds into the *scale*, ``s'_c = s_c |gamma_c| / sqrt(var_c + eps)``, so the trained
    codes are the shipped codes. Under ``strict`` scales that product must itself be a power of two:
    there batch norm is folded into the weight before quantization and its statistics stay frozen.
    """

    def __init__(
        self,
        step: Step,
        *,
        widths: tuple[int, ...],
        weight_bits: dict[int, int],
        limits: dict[int, int],
        is_strict: bool,
    ) -> None:
        super().__init__()
        module = step.module
        assert isinstance(module, nn.Conv2d | nn.Linear)
        self.is_conv = isinstance(module, nn.Conv2d)
        self.is_strict = is_strict
        self.weight = nn.Parameter(module.weight.detach().clone())
        bias = module.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        if isinstance(module, nn.Conv2d):
            self.stride, self.padding = module.stride, module.padding
            self.dilation, self.groups = module.dilation, module.groups
        self.weight_bits = weight_bits
        self.limits = limits
        self.norms = nn.ModuleDict()
        self.scales = nn.ParameterDict()
        self.shifts = nn.ParameterDict()  # what bias correction added, where there is no norm
        for bits in widths:
            if step.norm is not None:
                norm = nn.BatchNorm2d(step.norm.num_features, eps=step.norm.eps)
                norm.load_state_dict(step.norm.state_dict())
                self.norms[_key(bits)] = norm
            if bits != FLOAT_BITS and self._is_learned(bits):
                self.scales[_key(bits)] = nn.Parameter(torch.ones(self.weight.shape[0]))

    def _is_learned(self, bits: int) -> bool:
        """Below 8 bits the step is learned; at 8 bits it is the largest weight of the channel."""
        return self.weight_bits[bits] < 8

    def _norm(self, bits: int) -> nn.BatchNorm2d | None:
        """The batch norm of a width; the float pass of a network without width 32 borrows one."""
        if not len(self.norms):
            return None
        key = _key(bits) if _key(bits) in self.norms else next(iter(self.norms))
        norm = self.norms[key]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm

    def _gain(self, bits: int) -> tuple[Tensor, Tensor]:
        """Batch norm in evaluation as ``y * gain + shift``, ``(O,)`` each."""
        norm = self._norm(bits)
        bias = self.weight.new_zeros(self.weight.shape[0]) if self.bias is None else self.bias
        if norm is None:
            shift = bias + self.shifts[_key(bits)] if _key(bits) in self.shifts else bias
            return torch.ones_like(bias), shift
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return gain, norm.bias + (bias - norm.running_mean) * gain

    def _master(self, bits: int) -> Tensor:
        """The weight that is quantized: under ``strict`` with batch norm folded in."""
        if not self.is_strict or bits == FLOAT_BITS:
            return self.weight
        return self.weight * self._columns(self._gain(bits)[0])

    def _columns(self, per_channel: Tensor) -> Tensor:
        return per_channel.view(-1, *([1] * (self.weight.dim() - 1)))

    def _scale(self, bits: int, master: Tensor) -> Tensor:
        """The quantization step of each output channel, ``(O,)``."""
        if self._is_learned(bits):
            scale = self.scales[_key(bits)].abs().clamp_min(1e-8)
            return power_of_two(scale) if self.is_strict else scale
        with torch.no_grad():
            largest = master.detach().flatten(1).abs().amax(dim=1).clamp_min(1e-8)
            scale = largest / self.limits[bits]
            return torch.exp2(torch.log2(scale).ceil()) if self.is_strict else scale

    def calibrate(self, bits: int) -> None:
        """Set the learned step of a width by least squares over a grid (nothing at 8 bits)."""
        if self._is_learned(bits):
            limit = self.limits[bits]
            with torch.no_grad():
                rows = self._master(bits).detach().flatten(1)
                self.scales[_key(bits)].copy_(
                    scale_of(rows, CodeRange(-limit, limit), method="mse")
                )

    @torch.no_grad()
    def shift_output(self, bits: int, shift: Tensor) -> None:
        """Add ``shift``, ``(O,)``, to the layer's output at ``bits``; other widths keep theirs."""
        norm = self._norm(bits)
        if norm is not None:
            norm.bias.add_(shift)
        elif _key(bits) in self.shifts:
            self.shifts[_key(bits)].add_(shift)
        else:
            self.shifts[_key(bits)] = nn.Parameter(shift.clone())

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.is_conv:
            return functional.conv2d(
                x, weight, bias, self.stride, self.padding, self.dilation, self.groups
            )
        return functional.linear(x, weight, bias)

    def forward(
        self, x: Tensor, bits: int, *, x_scale: Tensor | None = None, noise: float = 0.0
    ) -> Tensor:
        """``x`` through the layer and its batch norm at ``bits`` (training mode: batch statistics).

        Where the fold that ships is used, the bias is rounded to the grid ``x_scale * s'_c`` the
        integers hold it on: at 4 bits that grid is coarse enough to move a tenth of the codes.
        ``noise``: of the gradient that comes back through the weight's quantizer.
        """
        norm = self._norm(bits)
        if bits == FLOAT_BITS:
            y = self._apply_weight(x, self.weight, self.bias)
            return y if norm is None else _normalised(norm, y)
        master = self._master(bits)
        limit = self.limits[bits]
        scale = self._columns(self._scale(bits, master))
        weight = fake_quantize(master, scale, codes=CodeRange(-limit, limit), noise=noise)
        if norm is not None and self.training and not self.is_strict:
            return _normalised(norm, self._apply_weight(x, weight, self.bias))
        gain, shift = self._gain(bits)
        step = scale.flatten()
        if not self.is_strict:
            weight, step = weight * self._columns(gain), step * gain.abs()
        if x_scale is not None:
            shift = round_to_grid(shift, (x_scale * step).detach())
        return self._apply_weight(x, weight, shift)

    @torch.no_grad()
    def folded(self, bits: int) -> Folded:
        """Integer codes, per-channel scale and bias of this layer as it ships at ``bits``."""
        master = self._master(bits)
        scale = self._scale(bits, master)
        limit = self.limits[bits]
        codes = (master / self._columns(scale)).clamp(-limit, limit).round().double()
        gain, shift = (part.double() for part in self._gain(bits))
        if self.is_strict:
            return Folded(codes, scale.double(), shift)
        sign = torch.where(gain < 0, -1.0, 1.0).double()
        return Folded(codes * self._columns(sign), scale.double() * gain.abs(), shift)

    @torch.no_grad()
    def folded_float(self) -> tuple[Tensor, Tensor]:
        """Float weight and bias with the float batch norm folded in."""
        gain, shift = self._gain(FLOAT_BITS)
        return self.weight * self._columns(gain), shift
