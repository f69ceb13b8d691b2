"""SqueezeNet 1.1 (Iandola et al. 2016) for 224-pixel images, under torchvision's names.

It ends in a convolution and a mean, not in a linear layer. Pooling needs no rounding up at 224
pixels, where torchvision asks for it without effect.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PixelInput

_PLAN = (  # squeeze, expand channels of each Fire; 0: a max pooling before the next
    (16, 64), (16, 64), (0, 0), (32, 128), (32, 128), (0, 0), (48, 192), (48, 192), (64, 256),
    (64, 256),
)  # fmt: skip


class Fire(nn.Module):
    """A 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inside: int, squeeze: int, *, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        parts = [
            self.expand1x1_activation(self.expand1x1(x)),
            self.expand3x3_activation(self.expand3x3(x)),
        ]
        return torch.cat(parts, 1)


class SqueezeNet(nn.Module):
    """Pixels ``(N, 3, H, W)`` to logits ``(N, classes)``."""

    def __init__(self, *, classes: int, pixel_input: PixelInput | None) -> None:
        super().__init__()
        self.pixel_input = pixel_input or PixelInput()
        features: list[nn.Module] = [
            nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)
        ]  # fmt: skip
        inside = 64
        for squeeze, expand in _PLAN:
            if squeeze:
                features.append(Fire(inside, squeeze, expand=expand))
                inside = 2 * expand
            else:
                features.append(nn.MaxPool2d(3, stride=2))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(inside, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.features(self.pixel_input(pixels))
        return torch.flatten(self.classifier(x), 1)


def squeezenet1_1(classes: int = 1000, pixel_input: PixelInput | None = None) -> nn.Module:
    """SqueezeNet 1.1: 1.2 M parameters."""
    return SqueezeNet(classes=classes, pixel_input=pixel_input)
