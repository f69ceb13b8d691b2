"""Patch-RS for differential patches: the engine is wrong, the float model it was made from right.

The random search of ``patch_rs.py`` on the smaller of two margins, by which the engine is lost and
by which the float model is right, which is what ``differential.py`` keeps its patches by (this
project's definition). Both are asked the same images, and a query is one of them. No gradient and
no simulation of the engine is needed. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .. import metrics
from ..data.dataset import Dataset
from ..patch.shape import RECTANGLE
from ..types import Json, Labels, Pixels, PlacedPatches
from .patch_rs import Judged, PatchRs
from .queries import Ledger, Logits, Model, Told


@dataclass(frozen=True, eq=False)
class Original:
    """The float model; ``digest`` stands for everything that can change its answers."""

    model: Model
    digest: str


class PatchRsDifferential:
    """One patch and one place for each image; the search on it ends where the two are parted.

    - ``original``: the model that is to stay right. Other options as in ``PatchRs``.
    """

    name = "patch_rs_differential"
    tier = "T7"
    threat: Literal["T-C"] = "T-C"
    knowledge = "both"
    placement = "searched"

    def __init__(
        self,
        *,
        original: Original,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        queries: int = 1000,
        shape: str = RECTANGLE,
    ) -> None:
        self.original = original
        self.target = target
        self.queries = queries
        self._walk = PatchRs(patch_px=patch_px, target=target, queries=queries, shape=shape)

    @property
    def parameters(self) -> dict[str, Json]:
        return {**self._walk.parameters, "original": self.original.digest}

    def budget(self, image_px: tuple[int, int]) -> int:
        return self._walk.budget(image_px)

    def require(self, clean: Logits) -> None:
        self._walk.require(clean)

    def search(
        self, model: Model, data: Dataset, *, clean: Logits, seed: int, batch: int, told: Told
    ) -> PlacedPatches:
        self.require(clean)

        def both(images: Pixels) -> Logits:
            return np.concatenate([model(images), self.original.model(images)], axis=1)

        return self._walk.walked(
            Ledger(both, batch=batch), data, clean=clean, judge=self.judged, said=self, seed=seed,
            told=told,
        )  # fmt: skip

    def judged(self, logits: Logits, truth: Labels) -> Judged:
        """Of logits ``(M, 2K)``, the engine's first: won where it is lost and the other right."""
        engine, original = np.split(logits, 2, axis=1)
        falls = metrics.succeeded(metrics.predicted(engine), truth, target=self.target)
        lead = np.minimum(
            metrics.margins(engine, truth, target=self.target), -metrics.margins(original, truth)
        )
        won = falls & (metrics.predicted(original) == truth)
        return Judged(won, lead, lead.astype(np.float64))
