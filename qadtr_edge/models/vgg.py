"""VGG with batch norm for 32-pixel images (Simonyan & Zisserman 2015, configurations A and D).

One linear layer on the 512 pooled features, as the public CIFAR variants have it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import PixelInput

_PLANS: dict[int, tuple[int, ...]] = {  # 0 is a 2x2 max pooling
    11: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}


class VGG(nn.Module):
    """``(N, 3, 32, 32)`` pixels to ``(N, classes)`` logits."""

    def __init__(
        self, depth: int, *, classes: int = 10, pixel_input: PixelInput | None = None
    ) -> None:
        super().__init__()
        self.pixel_input = pixel_input or PixelInput()
        layers: list[nn.Module] = []
        inside = 3
        for width in _PLANS[depth]:
            if width == 0:
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            inside = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inside, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.features(self.pixel_input(pixels))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def vgg11(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """VGG-11 with batch norm: 9.2 M parameters."""
    return VGG(11, classes=classes, pixel_input=pixel_input)


def vgg16(classes: int = 10, pixel_input: PixelInput | None = None) -> nn.Module:
    """VGG-16 with batch norm: 14.7 M parameters."""
    return VGG(16, classes=classes, pixel_input=pixel_input)
