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
from ..patch.placement import Policy, check_fit
from ..types import Labels
from .queries import BATCH, Ledger, Model, Told

PER_AXIS = 6
"""Masks along each side: 36 masks, 666 pairs with those of a mask and itself, as published."""

GREY = 128


@dataclass(frozen=True, eq=False)
class Certificate:
    """``certified``: ``(N,) bool``; ``mask_px``: side of the masks; ``shown``: images shown."""

    certified: NDArray[np.bool_]
    mask_px: tuple[int, int]
    shown: int


def certify(
    model: Model, data: Dataset, *, patch_px: tuple[int, int], per_axis: int = PER_AXIS,
    batch: int = BATCH, told: Told = lambda count, note: None,
) -> Certificate:  # fmt: skip
    """Whether each image of ``data`` is right under every pair of masks against ``patch_px``.

    An image leaves at the first pair that it is wrong under. ``told`` hears of all pairs of all
    images. Raises ``BadInput`` when the patch does not fit.
    """
    image_px = (data.images.shape[2], data.images.shape[3])
    check_fit(Policy("plain"), patch_px, image_px=image_px)
    axes = [cover(outer, inner, count=per_axis)
            for outer, inner in zip(image_px, patch_px, strict=True)]  # fmt: skip
    mask_px = (axes[0][1], axes[1][1])
    corners = [(top, left) for top in axes[0][0] for left in axes[1][0]]
    pairs = [(a, b) for at, a in enumerate(corners) for b in corners[at:]]
    ledger = Ledger(model, batch=batch)
    able, right = np.arange(len(data)), np.ones(len(data), np.bool_)
    for number, pair in enumerate(pairs, start=1):
        masked = data.images[able].copy()
        for top, left in pair:
            masked[:, :, top : top + mask_px[0], left : left + mask_px[1]] = GREY
        held = metrics.predicted(ledger(masked)) == data.labels[able]
        right[able[~held]] = False
        told(len(able) + int((~held).sum()) * (len(pairs) - number), "")
        able = able[held]
        if not len(able):
            break
    return Certificate(right, mask_px, ledger.shown)


def cover(image_px: int, patch_px: int, *, count: int) -> tuple[Labels, int]:
    """First pixels of the masks along one axis, and their length, that hide any patch.

    Lemma 1 of the paper: masks as long as the patch and one stride less one, a stride apart.
    """
    stride = -(-(image_px - patch_px + 1) // count)
    length = patch_px + stride - 1
    starts = np.minimum(np.arange(count) * stride, image_px - length)
    return np.unique(np.maximum(starts, 0)).astype(np.int64), min(length, image_px)
