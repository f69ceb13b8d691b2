"""White-box attacks on single images: what they are, and how they go through a data set.

Each image has a patch and a place of its own, so crafting and scoring images are the same; what is
scored are the bytes found, on a fresh call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .. import streams
from ..data.dataset import Dataset
from ..errors import BadInput
from ..types import Json
from .ascent import Ascent, Gain, Loss, ascend, gain_of
from .kept import Found, Kept
from .parameters import Described
from .victim import Told, Victim, as_pixels, frozen, logits_of

BATCH = 128

Of = Callable[[Tensor], Gain]
"""From labels ``(N,)`` to what is wanted of the logits of those images."""


class PerImage(Described, Protocol):
    """A way to find a patch and a place for each image on a victim that gives gradients.

    ``budget``: gradient steps an image.
    """

    @property
    def target(self) -> int | None: ...
    @property
    def budget(self) -> int: ...

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch and place found for each image of ``data``; no image sways another's.

        ``told`` is called with ``budget`` steps an image in all; those an early end saves count.
        """
        ...


def search(
    attack: PerImage, victim: Victim, *, data: Dataset, how: Ascent, gain: Of, score: Of,
    seed: int, told: Told, lead: Of | None = None, enough: float | None = None,
) -> Found:  # fmt: skip
    """Ascends ``gain`` on each image, in batches, and keeps the largest ``score`` of all attempts.

    ``lead``: as of ``ascend``. Attempts on an image end at a score of ``enough``.
    """
    kept = Kept(data.ids, how.patch_px, shape=how.shape)
    with frozen(victim):
        for start in range(0, len(data), BATCH):
            rows = np.arange(start, min(start + BATCH, len(data)))
            for attempt in range(how.attempts):
                labels = torch.from_numpy(data.labels[rows])
                found = ascend(
                    victim, as_pixels(data.images[rows]), gain=gain(labels),
                    how=replace(how, attempts=1), ids=data.ids[rows],
                    seed=streams.key(seed, attack.name, attempt), score=score(labels),
                    lead=None if lead is None else lead(labels),
                    told=partial(told, len(rows), ""),
                )  # fmt: skip
                kept.offer(found, rows)
                if enough is not None:
                    won = (kept.score[rows] > 0.0) & (kept.score[rows] >= enough)
                    told(int(won.sum()) * (how.attempts - attempt - 1) * how.steps, "")
                    rows = rows[~won]
                if not len(rows):
                    break
    origin: dict[str, Json] = {
        "attack": attack.name, "parameters": attack.parameters, "seed": seed,
    }  # fmt: skip
    return kept.found(target=attack.target, origin=origin, first=lead is not None)


def lead_of(labels: Tensor, *, target: int | None) -> Gain:
    """The margin, but above 0 exactly where the attack has won.

    Integer logits tie, and the lowest index among the maxima is the label: a margin of 0 may be
    either.
    """
    margin = gain_of("margin", labels, target=target)

    def lead(logits: Tensor) -> Tensor:
        found = margin(logits)
        given = logits.argmax(dim=1)
        won = given != labels if target is None else given == target
        return torch.where(won & (found == 0), torch.finfo(found.dtype).tiny, found)

    return lead


def require_classes(victim: Victim, data: Dataset, *, loss: Loss, target: int | None) -> None:
    """Raises ``BadInput`` when the victim knows too few classes for the loss."""
    needed = (3 if target is None else 4) if loss == "dlr" else 2
    with frozen(victim):
        known = logits_of(victim, data.images[:1]).shape[1]
    if known < needed:
        raise BadInput(
            f"The loss {loss} compares {needed} classes; the model knows {known}.",
            "Use the loss margin.",
        )
