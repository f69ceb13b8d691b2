"""What searches on an engine share: counting what it is shown, and saying when there is no search.

A query is one image shown to the engine. The clean answers are not counted: a replay has them
anyway. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..data.dataset import Dataset
from ..errors import BadInput, EngineFailed, Unsupported
from ..types import Labels, Patch, Pixels, PlacedPatches
from .parameters import Described

Logits = NDArray[np.float32]
Model = Callable[[Pixels], Logits]
"""Anything that maps images ``(N, 3, H, W) uint8`` to logits ``(N, K) float32``."""

Told = Callable[[int, str], None]
"""Called as work is done: queries used up since the last call, and a note."""

BATCH = 64


class Asking(Described, Protocol):
    """An attack that asks the engine; ``knowledge``: as in ``Result``."""

    @property
    def knowledge(self) -> str: ...


class Search(Asking, Protocol):
    """A way to find a patch or a place for each image by asking the engine."""

    @property
    def target(self) -> int | None: ...

    def budget(self, image_px: tuple[int, int]) -> int:
        """The most queries one image of that many rows and columns can cost."""
        ...

    def require(self, clean: Logits) -> None:
        """Raises ``QadtrError`` when an engine with these clean logits cannot be searched."""
        ...

    def search(
        self, model: Model, data: Dataset, *, clean: Logits, seed: int, batch: int, told: Told
    ) -> PlacedPatches:
        """The best patch and place found for each image of ``data``; no image sways another's.

        ``clean``: the engine's logits ``(N, K)`` of the images themselves. ``told`` is called with
        ``budget`` queries an image in all; those an early end saves count as used up. What was
        counted stands under ``tally`` in the origin, as numbers that add up over images.
        """
        ...


class UniversalSearch(Asking, Protocol):
    """A way to find one patch for all images by asking the engine.

    ``placement``: the policy its patch is made for. ``queries``: patches it tries.
    """

    @property
    def queries(self) -> int: ...

    def craft(self, model: Model, data: Dataset, *, seed: int, batch: int, told: Told) -> Patch:
        """A patch found on ``data``, which must hold none of the images it is scored on.

        ``told`` is called with ``queries`` in all.
        """
        ...


class Ledger:
    """An engine whose logits must be numbers, and which counts the images it is shown."""

    def __init__(self, model: Model, *, batch: int = BATCH) -> None:
        self.model = model
        self.batch = batch
        self.shown = 0

    def __call__(self, images: Pixels) -> Logits:
        """Logits ``(N, K)`` of any number of images, asked for ``batch`` at a time."""
        starts = range(0, len(images), self.batch)
        logits = np.concatenate([self.model(images[at : at + self.batch]) for at in starts])
        self.shown += len(images)
        if not np.isfinite(logits).all():
            raise EngineFailed(
                "The engine returned logits that are not finite numbers.",
                "Check the model: a weight or a scale is probably infinite or NaN.",
            )
        return logits


def require_classes(clean: Logits) -> None:
    """Raises ``Unsupported`` for an engine that tells no two classes apart."""
    if clean.shape[1] < 2:
        raise Unsupported(
            "The engine answers one number for an image, from which no label follows.",
            "Export a classifier with one logit for each class.",
        )


def require_scores(clean: Logits) -> None:
    """Raises ``Unsupported`` when the logits ``(N, K)`` say no more than the label.

    So it is when the values of a row, sorted, are the same for all of several images.
    """
    require_classes(clean)
    ordered = np.sort(clean, axis=1)
    several = len(clean) > 1 and bool((ordered == ordered[0]).all())
    if several or bool((ordered[:, 0] == ordered[:, -1]).all()):
        raise Unsupported(
            "The engine answers every image with the same scores but for their order, so a search "
            "by scores has nothing to go by.",
            "Use --attack sweep, which needs labels only.",
        )


def require_eligible(clean: Logits, labels: Labels, *, target: int | None) -> None:
    """Raises ``BadInput`` when no image can be won, before the engine is asked in vain."""
    if not metrics.eligible(metrics.predicted(clean), labels, target=target).any():
        raise BadInput(
            f"The engine is right on none of the {len(labels)} images this search could win.",
            "Check that --data is what the model was trained on, or give more --images.",
        )
