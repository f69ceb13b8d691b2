"""The location sweep: a patch made for all images, shown at every place of a grid on each image.

It needs labels only and no gradient, so nothing can mask it. Patches stand unrotated on whole
pixels; the first and the last row and column are always on the grid. Swept in the same way, grey
and noise are the controls that had as many tries. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import metrics, streams
from ..data.dataset import Dataset
from ..patch import bank
from ..patch.placement import Policy, check_fit
from ..types import Json, Labels, Patch, PatchPerImage, PlacedPatches, Placements
from .queries import BATCH, Ledger, Logits, Model, Told, require_classes


@dataclass(frozen=True, eq=False)
class Swept:
    """What a sweep found on N images at R x C places.

    - ``patches``: the best place of each image: one that reaches the goal before one that does
      not, then the one with the largest margin, then the one shown first.
    - ``rows``: ``(R,) int64``, tops of the places; ``columns``: ``(C,) int64``, lefts.
    - ``fooled_at``: ``(R, C) int64``, eligible images fooled at each place, of ``eligible``;
      ``None`` when the sweep of an image stopped at its first.
    - ``shown``: queries in all.
    """

    patches: PlacedPatches
    rows: Labels
    columns: Labels
    fooled_at: Labels | None
    eligible: int
    shown: int


class Sweep:
    """The location sweep of one patch, as a search.

    ``stride``: pixels between places. ``stop_when_fooled``: an image leaves at the first place that
    reaches the goal, which saves queries and leaves no heat map.
    """

    name = "sweep"
    tier = "T2"
    threat: Literal["T-B"] = "T-B"
    knowledge = "labels"

    def __init__(
        self, patch: Patch | PatchPerImage, *, stride: int = 1, stop_when_fooled: bool = False
    ) -> None:
        self.patch = patch
        self.target = patch.target
        self.stride = stride
        self.stop_when_fooled = stop_when_fooled

    @property
    def placement(self) -> str:
        return f"sweep:{self.stride}"

    @property
    def parameters(self) -> dict[str, Json]:
        return {
            "patch": bank.digest(self.patch),
            "target": self.target,
            "stride": self.stride,
            "stop_when_fooled": self.stop_when_fooled,
        }

    def budget(self, image_px: tuple[int, int]) -> int:
        rows, columns = grid(self.patch.mask.shape, image_px, stride=self.stride)
        return len(rows) * len(columns)

    def require(self, clean: Logits) -> None:
        require_classes(clean)

    def search(
        self, model: Model, data: Dataset, *, clean: Logits, seed: int, batch: int, told: Told
    ) -> PlacedPatches:
        return sweep(
            model,
            data,
            patch=self.patch,
            clean=clean,
            stride=self.stride,
            seed=seed,
            batch=batch,
            stop_when_fooled=self.stop_when_fooled,
            told=told,
        ).patches


def grid(
    patch_px: tuple[int, ...], image_px: tuple[int, ...], *, stride: int
) -> tuple[Labels, Labels]:
    """Tops ``(R,)`` and lefts ``(C,)`` of the places, ascending, 0 and the last that fits included.

    Raises ``BadInput`` when the patch does not fit.
    """
    check_fit(Policy("plain"), (patch_px[0], patch_px[1]), image_px=(image_px[0], image_px[1]))
    lasts = (outer - inner for outer, inner in zip(image_px, patch_px, strict=True))
    rows, columns = (np.union1d(np.arange(0, last, stride), last) for last in lasts)
    return rows.astype(np.int64), columns.astype(np.int64)


def sweep(
    model: Model,
    data: Dataset,
    *,
    patch: Patch | PatchPerImage,
    clean: Logits,
    stride: int = 1,
    seed: int = 0,
    batch: int = BATCH,
    stop_when_fooled: bool = False,
    told: Told = lambda count, note: None,
) -> Swept:
    """Shows each image of ``data`` with the patch at every place of the grid.

    ``clean``: logits ``(N, K)`` without the patch. All images see the places in one order, drawn
    from ``seed``: queries needed would otherwise measure how far from the top left the object is. A
    patch per image keeps its pixels at all places of the image.
    """
    mask, target, n = patch.mask, patch.target, len(data)
    rows, columns = grid(mask.shape, data.images.shape[2:], stride=stride)
    places = len(rows) * len(columns)
    pixels = patch.pixels if isinstance(patch, Patch) else patch.pixels_of(data.ids)
    able = metrics.eligible(metrics.predicted(clean), data.labels, target=target)
    ledger = Ledger(model, batch=batch)
    best = _Best(n, places)
    fooled_at = np.zeros(places, np.int64)
    images, truth, active, own = data.images.copy(), data.labels, np.arange(n), pixels
    for tried, at in enumerate(streams.generator(seed, "sweep").permutation(places), start=1):
        top, left = rows[at // len(columns)], columns[at % len(columns)]
        window = images[:, :, top : top + mask.shape[0], left : left + mask.shape[1]]
        covered = window.copy()
        window[...] = np.where(mask, own, covered)
        logits = ledger(images)
        window[...] = covered
        won = metrics.succeeded(metrics.predicted(logits), truth, target=target)
        best.offer(active, int(at), won=won, lead=metrics.margins(logits, truth, target=target),
                   tried=tried)  # fmt: skip
        fooled_at[at] = (won & able[active]).sum()
        used = len(active)
        if stop_when_fooled and won.any():
            images, truth, active = images[~won], truth[~won], active[~won]
            own = own if own.ndim == 3 else own[~won]
            used += (used - len(active)) * (places - tried)
        told(used, f"{best.won[able].mean() if able.any() else 0.0:.0%} fooled")
        if not len(active):
            break
    shape = (len(rows), len(columns))
    heat = None if stop_when_fooled else fooled_at.reshape(shape)
    tally: dict[str, Json] = {"shown": ledger.shown}
    if heat is not None:
        tally["fooled_at"] = [[int(count) for count in row] for row in heat]
    return Swept(
        PlacedPatches(
            ids=data.ids,
            pixels=pixels,
            mask=mask,
            placements=Placements(
                top=rows[best.place // shape[1]].astype(np.float64),
                left=columns[best.place % shape[1]].astype(np.float64),
                degrees=np.zeros(n),
                scale=np.ones(n),
            ),
            target=target,
            queries=best.queries,
            origin={
                "attack": "sweep", "seed": patch.origin.get("seed"), "rows": [*map(int, rows)],
                "columns": [*map(int, columns)], "tally": tally, "of": dict(patch.origin),
            },
        ),
        rows=rows,
        columns=columns,
        fooled_at=heat,
        eligible=int(able.sum()),
        shown=ledger.shown,
    )  # fmt: skip


class _Best:
    """The best place of each image so far, and the queries it took to reach the goal."""

    def __init__(self, images: int, places: int) -> None:
        self.place = np.zeros(images, np.int64)
        self.won = np.zeros(images, np.bool_)
        self.lead = np.full(images, -np.inf, np.float32)
        self.queries = np.full(images, places, np.int64)

    def offer(
        self,
        active: Labels,
        at: int,
        *,
        won: NDArray[np.bool_],
        lead: NDArray[np.float32],
        tried: int,
    ) -> None:
        """Place ``at`` on the images ``active``, the ``tried``-th they were shown."""
        had = self.won[active]
        better = (won & ~had) | ((won == had) & (lead > self.lead[active]))
        self.queries[active[won & ~had]] = tried
        chosen = active[better]
        self.place[chosen] = at
        self.won[chosen], self.lead[chosen] = won[better], lead[better]
