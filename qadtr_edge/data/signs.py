"""``signs``: procedural traffic signs, 32 x 32 pixels, 12 classes; nothing to download.

Made so that a small network ends between 95 and 99 %: some classes differ only in a pictogram a
few pixels wide. An image is a pure function of its id, and each split owns a range of ids, so
neither a limit nor the batch it is made in changes an image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..streams import uniform
from ..types import Labels
from .dataset import Dataset, checked_limit, checked_split, require_size
from .sign_faces import FACES
from .sign_scenes import SIZE_PX, photographs

NAME = "signs"
SIZES = {"train": 20_000, "calibration": 1_000, "craft": 4_000, "test": 4_000}
FIRST_ID = {"train": 0, "calibration": 1_000_000, "craft": 2_000_000, "test": 3_000_000}
CLASS_NAMES = tuple(face.name for face in FACES)
_CHUNK = 64  # images drawn together: small enough that the arrays stay in the CPU's cache


def load(
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """One split, generated in memory; ``root`` is not used.

    Of every 12 consecutive images each class has one, so any limit is balanced. Signs are never
    flipped: a mirrored arrow is another class.
    """
    require_size(NAME, size_px=SIZE_PX, image_size=image_size)
    whole = SIZES[checked_split(split)]
    count = min(checked_limit(limit) or whole, whole)
    ids = FIRST_ID[split] + np.arange(count, dtype=np.int64)
    labels = _labels(split, count)
    images = np.empty((count, 3, SIZE_PX, SIZE_PX), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = photographs(ids[part], labels[part])
    return Dataset(NAME, split, images, labels, ids, CLASS_NAMES, flip_allowed=False)


def _labels(split: str, count: int) -> Labels:
    """Block b of K images holds the K classes in an order drawn from b alone."""
    classes = len(CLASS_NAMES)
    blocks: NDArray[np.int64] = np.arange(-(-count // classes), dtype=np.int64)
    order = uniform(0, f"signs/order/{split}", indices=blocks, draws=classes)
    return np.argsort(order, axis=1, kind="stable").reshape(-1)[:count].astype(np.int64)
