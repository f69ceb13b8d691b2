"""The probe behind check 16: attacks that ask the engine against planted masking."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..attacks import planted
from ..attacks.label_search import LabelSearch
from ..attacks.patch_rs import PatchRs
from ..attacks.pgd import Pgd
from ..attacks.queries import Ledger, Logits, Model, Search
from ..attacks.sweep import Sweep
from ..attacks.victim import Victim
from ..data.dataset import Dataset
from ..types import Json, Patch
from .asking import fooled, part, searchable

SWEPT = 32
"""Places along a side of the image, or one more, at which given patches are shown."""


def broken(
    model: Model, victim: Victim, *, data: Dataset, clean: Logits, patches: Sequence[Patch],
    patch_px: tuple[int, int], queries: int, steps: int, restarts: int, seed: int, batch: int,
) -> list[Json]:  # fmt: skip
    """For each planted masking: images that the searches fool through it, and without it.

    The searches go by scores, where there are any, and by labels: ``patches``, made on an unmasked
    network, at every place, and a search of its own. ``white_box``: images that a plain PGD-patch
    fools through the masking. All counted among the images that the masked network gets right.
    """
    found: list[Json] = []
    searched = partial(
        _fooled, data=data, patches=patches, patch_px=patch_px, queries=queries, seed=seed,
        batch=batch,
    )  # fmt: skip
    whole = searched(model, clean=clean)
    pgd = Pgd(patch_px=patch_px, steps=steps, restarts=restarts)
    for one in planted.planted(model, victim, clean=clean):
        answers = Ledger(one.model, batch=batch)(data.images)
        able = metrics.predicted(answers) == data.labels
        same = one.model is model  # only its gradients differ, which no search asks for
        won = whole if same else searched(one.model, clean=answers)
        white = pgd.search(one.victim, data, seed=seed, told=lambda count, note: None).best
        found.append(
            {
                "masking": one.name,
                "eligible": int(able.sum()),
                "unmasked": int((whole & able).sum()),
                "fooled": int((won & able).sum()),
                "white_box": int((fooled(one.model, data, found=white) & able).sum()),
            }
        )
    return found


def _fooled(
    model: Model, *, data: Dataset, clean: Logits, patches: Sequence[Patch],
    patch_px: tuple[int, int], queries: int, seed: int, batch: int,
) -> NDArray[np.bool_]:  # fmt: skip
    """The per-image union of the searches on one engine; each gets what the others left."""
    stride = max(1, min(data.images.shape[2:]) // SWEPT)
    searches: list[Search] = [
        PatchRs(patch_px=patch_px, queries=queries),
        *(Sweep(patch, stride=stride, stop_when_fooled=True) for patch in patches),
        LabelSearch(patch_px=patch_px, queries=queries),
    ]
    ledger = Ledger(model, batch=batch)
    won: NDArray[np.bool_] = metrics.predicted(clean) != data.labels
    for search in searches:
        rows = np.flatnonzero(~won)
        if not len(rows) or not searchable(search, clean):
            continue
        left = part(data, rows)
        found = search.search(
            model, left, clean=clean[rows], seed=seed, batch=batch, told=lambda count, note: None
        )
        won[rows] = fooled(ledger, left, found=found)
    return won
