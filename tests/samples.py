"""ImageNet samples as the figures of the files that others made were measured on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def imagenet(folder: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels ``(N, 3, size, size) uint8`` and labels; rounded otherwise than our own data set."""
    with (folder / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    there = {path.name: path for path in folder.rglob("*") if path.is_file()}
    images = np.stack([_fitted(there[row["file"]], size) for row in rows])
    return images, np.array([int(row["class_index"]) for row in rows])


def _fitted(path: Path, size: int) -> NDArray[np.uint8]:
    """Shorter side to size / 0.875, bilinear, centre cut, both rounded: ``(3, size, size)``."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = round(size / 0.875) / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
