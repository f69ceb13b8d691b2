"""``cifar10``: CIFAR-10 (Krizhevsky 2009), 32 x 32 pixels, 10 classes.

``test`` is the official test set. The official train set is shuffled once, by a hash of the
official position, and cut: 1,000 images for calibration, 5,000 for crafting patches, the rest for
training. The cut is made over all 50,000 positions, so an image keeps its split however many
others are absent. Ids are official positions: 0 to 49,999 train, 50,000 to 59,999 test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..streams import uniform
from .cifar10_files import BINARY, Found, Half, find, read
from .dataset import (
    Dataset,
    cache_root,
    checked_limit,
    checked_split,
    data_root,
    require_images,
    require_size,
)
from .download import fetch, md5_of

NAME = "cifar10"
CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FIRST_TEST_ID = 50_000
_TEST = 10_000
URL = f"https://www.cs.toronto.edu/~kriz/{BINARY.file}"
_CALIBRATION, _CRAFT = 1_000, 5_000


def load(
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """One split, shuffled by a fixed hash: the first ``limit`` images are a random sample.

    ``root`` (else ``QADTR_DATA``, else the user's cache) holds the files or a folder ``cifar10``
    with them; ``cifar10_files`` lists the layouts. Raises ``BadInput`` when they are missing or
    damaged.
    """
    require_size(NAME, size_px=32, image_size=image_size)
    half: Half = "test" if checked_split(split) == "test" else "train"
    found = locate(root)
    if found is None:
        raise BadInput(
            f"CIFAR-10 is not in {data_root(root) or cache_root()}.",
            "Get it: `qadtr-edge data cifar10`, or name the folder that has it with --data-root.",
        )
    images, labels, positions = read(found, half)
    row = np.full(FIRST_TEST_ID, -1)
    row[positions] = np.arange(len(positions))
    wanted = split_positions(split)
    rows = row[wanted]
    chosen = wanted[rows >= 0][: checked_limit(limit)]
    rows = row[chosen]
    require_images(NAME, split, count=len(rows), remedy="Get all of it: `qadtr-edge data cifar10`.")
    ids = chosen + (FIRST_TEST_ID if half == "test" else 0)
    return Dataset(NAME, split, images[rows], labels[rows], ids, CLASS_NAMES, flip_allowed=True)


def locate(root: str | Path | None) -> Found | None:
    """Where CIFAR-10 is found, or ``None``."""
    return find(data_root(root) or cache_root())


def obtain(root: str | Path | None, *, progress: Callable[[int], None], url: str = URL) -> Found:
    """CIFAR-10 on this disk, downloaded from ``url`` if it was not there, and checked.

    An archive is compared with the published MD5; whatever was found is read from end to end.
    ``progress`` is told the bytes that arrive. Raises ``BadInput`` when a check fails.
    """
    found = locate(root)
    if found is None:
        path = (data_root(root) or cache_root()) / NAME / BINARY.file
        fetch(url, path, size_bytes=BINARY.size_bytes, md5=BINARY.md5, progress=progress)
        found = Found("archive", path, BINARY)
    if found.layout == "archive" and found.official is not None:
        md5 = md5_of(found.path)
        if md5 != found.official.md5:
            raise BadInput(
                f"{found.path} has {found.path.stat().st_size:,} bytes and MD5 {md5}; the official "
                f"archive has {found.official.size_bytes:,} and {found.official.md5}.",
                "Delete it and run the same command again.",
            )
    read(found, "train")
    read(found, "test")
    return found


def split_positions(split: str) -> NDArray[np.int64]:
    """Positions of a split within its official half, in the order of their hash."""
    if split == "test":
        return _shuffled(FIRST_TEST_ID, _TEST)
    order = _shuffled(0, FIRST_TEST_ID)
    cuts = {
        "calibration": order[:_CALIBRATION],
        "craft": order[_CALIBRATION : _CALIBRATION + _CRAFT],
        "train": order[_CALIBRATION + _CRAFT :],
    }
    return cuts[split]


def _shuffled(first: int, count: int) -> NDArray[np.int64]:
    indices = np.arange(first, first + count, dtype=np.int64)
    drawn = uniform(0, "cifar10/split", indices=indices, draws=1)[:, 0]
    return np.argsort(drawn, kind="stable").astype(np.int64)
