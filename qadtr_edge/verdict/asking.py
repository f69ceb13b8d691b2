"""Probes that only ask the engine: random patches, repeated bytes, queries continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import metrics, streams
from ..attacks.patch_rs import PatchRs
from ..attacks.queries import Ledger, Logits, Model, Search
from ..data.dataset import Dataset
from ..errors import Unsupported
from ..patch.paste import paste
from ..types import Json, Labels, Pixels, PlacedPatches, Placements

Flags = NDArray[np.bool_]
Doubled = tuple[Flags, Flags]
"""Images ``(N,)`` fooled within a budget, and within twice as much."""

BUDGET = "budget"
"""What the last entry of ``doubled`` is about: all that was doubled, taken together."""


def part(data: Dataset, rows: Labels) -> Dataset:
    """The images ``rows`` of a data set."""
    return replace(
        data, images=data.images[rows], labels=data.labels[rows], ids=data.ids[rows], files=()
    )


def step(data: Dataset, won: Flags) -> dict[str, Json]:
    """One step of a series: how many images, and which, were fooled."""
    return {
        "fooled": int(won.sum()),
        "eligible": len(won),
        "ids": [int(number) for number in data.ids[won]],
    }


def shown(data: Dataset, found: PlacedPatches) -> Pixels:
    """The images with their patches."""
    return paste(data.images, found.pixels, mask=found.mask, placements=found.placements)


def fooled(model: Model, data: Dataset, *, found: PlacedPatches) -> Flags:
    """Images ``(N,)`` whose label is wrong with their patch, on a fresh call."""
    return metrics.succeeded(metrics.predicted(model(shown(data, found))), data.labels)


def randomness(model: Model, data: Dataset, *, seed: int, batch: int) -> dict[str, Json]:
    """Labels that change when the same bytes are shown again, in another order, and one by one."""
    ledger = Ledger(model, batch=batch)
    first = metrics.predicted(ledger(data.images))
    order = streams.generator(seed, "randomness").permutation(len(data))
    permuted = np.empty_like(first)
    permuted[order] = metrics.predicted(ledger(data.images[order]))
    single = metrics.predicted(Ledger(model, batch=1)(data.images))
    repeated = metrics.predicted(ledger(data.images))
    return {
        "images": len(data),
        "repeated": int((repeated != first).sum()),
        "permuted": int((permuted != first).sum()),
        "single": int((single != first).sum()),
    }


def random(
    ledger: Ledger, data: Dataset, *, patch_px: tuple[int, int], seed: int, draws: int
) -> dict[str, Json]:
    """Images that one of ``draws`` uniformly random patches and places fools.

    What is drawn for an image depends on (seed, its id, the draw) alone; a fooled image leaves.
    """
    height, width = patch_px
    spare = [
        outer - inner + 1 for outer, inner in zip(data.images.shape[2:], patch_px, strict=True)
    ]
    won = np.zeros(len(data), np.bool_)
    for draw in range(draws):
        rows = np.flatnonzero(~won)
        if not len(rows):
            break
        chance = streams.uniform(
            seed, f"random:{draw}", indices=data.ids[rows], draws=3 * height * width + 2
        )
        pixels = (256.0 * chance[:, 2:]).astype(np.uint8).reshape(-1, 3, height, width)
        corners = (chance[:, :2] * spare).astype(np.int64)
        logits = ledger(
            paste(
                data.images[rows], pixels, mask=np.ones(patch_px, np.bool_), placements=_at(corners)
            )
        )
        won[rows] = metrics.succeeded(metrics.predicted(logits), data.labels[rows])
    return {
        "draws": draws,
        "ids": [int(number) for number in data.ids],
        "fooled": [int(number) for number in data.ids[won]],
    }


def searchable(search: Search, clean: Logits) -> bool:
    """Whether an engine with these clean logits tells enough for this search."""
    try:
        search.require(clean)
    except Unsupported:
        return False
    return True


def doubled(
    model: Model, data: Dataset, *, clean: Logits, patch_px: tuple[int, int], seed: int,
    queries: int, batch: int,
) -> dict[str, Doubled]:  # fmt: skip
    """Patch-RS continued to twice the queries: a second start, after the same first one.

    Nothing where the engine's scores say no more than the label.
    """
    searches = [
        PatchRs(patch_px=patch_px, queries=restarts * queries, restarts=restarts)
        for restarts in (1, 2)
    ]
    if not searchable(searches[0], clean):
        return {}
    before, after = (
        fooled(
            Ledger(model, batch=batch),
            data,
            found=search.search(
                model, data, clean=clean, seed=seed, batch=batch, told=lambda used, note: None
            ),
        )
        for search in searches
    )
    return {"queries": (before, after)}


def twice(found: Mapping[str, Doubled]) -> list[Json]:
    """What doubling each budget gained and lost, and last what doubling all did to the union."""
    befores, afters = (np.stack([pair[side] for pair in found.values()]) for side in (0, 1))
    whole = {BUDGET: (metrics.union(befores), metrics.union(afters))}
    return [
        {
            "what": what,
            "eligible": len(before),
            "fooled": int(before.sum()),
            "gained": int((after & ~before).sum()),
            "lost": int((before & ~after).sum()),
        }
        for what, (before, after) in {**found, **whole}.items()
    ]


def _at(corners: Labels) -> Placements:
    """Unrotated places at the ``corners (N, 2)``."""
    top, left = corners.T.astype(np.float64)
    return Placements(top=top, left=left, degrees=np.zeros(len(top)), scale=np.ones(len(top)))
