"""ResNet for 32-pixel images (He et al. 2016, section 4.2): depth 6n + 2, option A shortcuts.

Names follow the public CIFAR checkpoints (``conv1``, ``layer1.0.conv1`` ... ``linear``), so that
their weights load key by key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PadChannels, PixelInput, Subsample


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut that has no parameters."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu2 = nn.ReLU()
        extra = outside - inside
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or extra:
            self.shortcut = nn.Sequential(
                Subsample(stride), PadChannels(extra // 2, extra - extra // 2)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        result: Tensor = self.relu2(y + self.shortcut(x))
        return result


class ResNet(nn.Module):
    """Pixels ``(N, 3, 32, 32)`` to logits ``(N, classes)``; any multiple of 4 works as side."""

    def __init__(
        self, depth: int, *, classes: int = 10, pixel_input: PixelInput | None = None
    ) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth {depth} is not 6n + 2")
        blocks = (depth - 2) // 6
        self.pixel_input = pixel_input or PixelInput()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inside: int, outside: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inside, outside, stride)
        return nn.Sequential(first, *(BasicBlock(outside, outside, 1) for _ in range(blocks - 1)))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(self.pixel_input(pixels))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.flatten(self.pool(x), 1))
        return logits


def resnet8(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-8: 75 k parameters."""
    return ResNet(8, classes=classes, pixel_input=pixel_input)


def resnet20(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-20: 0.27 M parameters."""
    return ResNet(20, classes=classes, pixel_input=pixel_input)


def resnet32(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-32: 0.46 M parameters."""
    return ResNet(32, classes=classes, pixel_input=pixel_input)


def resnet44(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-44: 0.66 M parameters."""
    return ResNet(44, classes=classes, pixel_input=pixel_input)


def resnet56(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-56: 0.85 M parameters."""
    return ResNet(56, classes=classes, pixel_input=pixel_input)
