"""Two-mask certificates (PatchCleanser, Xiang et al., arXiv 2108.09135), evaluated on an engine.

A set of masks covers every place a patch can take. When the engine names the true class under every
pair of masks, double masking around this engine answers right whatever a patch of that size shows:
the masked pixels hide it. It is a bound on that pipeline, never on the bare engine, and nothing is
to be subtracted from an attack success rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.placement import Policy, check_fit
from ..types import Labels, Pixels
from .queries import BATCH, Ledger, Model, Told

PER_AXIS = 6
"""Masks along each side: 36 masks, 666 pairs with those of a mask and itself, as published."""

GREY = 128


@dataclass(frozen=True, eq=False)
class Certificate:
    """What two masks say of N images.

    ``certified``: ``(N,) bool``; ``answers``: ``(N,) int64``, what double masking answers to the
    images as they are; ``mask_px``: rows and columns of each of the ``masks``; ``shown``: images
    the model was shown.
    """

    certified: NDArray[np.bool_]
    answers: Labels
    mask_px: tuple[int, int]
    masks: int
    shown: int


def masks_of(
    image_px: tuple[int, int], patch_px: tuple[int, int], *, per_axis: int = PER_AXIS
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """First pixels of masks that hide any patch of that size, and rows and columns of each.

    Raises ``BadInput`` when the patch does not fit, or is hidden only where the image is.
    """
    check_fit(Policy("plain"), patch_px, image_px=image_px)
    (tops, rows), (lefts, columns) = (
        cover(outer, inner, count=per_axis) for outer, inner in zip(image_px, patch_px, strict=True)
    )
    if (rows, columns) == image_px:
        raise BadInput(
            f"A mask that hides a {patch_px[0]}x{patch_px[1]} patch hides the whole image, and "
            "nothing is left to certify.",
            "Certify a smaller patch: --patch-size 6.",
        )
    return [(int(top), int(left)) for top in tops for left in lefts], (rows, columns)


def pairs(masks: int) -> int:
    """Pairs of so many masks, those of a mask and itself among them."""
    return masks * (masks + 1) // 2


def certify(
    model: Model, data: Dataset, *, patch_px: tuple[int, int], per_axis: int = PER_AXIS,
    batch: int = BATCH, told: Told = lambda count, note: None,
) -> Certificate:  # fmt: skip
    """Whether each image of ``data`` is right under every pair of masks against ``patch_px``.

    An image leaves at the first pair that it is wrong under; those whose masks disagree are shown
    to the second round of double masking too, for what it answers, which ``told`` does not hear of:
    it hears of all pairs of all images. Raises ``BadInput`` when the patch does not fit.
    """
    image_px = (data.images.shape[2], data.images.shape[3])
    corners, mask_px = masks_of(image_px, patch_px, per_axis=per_axis)
    behind = _Behind(Ledger(model, batch=batch), data.images, mask_px, corners)
    count, everything = len(behind.corners), np.arange(len(data))
    alone = np.stack([behind.labels(everything, mask) for mask in range(count)])
    told(count * len(data), "")
    right: NDArray[np.bool_] = (alone == data.labels).all(axis=0)
    left = pairs(count) - count
    told(int((~right).sum()) * left, "")
    able = np.flatnonzero(right)
    for a in range(count):
        for b in range(a + 1, count):
            if not len(able):
                break
            held = behind.labels(able, a, b) == data.labels[able]
            left -= 1
            told(len(able) + int((~held).sum()) * left, "")
            right[able[~held]] = False
            able = able[held]
    return Certificate(right, _answers(behind, alone), behind.mask_px, count, behind.ledger.shown)


@dataclass(frozen=True, eq=False)
class _Behind:
    """Images ``(N, 3, H, W)`` behind masks of ``mask_px`` whose first pixels are ``corners``."""

    ledger: Ledger
    images: Pixels
    mask_px: tuple[int, int]
    corners: list[tuple[int, int]]

    def labels(self, rows: Labels, *masks: int) -> Labels:
        """Labels of the images ``rows`` behind all these masks."""
        shown = self.images[rows].copy()
        for top, left in (self.corners[mask] for mask in masks):
            shown[:, :, top : top + self.mask_px[0], left : left + self.mask_px[1]] = GREY
        return metrics.predicted(self.ledger(shown))


def _answers(behind: _Behind, alone: Labels) -> Labels:
    """What double masking answers, from the labels ``(M, N)`` behind single masks (Algorithm 1).

    The label all masks agree on; else that of the first mask which disagrees with most and is
    confirmed behind all second masks; else what most say, at a tie the lowest label.
    """
    masks = len(alone)
    most = np.array([np.bincount(column).argmax() for column in alone.T], np.int64)
    answers, open_ = most.copy(), (alone != alone[0]).any(axis=0)
    for mask in range(masks):
        rows = np.flatnonzero(open_ & (alone[mask] != most))
        for second in range(masks):
            if second == mask or not len(rows):
                continue
            rows = rows[behind.labels(rows, mask, second) == alone[mask][rows]]
        answers[rows] = alone[mask][rows]
        open_[rows] = False
    return answers


def cover(image_px: int, patch_px: int, *, count: int) -> tuple[Labels, int]:
    """First pixels of the masks along one axis, and their length, that hide any patch.

    Lemma 1 of the paper: masks as long as the patch and one stride less one, a stride apart.
    """
    stride = -(-(image_px - patch_px + 1) // count)
    length = patch_px + stride - 1
    starts = np.minimum(np.arange(count) * stride, image_px - length)
    return np.unique(np.maximum(starts, 0)).astype(np.int64), min(length, image_px)
