"""Small networks that together hold every step a module can be traced to, made ready to run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.resnet import ResNet
from qadtr_edge.types import QuantSpec

SIZE_PX = 16


class Mixed(nn.Module):
    """SiLU, hard-swish, ReLU6, a gate, a concatenation, every pooling, grouped and depthwise."""

    def __init__(self, *, classes: int = 6) -> None:
        super().__init__()
        self.pixels = PixelInput()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.silu = nn.SiLU()
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.deep_norm = nn.BatchNorm2d(8)
        self.hard = nn.Hardswish()
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding=2, dilation=2, groups=2)
        self.relu6 = nn.ReLU6()
        self.halve = nn.AvgPool2d(3, 2, 1)
        self.most = nn.MaxPool2d(3, 2, 1)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.hidden = nn.Linear(8, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.silu(self.stem_norm(self.stem(self.pixels(x))))
        x = self.hard(self.deep_norm(self.deep(x)))
        y = torch.cat([self.relu6(self.grouped(x)), self.halve(x)], dim=1)
        y = self.narrow(torch.relu(y))
        y = y * torch.sigmoid(self.gate(y))
        y = self.most(y + self.most(x))
        y = torch.flatten(y.mean(dim=(2, 3), keepdim=True), 1)
        return self.head(torch.relu(self.hidden(y)))


def pixels(count: int, *, size: int = SIZE_PX, seed: int = 0) -> Tensor:
    """Smooth coloured noise, ``(count, 3, size, size) uint8``: what a camera gives, roughly."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 4, 4), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator) - 0.5
    return (255 * (smooth + 0.2 * noise).clamp(0, 1)).round().to(torch.uint8)


def lively(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """``model`` with batch norms as training leaves them: no two channels alike, some negative."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: Tensor | None, low: float, high: float) -> None:
        assert like is not None
        like.copy_(torch.rand(like.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                draw(module.weight, 0.5, 1.5)
                module.weight[::5] *= -1
                draw(module.bias, -0.5, 0.5)
                draw(module.running_mean, -0.3, 0.3)
                draw(module.running_var, 0.5, 2.0)
    return model.eval()


def ready(
    model: nn.Module, spec: QuantSpec | None = None, *, widths: tuple[int, ...] = (32, 8, 4, 2),
    classes: int = 6, size: int = SIZE_PX,
) -> QuantNet:  # fmt: skip
    """``model`` prepared and calibrated, in evaluation mode."""
    net = prepare(model, spec or QuantSpec(), widths=widths, classes=classes, image_px=size)
    calibrate(net, pixels(24, size=size, seed=1))
    return net.eval()


def mixed(seed: int = 0) -> nn.Module:
    """A ``Mixed`` with weights large enough that its gates open and close and 6 is reached."""
    torch.manual_seed(seed)
    model = Mixed()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        model.grouped.weight.mul_(3)
    return lively(model, seed=seed)


def small_resnet(seed: int = 0) -> nn.Module:
    """A ResNet-8 with weights of its own."""
    torch.manual_seed(seed)
    return lively(ResNet(8, classes=6), seed=seed)
