"""ResNet for 224-pixel images (He et al. 2016, table 1), stride in the 3x3 convolution (v1.5).

Names follow torchvision's checkpoints (``conv1``, ``layer1.0.conv1`` ... ``fc``), so that their
weights load key by key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PixelInput


def _conv(inside: int, outside: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False)


class _Block(nn.Module):
    """What the two kinds share: a shortcut, projected where the shape changes."""

    expansion = 1

    def __init__(self, inside: int, outside: int, *, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                _conv(inside, outside, 1, stride=stride), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.branch(x) + self.downsample(x))
        return y

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def __init__(self, inside: int, width: int, *, stride: int) -> None:
        super().__init__(inside, width, stride=stride)
        self.conv1, self.bn1 = _conv(inside, width, 3, stride=stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return y


class Bottleneck(_Block):
    """1x1, 3x3, 1x1 convolutions; the last four times as wide."""

    expansion = 4

    def __init__(self, inside: int, width: int, *, stride: int) -> None:
        super().__init__(inside, 4 * width, stride=stride)
        self.conv1, self.bn1 = _conv(inside, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride=stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)

    def branch(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return y  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Pixels ``(N, 3, H, W)`` to logits ``(N, classes)``."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: tuple[int, int, int, int], *,
        classes: int, pixel_input: PixelInput | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pixel_input = pixel_input or PixelInput()
        self.conv1, self.bn1 = _conv(3, 64, 7, stride=2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inside = 64
        for stage, depth in enumerate(depths):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(block(inside, 64 << stage, stride=stride))
                inside = (64 << stage) * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inside, classes)
        self.stages = [getattr(self, f"layer{stage + 1}") for stage in range(len(depths))]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.pixel_input(pixels)))))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def resnet18(classes: int = 1000, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-18: 11.7 M parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes, pixel_input=pixel_input)


def resnet34(classes: int = 1000, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-34: 21.8 M parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), classes=classes, pixel_input=pixel_input)


def resnet50(classes: int = 1000, pixel_input: PixelInput | None = None) -> nn.Module:
    """ResNet-50: 25.6 M parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, pixel_input=pixel_input)
