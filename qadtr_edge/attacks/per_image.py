"""White-box attacks on single images: what they are, and how they go through a data set.

Each image has a patch and a place of its own, so crafting and scoring images are the same; what is
scored are the bytes found, on a fresh call.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import streams
from ..data.dataset import Dataset
from ..errors import BadInput
from ..types import Json, Labels, Pixels, PlacedPatches
from . import upright
from .ascent import Ascended, Ascent, Gain, Loss, ascend, gain_of
from .victim import Told, Victim, as_pixels, frozen, logits_of

BATCH = 128


class PerImage(Protocol):
    """A way to find a patch and a place for each image on a victim that gives gradients.

    ``name`` and ``parameters`` are part of the key of what it finds. ``tier``, ``threat``: as in
    ``Result``. ``placement``: what the rows call its places. ``budget``: gradient steps an image.
    """

    @property
    def name(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def threat(self) -> str: ...
    @property
    def placement(self) -> str: ...
    @property
    def target(self) -> int | None: ...
    @property
    def budget(self) -> int: ...
    @property
    def parameters(self) -> dict[str, Json]: ...

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> PlacedPatches:
        """The best patch and place found for each image of ``data``; no image sways another's.

        ``told`` is called with ``budget`` steps an image in all; those an early end saves count.
        """
        ...


def search(
    attack: PerImage, victim: Victim, *, data: Dataset, how: Ascent, loss: Loss, seed: int,
    told: Told, temperature: float = 1.0, by_lead: bool = False, enough: float | None = None,
) -> PlacedPatches:  # fmt: skip
    """Ascends ``loss`` on each image, in batches, and keeps the best of all attempts.

    Best is the largest loss, or with ``by_lead`` the largest lead in logits. Attempts on an image
    end at a lead of ``enough``. Logits are divided by ``temperature`` for the loss alone. Raises
    ``BadInput`` when the victim knows too few classes for the loss.
    """
    pixels = np.zeros((len(data), 3, *how.patch_px), np.uint8)
    corners = np.zeros((len(data), 2), np.int64)
    with frozen(victim):
        _require_classes(victim, data, loss=loss, target=attack.target)
        for start in range(0, len(data), BATCH):
            rows = np.arange(start, min(start + BATCH, len(data)))
            scores = np.full(len(rows), -np.inf, np.float32)
            open_ = np.arange(len(rows))
            for attempt in range(how.attempts):
                at = rows[open_]
                labels = torch.from_numpy(data.labels[at])
                gain = gain_of(loss, labels, target=attack.target)
                found = ascend(
                    victim, as_pixels(data.images[at]), gain=_cooled(gain, temperature),
                    how=replace(how, attempts=1), ids=data.ids[at],
                    seed=streams.key(seed, attack.name, attempt),
                    score=lead_of(labels, target=attack.target) if by_lead else None,
                    told=partial(told, len(at), ""),
                )  # fmt: skip
                better = found.score.numpy() > scores[open_]
                _keep(found, better, pixels=pixels, corners=corners, rows=at)
                scores[open_] = np.maximum(scores[open_], found.score.numpy())
                if enough is not None:
                    won = (scores[open_] > 0.0) & (scores[open_] >= enough)
                    left = open_[~won]
                    spared = (how.attempts - attempt - 1) * how.steps
                    told((len(open_) - len(left)) * spared, "")
                    open_ = left
                if not len(open_):
                    break
    return PlacedPatches(
        ids=data.ids,
        pixels=pixels,
        mask=np.ones(how.patch_px, np.bool_),
        placements=upright.placements(torch.from_numpy(corners)),
        target=attack.target,
        origin={"attack": attack.name, "parameters": attack.parameters, "seed": seed},
    )


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


def _cooled(gain: Gain, temperature: float) -> Gain:
    return gain if temperature == 1.0 else lambda logits: gain(logits / temperature)


def _keep(
    found: Ascended, better: NDArray[np.bool_], *, pixels: Pixels, corners: Labels, rows: Labels
) -> None:
    """Writes what is better into the ``rows`` of all."""
    pixels[rows[better]] = found.pixels.numpy()[better].astype(np.uint8)
    corners[rows[better]] = found.corners.numpy()[better]


def _require_classes(victim: Victim, data: Dataset, *, loss: Loss, target: int | None) -> None:
    needed = (3 if target is None else 4) if loss == "dlr" else 2
    known = logits_of(victim, data.images[:1]).shape[1]
    if known < needed:
        raise BadInput(
            f"The loss {loss} compares {needed} classes; the model knows {known}.",
            "Use the loss margin.",
        )
