"""Data sets: ``load`` gives one split of any of them as uint8 images, labels and stable ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from .. import registry
from ..errors import BadInput, UnknownName
from . import arrays, folders
from .dataset import SPLITS, Dataset, Loader, checked_limit, checked_split

__all__ = ["SPLITS", "Dataset", "load"]


def load(
    name: str,
    split: str,
    *,
    root: str | Path | None = None,
    limit: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """One split (``train``, ``calibration``, ``craft`` or ``test``) of a data set.

    ``name`` is a registered name (``signs``, ``cifar10``, ``imagenet``), the path of a folder of
    images or the path of an ``.npz`` file. ``root``, else ``QADTR_DATA``, is where registered
    data sets have their files. ``limit`` n keeps the first n images of the split's fixed order.
    ``image_size`` is the side in pixels that pictures from files are scaled to; data sets of a
    fixed size refuse another.

    Raises ``BadInput`` for a name, split, file or label that cannot be used.
    """
    checked_split(split)
    checked_limit(limit)
    known = registry.names("dataset")
    if name in known:
        loader = cast(Loader, registry.resolve("dataset", name))
        return loader(split, root=root, limit=limit, image_size=image_size)
    path = Path(name).expanduser()
    if path.is_dir():
        return folders.load(path, split, limit=limit, image_size=image_size)
    if path.suffix == ".npz" and path.is_file():
        return arrays.load(path, split, limit=limit, image_size=image_size)
    if path.exists():
        raise BadInput(f"{path} is no folder and no .npz file.", "Name a folder of images.")
    if path.suffix or os.sep in name:
        raise BadInput(f"There is no data at {path}.", "Check the path of the folder or .npz file.")
    raise UnknownName("data set", name, known)
