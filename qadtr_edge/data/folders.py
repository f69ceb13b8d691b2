"""A folder of the user's own images as a data set; ``listing`` says how it is laid out.

An image's id and its split come from a hash of its file name, so adding images moves no other.
Images are never flipped in training: nothing says that a mirrored one keeps its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..streams import key
from ..types import Labels
from .dataset import Dataset, require_images
from .listing import Entry, listed
from .pictures import read_pictures
from .shares import assign

_ID_BITS = 53  # an id survives JSON, where numbers are doubles


def load(root: Path, split: str, *, limit: int | None, image_size: int | None) -> Dataset:
    """One split of the folder, in the order of the files' hashes; decodes only what it returns.

    ``image_size`` as in ``read_pictures``. Raises ``BadInput`` when the folder holds no image of
    the split, or an image that cannot be read.
    """
    entries = listed(root)
    labels, names = numbered(entries)
    return assembled(
        root, split, entries=entries, labels=labels, class_names=names,
        name=root.resolve().name, limit=limit, image_size=image_size, flip_allowed=False,
    )  # fmt: skip


def assembled(
    root: Path,
    split: str,
    *,
    entries: Sequence[Entry],
    labels: Labels,
    class_names: tuple[str, ...],
    name: str,
    limit: int | None,
    image_size: int | None,
    flip_allowed: bool,
) -> Dataset:
    """The data set made of the entries that fall into ``split``."""
    ids, splits = placed(entries)
    order = np.argsort(ids, kind="stable")
    chosen = order[splits[order] == split][:limit]
    require_images(
        str(root), split, count=len(chosen),
        remedy="Add images, or sort them into folders train, val and test.",
    )  # fmt: skip
    files = tuple(entries[index].file for index in chosen)
    images = read_pictures([root / file for file in files], image_size=image_size)
    return Dataset(
        name, split, images, labels[chosen], ids[chosen], class_names, flip_allowed, files
    )


def placed(entries: Sequence[Entry]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Id and split of every entry."""
    hashes = [key(0, "file", entry.file) >> (64 - _ID_BITS) for entry in entries]
    ids = np.array(hashes, dtype=np.int64)
    return ids, assign((entry.part for entry in entries), ids / 2.0**_ID_BITS)


def numbered(entries: Sequence[Entry]) -> tuple[Labels, tuple[str, ...]]:
    """Class number of every entry and the name of every class.

    Class names are numbered in sorted order; class numbers are kept, and a number that no entry
    has is its own name.
    """
    if isinstance(entries[0].label, str):
        names = sorted({str(entry.label) for entry in entries})
        number = {name: index for index, name in enumerate(names)}
        return np.array([number[str(e.label)] for e in entries], dtype=np.int64), tuple(names)
    labels = np.array([entry.label for entry in entries], dtype=np.int64)
    named = {int(entry.label): entry.class_name for entry in entries}
    highest = int(labels.max())
    if highest > 100_000:
        raise BadInput(f"The label {highest} is no class number.", "Number the classes from 0.")
    return labels, tuple(named.get(index, str(index)) for index in range(highest + 1))
