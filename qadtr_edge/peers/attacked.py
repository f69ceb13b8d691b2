"""Images that any attack changed, taken apart into patches and places.

With that, an attack of another tool is replayed, judged and stored as those of this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.placement import Policy, check_fit
from ..types import Labels, Pixels, PlacedPatches, Placements


def to_bytes(images: NDArray[np.floating] | Pixels, *, top: float) -> Pixels:
    """Bytes ``(N, 3, H, W)`` of images whose values run from 0 to ``top``, rounded to nearest."""
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    if not np.isfinite(images).all():
        raise BadInput("The images hold values that are not numbers.", "Check the attack.")
    rounded: Pixels = np.rint(np.clip(images, 0, top) * (255 / top)).astype(np.uint8)
    return rounded


def placed_patches(
    data: Dataset, attacked: Pixels, *, patch_px: tuple[int, int], name: str,
    target: int | None = None,
) -> PlacedPatches:  # fmt: skip
    """The patch and the place on each image of ``data`` that make it ``attacked (N, 3, H, W)``.

    The patch holds every changed pixel; those of its pixels that did not change are the image's
    own. Raises ``BadInput`` when the changes on an image do not fit ``patch_px``, rows and columns.
    """
    image_px = (data.images.shape[2], data.images.shape[3])
    check_fit(Policy("plain"), patch_px, image_px=image_px)
    if attacked.shape != data.images.shape or attacked.dtype != np.uint8:
        raise BadInput(
            f"The attacked images are {attacked.dtype} {attacked.shape}; the images are uint8 "
            f"{data.images.shape}.",
            "Give one attacked image for each image, as bytes.",
        )
    changed = (attacked != data.images).any(axis=1)
    top = _first(changed.any(axis=2), size_px=patch_px[0], outer_px=image_px[0])
    left = _first(changed.any(axis=1), size_px=patch_px[1], outer_px=image_px[1])
    rows = top[:, None] + np.arange(patch_px[0])
    columns = left[:, None] + np.arange(patch_px[1])
    each = np.arange(len(data))[:, None, None]
    inside = changed[each, rows[:, :, None], columns[:, None, :]].sum(axis=(1, 2))
    if (outside := inside != changed.sum(axis=(1, 2))).any():
        raise BadInput(
            f"{int(outside.sum())} of {len(data)} images are changed outside a patch of "
            f"{patch_px[0]}x{patch_px[1]} pixels.",
            "Give the size the attack was made for; noise over a whole image is no patch.",
        )
    pixels = attacked[each, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    return PlacedPatches(
        ids=data.ids,
        pixels=np.ascontiguousarray(pixels),
        mask=np.ones(patch_px, np.bool_),
        placements=Placements(
            top=top.astype(np.float64), left=left.astype(np.float64),
            degrees=np.zeros(len(data)), scale=np.ones(len(data)),
        ),
        target=target,
        origin={"attack": name},
    )  # fmt: skip


def _first(changed: NDArray[np.bool_], *, size_px: int, outer_px: int) -> Labels:
    """First changed line of each image, moved so that the patch stays inside; 0 for none."""
    first: Labels = np.minimum(changed.argmax(axis=1), outer_px - size_px)
    return first
