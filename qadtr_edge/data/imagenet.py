"""``imagenet``: ILSVRC-2012 from the user's disk (Russakovsky et al. 2015), 1,000 classes.

The folder holds ``train`` and ``val`` with one folder per class (``n01440764``), or class folders
alone, or ``labels.csv`` with the official ``class_index``. When fewer than all 1,000 class folders
are there, ``imagenet_classes.csv`` (columns class_index, wnid, class_name), in the folder or the
one above, says which class is which.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..types import Labels
from .dataset import Dataset, cache_root, checked_split, data_root
from .folders import assembled
from .listing import TABLE, Entry, listed
from .shares import WHOLE

NAME = "imagenet"
CLASSES = 1000
SIZE_PX = 224
_TABLE = "imagenet_classes.csv"
_PARTS = ("train", "val", "test")
_REMEDY = (
    "Name with --data-root a folder that holds train and val, class folders such as n01440764, "
    "or labels.csv."
)


@dataclass(frozen=True)
class Class:
    """One official class."""

    index: int
    wnid: str
    name: str


def load(
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """One split, scaled to ``image_size`` (224 without) as ``read_pictures`` says.

    ``shares`` says how the images are cut; a folder that names no part is taken as held out, as
    if it were ``val``. Raises ``BadInput`` when there is no folder or its classes are unclear.
    """
    checked_split(split)
    folder = locate(root)
    if folder is None:
        raise BadInput(f"ImageNet is not in {data_root(root) or cache_root()}.", _REMEDY)
    images = entries(folder)
    classes = official_classes(folder)
    return assembled(
        folder, split, entries=images, labels=_labels(folder, images, classes=classes),
        class_names=_names(images, classes), name=NAME, limit=limit,
        image_size=image_size or SIZE_PX, flip_allowed=True,
    )  # fmt: skip


def locate(root: str | Path | None) -> Path | None:
    """The folder with ImageNet in it: the root or its sub-folder ``imagenet``, or ``None``."""
    base = data_root(root) or cache_root()
    for folder in (base, base / NAME):
        if (folder / TABLE).is_file() or any((folder / part).is_dir() for part in _PARTS):
            return folder
        if folder.is_dir() and any(re.fullmatch(r"n\d{8}", path.name) for path in folder.iterdir()):
            return folder
    return None


def entries(folder: Path) -> tuple[Entry, ...]:
    """The images of ``folder``; those that name no part are held out."""
    return tuple(replace(e, part="val") if e.part == WHOLE else e for e in listed(folder))


def official_classes(folder: Path) -> tuple[Class, ...]:
    """The rows of ``imagenet_classes.csv`` in the folder or above it; empty without one."""
    path = next((p / _TABLE for p in (folder, folder.parent) if (p / _TABLE).is_file()), None)
    if path is None:
        return ()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            return tuple(
                Class(int(row["class_index"]), row["wnid"], row["class_name"]) for row in rows
            )
    except (KeyError, ValueError, csv.Error) as error:
        raise BadInput(
            f"{path} is no table of classes: {error}.",
            "It needs the columns class_index, wnid and class_name.",
        ) from error


def _labels(folder: Path, images: Sequence[Entry], *, classes: Sequence[Class]) -> Labels:
    number = {row.wnid: row.index for row in classes}
    wnids = sorted({entry.label for entry in images if isinstance(entry.label, str)})
    if not classes and len(wnids) == CLASSES:
        number = {wnid: index for index, wnid in enumerate(wnids)}
    for wnid in wnids:
        if wnid not in number:
            raise BadInput(
                f"{folder} has {len(wnids)} class folders, and nothing says which class of the "
                f"{CLASSES} {wnid!r} is.",
                f"Put {_TABLE} with the columns class_index, wnid and class_name beside it.",
            )
    labels = np.array(
        [number[e.label] if isinstance(e.label, str) else e.label for e in images], dtype=np.int64
    )
    if labels.max() >= CLASSES:
        raise BadInput(f"{folder} has the label {labels.max()}; ImageNet has 0 to 999.", _REMEDY)
    return labels


def _names(images: Sequence[Entry], classes: Sequence[Class]) -> tuple[str, ...]:
    named = {entry.label: entry.class_name for entry in images if isinstance(entry.label, int)}
    named.update({row.index: row.name for row in classes})
    return tuple(named.get(index, f"class {index}") for index in range(CLASSES))
