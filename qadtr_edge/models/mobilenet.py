"""MobileNetV2 (Sandler et al. 2018, table 2), in its 224-pixel and a 32-pixel form.

Names follow torchvision (``features.0.0`` ... ``classifier.1``), so that its weights load key by
key. The 32-pixel form drops the first and second reduction, as public CIFAR variants do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PixelInput

_PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
         (6, 320, 1, 1))  # expansion, channels, repeats, stride  # fmt: skip


def _conv(
    inside: int, outside: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the sum is taken where shapes allow."""

    def __init__(self, inside: int, outside: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inside * expansion
        layers: list[nn.Module] = [_conv(inside, hidden, 1)] if expansion != 1 else []
        layers += [
            _conv(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        ]
        self.conv = nn.Sequential(*layers)
        self.is_residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """Pixels ``(N, 3, H, W)`` to logits ``(N, classes)``; ``image_px``, 32 or 224, sets strides."""

    def __init__(
        self, *, image_px: int = 32, classes: int = 10, pixel_input: PixelInput | None = None
    ) -> None:
        super().__init__()
        self.pixel_input = pixel_input or PixelInput()
        is_small = image_px < 96
        features: list[nn.Module] = [_conv(3, 32, 3, stride=1 if is_small else 2)]
        inside = 32
        for row, (expansion, outside, repeats, stride) in enumerate(_PLAN):
            for index in range(repeats):
                step = stride if index == 0 and not (is_small and row == 1) else 1
                features.append(InvertedResidual(inside, outside, stride=step, expansion=expansion))
                inside = outside
        features.append(_conv(inside, 1280, 1))
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.pool(self.features(self.pixel_input(pixels)))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def mobilenetv2(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """MobileNetV2 for 32-pixel images: 2.2 M parameters."""
    return MobileNetV2(image_px=32, classes=classes, pixel_input=pixel_input)


def mobilenetv2_imagenet(classes: int = 1000, pixel_input: PixelInput | None = None) -> nn.Module:
    """MobileNetV2 for 224-pixel images: 3.5 M parameters."""
    return MobileNetV2(image_px=224, classes=classes, pixel_input=pixel_input)
