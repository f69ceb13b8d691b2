"""What a data set is: images, labels and ids of one split, and the order in which they come."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, UnknownName
from ..types import Labels, Pixels

SPLITS = ("train", "calibration", "craft", "test")
"""Training; ranges of activations; patch crafting; scoring. No image is in two of them."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, in a fixed shuffled order: a limit of n means the first n of it.

    - ``images``: ``(N, 3, H, W) uint8``; ``labels``: ``(N,) int64`` in ``[0, K)``.
    - ``ids``: ``(N,) int64``, the stable name of each image; no two splits share one.
    - ``class_names``: K names. ``flip_allowed``: a mirrored image keeps its class.
    - ``files``: the file of each image, relative to the data root; empty when images have none.
    """

    name: str
    split: str
    images: Pixels
    labels: Labels
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    flip_allowed: bool
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, image bytes and labels (little-endian int64)."""
        state = hashlib.sha256(repr(self.images.shape).encode())
        state.update(np.ascontiguousarray(self.images).data)
        state.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return state.hexdigest()


class Loader(Protocol):
    """A data set known by name: what the registry's data-set entries resolve to."""

    def __call__(
        self, split: str, *, root: str | Path | None, limit: int | None, image_size: int | None
    ) -> Dataset: ...


def checked_split(split: str) -> str:
    """``split`` itself; raises ``UnknownName`` when it is none of ``SPLITS``."""
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    return split


def checked_limit(limit: int | None) -> int | None:
    """``limit`` itself; raises ``BadInput`` below 1."""
    if limit is not None and limit < 1:
        raise BadInput(f"{limit} images cannot be loaded.", "Ask for 1 or more.")
    return limit


def require_size(name: str, *, size_px: int, image_size: int | None) -> None:
    """Raises ``BadInput`` when ``image_size`` is given and is not the data set's own."""
    if image_size not in (None, size_px):
        raise BadInput(
            f"The images of {name} are {size_px} x {size_px} pixels, not {image_size}.",
            f"Use a model for {size_px}-pixel images, or a folder of images, which is resized.",
        )


def require_images(name: str, split: str, *, count: int, remedy: str) -> None:
    """Raises ``BadInput`` when the split of ``name`` holds no image."""
    if count == 0:
        raise BadInput(f"The split {split!r} of {name} holds no image.", remedy)


def data_root(root: str | Path | None) -> Path | None:
    """Where data sets with files are looked for: ``root``, else ``QADTR_DATA``, else ``None``."""
    named = root or os.environ.get("QADTR_DATA")
    return Path(named).expanduser() if named else None


def cache_root() -> Path:
    """The folder for downloads when no root is named: the user's cache (XDG)."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "qadtr-edge"
