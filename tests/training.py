"""A small network and images that it learns within seconds, for tests of training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qadtr_edge.data.dataset import Dataset
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.train import TrainOptions
from qadtr_edge.types import QuantSpec

OPTIONS = TrainOptions(epochs=3, float_epochs=3, batch=16, lr=0.1, crop_px=1)


class Small(nn.Module):
    """Two convolutions and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.relu = PixelInput(), nn.ReLU()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first_norm(self.first(self.pixels(x))))
        x = self.relu(self.second_norm(self.second(x)) + x)
        return self.head(self.flat(self.pool(x)))


def data(split: str, count: int = 48) -> Dataset:
    """Three classes, each brighter in one colour."""
    rng = np.random.default_rng(len(split))
    labels = rng.integers(0, 3, count)
    images = rng.integers(40, 140, (count, 3, 8, 8))
    images[np.arange(count), labels] += 60
    return Dataset(
        name="toy", split=split, images=images.astype(np.uint8), labels=labels.astype(np.int64),
        ids=np.arange(count), class_names=("r", "g", "b"), flip_allowed=True,
    )  # fmt: skip


def fresh(widths: tuple[int, ...] = (32, 4, 2)) -> QuantNet:
    torch.manual_seed(3)
    return prepare(Small(), QuantSpec(), widths=widths, classes=3, image_px=8)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
