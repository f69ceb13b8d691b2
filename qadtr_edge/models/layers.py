"""The few layers torch does not have: raw pixels in, and the parameter-free ResNet shortcut."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_CENTRE = 128
PIXEL_DIVISOR = 64
"""Our own models see ``(pixel - 128) / 64``: the raw byte is the first code, its scale 2**-6."""


class PixelInput(nn.Module):
    """``(pixel / 255 - mean) / std`` per channel, or ``(pixel - 128) / 64`` when none are given.

    Takes ``(N, 3, H, W)`` uint8 or float32 in 0..255; float input keeps its gradient.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> None:
        super().__init__()
        self.is_raw = mean is None
        mean = mean or (PIXEL_CENTRE / 255,) * 3
        std = std or (PIXEL_DIVISOR / 255,) * 3
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32)
        if self.is_raw:
            return (values - PIXEL_CENTRE) / PIXEL_DIVISOR
        return (values / 255 - self.mean) / self.std


class WithPixels(nn.Module):
    """A classifier of your own behind ``PixelInput``: what ``prepare`` takes.

    ``net`` maps normalised images to logits; its weights load under its own names.
    """

    def __init__(self, net: nn.Module, pixel_input: PixelInput) -> None:
        super().__init__()
        self.pixel_input = pixel_input
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(self.pixel_input(pixels))
        return logits


class Subsample(nn.Module):
    """Every ``stride``-th row and column."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


class PadChannels(nn.Module):
    """Zero channels before and after (ResNet option A, He et al. 2016, section 3.3)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, 0, self.before, self.after))
