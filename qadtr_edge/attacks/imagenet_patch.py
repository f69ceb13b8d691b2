"""ImageNet-Patch (Pintor et al., arXiv 2203.04412): ten published patches, replayed as bytes.

The file is the user's own copy; the patches are CC-BY-4.0 and not shipped. Published protocol: each
patch on each image under a random translation and rotation, targeted, judged by clean accuracy,
robust accuracy (right in spite of the patch) and the rate at which its target is named.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import Labels, Patch

NAME = "imagenet_patch"
_NEEDED = ("patches", "targets")


def is_published(path: Path) -> bool:
    """Whether the ``.npz`` at ``path`` holds the arrays of that file, by their names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return set(_NEEDED) <= set(file.files)
    except (OSError, ValueError):
        return False


def load(path: Path) -> tuple[Patch, ...]:
    """The patches of an ``.npz`` with ``patches (P, 3, H, W)`` of 0 to 1 and ``targets (P,)``.

    Each is cut to the smallest rectangle that holds all it paints; what is exactly 0 in all
    channels around it is not painted. Raises ``BadInput`` for another kind of file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            images, targets = (np.asarray(file[name]) for name in _NEEDED)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{path} is no ImageNet-Patch file: {error}.",
            "Give an .npz with patches (P, 3, H, W) of 0 to 1 and targets (P,).",
        ) from error
    if not _is_patches(images, targets):
        raise BadInput(
            f"{path} holds patches {images.dtype} {images.shape} and targets {targets.shape}.",
            "Give patches (P, 3, H, W) of 0 to 1 and as many targets.",
        )
    return tuple(
        _cut(image, target=int(target), number=number)
        for number, (image, target) in enumerate(zip(images, targets, strict=True))
    )


def _is_patches(images: NDArray[np.generic], targets: Labels) -> bool:
    if images.ndim != 4 or images.shape[1] != 3 or targets.shape != images.shape[:1]:
        return False
    is_float = np.issubdtype(images.dtype, np.floating) and np.isfinite(images).all()
    return bool(is_float and images.min() >= 0 and images.max() <= 1 and targets.dtype.kind == "i")


def _cut(image: NDArray[np.floating], *, target: int, number: int) -> Patch:
    painted = (image != 0).any(axis=0)
    if not painted.any():
        raise BadInput(f"Patch {number} of the file paints nothing.", "Check the file.")
    rows, columns = (np.flatnonzero(painted.any(axis=axis)) for axis in (1, 0))
    part = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(
        pixels=np.rint(255 * part).astype(np.uint8),
        mask=np.ones(part.shape[1:], np.bool_),
        target=target,
        origin={"attack": NAME, "number": number},
    )
