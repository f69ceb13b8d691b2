"""What a model answers to the images of a unit: as logits, and as labels and margins of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .errors import EngineFailed
from .patch import placed
from .results import Answers, Outcomes
from .types import Labels, Patch, PatchPerImage, Pixels, PlacedPatches, Placements

Logits = NDArray[np.float32]
PixelsOf = Callable[[slice], Pixels]
"""From rows of the images to what is pasted on them: ``(3, h, w)``, or ``(N, 3, h, w)``."""


@runtime_checkable
class Pasting(Protocol):
    """A model that also pastes, where its images lie: an engine with a kernel for it."""

    def pasted(
        self, images: Pixels, pixels: PixelsOf, *, mask: NDArray[np.bool_], placements: Placements
    ) -> Logits | None:
        """Logits ``(N, K)`` of the very bytes that ``patch.paste.paste`` makes of the arguments.

        ``None`` where it has not got them: then they are to be pasted and handed in. An array of
        images that is handed in again is taken to hold the same images, as by ``replay.Subject``.
        """
        ...


def checked(logits: Logits, *, classes: int | None = None) -> Logits:
    """The logits. Raises ``EngineFailed`` when one is no finite number, or not one for each class.

    ``classes``: how many there are, where that is known.
    """
    if classes is not None and logits.shape[1:] != (classes,):
        raise EngineFailed(
            f"The engine answers {logits.shape} to {len(logits)} images of a model with {classes} "
            "classes.",
            "Export it again: qadtr-edge export.",
        )
    if not np.isfinite(logits).all():
        raise EngineFailed(
            "The engine returned logits that are not finite numbers.",
            "Check the model: a weight or a scale is probably infinite or NaN.",
        )
    return logits


def answers(logits: Logits, truth: Labels, *, target: int | None) -> Answers:
    """Labels and margins of ``(N, K)`` logits; raises as ``checked`` does."""
    made = checked(logits)
    return Answers(metrics.predicted(made), metrics.margins(made, truth, target=target))


def queries_median(
    patch: Patch | PatchPerImage | PlacedPatches, outcomes: Outcomes
) -> float | None:
    """Median queries over the eligible images; ``None`` when no search asked the engine."""
    if not isinstance(patch, PlacedPatches) or patch.queries is None:
        return None
    able = metrics.eligible(outcomes.clean.labels, outcomes.truth, target=patch.target)
    return float(np.median(patch.queries[placed.rows_of(patch, outcomes.ids)][able]))
