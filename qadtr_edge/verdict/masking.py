"""The probe behind check 16: attacks that ask the engine against planted masking."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..attacks import planted
from ..attacks.patch_rs import PatchRs
from ..attacks.pgd import Pgd
from ..attacks.queries import Ledger, Logits, Model, Search
from ..attacks.sweep import Sweep
from ..attacks.victim import Victim
from ..data.dataset import Dataset
from ..types import Json, Patch
from .asking import fooled

SWEPT = 16
"""Places along a side of the image, or one more, at which the given patch is shown."""


def broken(
    model: Model, victim: Victim, *, data: Dataset, clean: Logits, patch: Patch | None,
    patch_px: tuple[int, int], queries: int, steps: int, restarts: int, seed: int, batch: int,
) -> list[Json]:  # fmt: skip
    """For each planted masking: images that the searches fool through it, and without it.

    Searches by scores are left out where there are none, and ``patch``, made on an unmasked
    network, is swept by labels where it is given. ``white_box``: images that a plain PGD-patch
    fools through the masking. Counted among the images that the masked network gets right.
    """
    found: list[Json] = []
    unmasked: dict[bytes, int] = {}
    searched = partial(
        _fooled, data=data, patch=patch, patch_px=patch_px, queries=queries, seed=seed, batch=batch
    )
    for one in planted.planted(model, victim, clean=clean):
        answers = Ledger(one.model, batch=batch)(data.images)
        able = metrics.predicted(answers) == data.labels
        if able.tobytes() not in unmasked:
            unmasked[able.tobytes()] = int((searched(model, clean=clean, scores=True) & able).sum())
        pgd = Pgd(patch_px=patch_px, steps=steps, restarts=restarts)
        white = pgd.search(one.victim, data, seed=seed, told=lambda count, note: None)
        found.append(
            {
                "masking": one.name,
                "eligible": int(able.sum()),
                "unmasked": unmasked[able.tobytes()],
                "fooled": int((searched(one.model, clean=answers, scores=one.scores) & able).sum()),
                "white_box": int((fooled(one.model, data, found=white) & able).sum()),
            }
        )
    return found


def _fooled(
    model: Model, *, data: Dataset, clean: Logits, patch: Patch | None, patch_px: tuple[int, int],
    queries: int, scores: bool, seed: int, batch: int,
) -> NDArray[np.bool_]:  # fmt: skip
    """The per-image union of the searches on one engine."""
    searches: list[Search] = []
    if scores:
        searches.append(PatchRs(patch_px=patch_px, queries=queries))
    if patch is not None:
        stride = max(1, min(data.images.shape[2:]) // SWEPT)
        searches.append(Sweep(patch, stride=stride, stop_when_fooled=True))
    ledger = Ledger(model, batch=batch)
    won = np.zeros(len(data), np.bool_)
    for search in searches:
        patches = search.search(
            model, data, clean=clean, seed=seed, batch=batch, told=lambda count, note: None
        )
        won |= fooled(ledger, data, found=patches)
    return won
