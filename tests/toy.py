"""A toy world for attacks: pictures, a small net that learns them in a second, a NumPy engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qadtr_edge.data.dataset import Dataset
from qadtr_edge.types import EngineFacts, Pixels

CLASSES = ("north west", "north east", "south west", "south east")


def pictures(n: int, *, split: str, side: int = 16, seed: int = 0) -> Dataset:
    """Noise with one brighter quadrant, which is the class; ids of the splits do not meet."""
    first = {"craft": 0, "test": 10_000}[split]
    chance = np.random.default_rng([seed, first])
    labels = chance.integers(0, 4, n)
    images = chance.integers(0, 230, (n, 3, side, side))
    half = side // 2
    for image, label in zip(images, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[:, top : top + half, left : left + half] += 20
    return Dataset(
        "toy", split, images.astype(np.uint8), labels.astype(np.int64),
        np.arange(first, first + n), CLASSES, flip_allowed=False,
    )  # fmt: skip


def reordered(data: Dataset, order: np.ndarray) -> Dataset:
    return replace(data, images=data.images[order], labels=data.labels[order], ids=data.ids[order])


class Quadrants:
    """An engine that compares the brightness of the quadrants: right on nearly every picture.

    Counts the calls and the images it was shown. ``bias`` shifts the logits, so that two of them
    disagree now and then.
    """

    def __init__(self, *, bias: float = 0.0, digest: str = "quadrants") -> None:
        self.bias = np.array([0.0, 0.0, 0.0, bias])
        self.shown: list[int] = []
        self.facts = EngineFacts(
            engine="toy", runtime="numpy", bits=8, precision="integer", integer_kernels=1,
            float_layers=(), digest=digest, options={"intra_op_num_threads": 1},
            device={"machine": "any", "cores": 2},
        )  # fmt: skip

    def __call__(self, images: Pixels) -> np.ndarray:
        self.shown.append(len(images))
        half = images.shape[2] // 2
        blocks = images.reshape(len(images), 3, 2, half, 2, half).astype(np.float64)
        return (blocks.mean(axis=(1, 3, 5)).reshape(-1, 4) + self.bias).astype(np.float32)
