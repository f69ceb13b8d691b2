"""The adaptive attacker: several ways around masked gradients, the best patch of all kept.

Each restart goes another way up: the margin through clipped and through identity straight-through
gradients (BPDA, Athalye et al., arXiv 1802.00420), the difference of logits ratio, cross-entropy at
three temperatures (Gupta and Ajanthan, arXiv 2003.13511), and the margin of logits averaged over
input noise, which undoes gradients that a defence made rough. Steps and moves are those of
``ascent.py``. Averaging over widths is the victim's: ``widths``. Whatever way found it, a patch
counts by its margin on the victim itself.

Sign steps do not feel the scale of a margin, so temperatures go with cross-entropy alone. They are
multiples of each image's own gap between its two largest clean logits (this project's choice: a
median over images would let one image sway another).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import streams
from ..data.dataset import Dataset
from ..integer.twin import Backward, Twin
from ..patch.shape import RECTANGLE
from ..types import Json
from . import upright
from .ascent import KAPPAS, Ascended, Ascent, Gain, Loss, Moves, ascend, gain_of
from .kept import Found, Kept
from .parameters import parameters_of
from .per_image import BATCH, lead_of
from .victim import Told, Victim, as_pixels, frozen


class Way(NamedTuple):
    """One way up.

    ``gaps``: temperature of the logits in the loss, in gaps of the image; ``None``: 1 logit.
    """

    loss: Loss
    gaps: float | None = None
    backward: Backward = "clipped"
    noisy: bool = False


WAYS = (
    Way("margin"),
    Way("margin", backward="identity"),
    Way("dlr"),
    Way("cross_entropy", gaps=1.0),
    Way("margin", noisy=True),
    Way("cross_entropy", gaps=4.0),
    Way("cross_entropy", gaps=0.25),
)
"""Restart r goes way r, round and round; ways that a victim does not have are left out."""

SIGMA = 8.0
"""Deviation of the input noise, in pixel values: that of the inference defence it is made for."""


class Adaptive:
    """One patch and place for each image; ``restarts`` are shared by the ways in turn.

    ``noises``: patterns that the noisy way averages over, at as many passes a step; the victim's
    answer without noise is one of what is averaged. Other options as in ``Ascent``.
    """

    name = "adaptive"
    needs_gradient = True
    tier = "T3"
    threat: Literal["T-C"] = "T-C"
    placement = "searched"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        steps: int = 100,
        step_size: float = 0.05,
        restarts: int = 10,
        moves: Moves = "random",
        stride: int = 2,
        noises: int = 3,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.steps = steps
        self.step_size = step_size
        self.restarts = restarts
        self.moves = moves
        self.stride = stride
        self.noises = noises
        self.shape = shape

    @property
    def budget(self) -> int:
        return self.steps * self.restarts

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch and place of largest margin that any way found on each image of ``data``."""
        kept = Kept(data.ids, self.patch_px, shape=self.shape)
        how = Ascent(
            patch_px=self.patch_px, steps=self.steps, step_size=self.step_size, moves=self.moves,
            stride=self.stride, shape=self.shape,
        )  # fmt: skip
        image_px = (data.images.shape[2], data.images.shape[3])
        noise = self._noise(image_px, seed=seed)
        with frozen(victim):
            for start in range(0, len(data), BATCH):
                rows = np.arange(start, min(start + BATCH, len(data)))
                images, ids = as_pixels(data.images[rows]), data.ids[rows]
                labels = torch.from_numpy(data.labels[rows])
                with torch.no_grad():
                    clean = victim(images).float()
                ways = ways_of(victim, clean.shape[1], target=self.target)
                lead = lead_of(labels, target=self.target)
                for attempt in range(self.restarts):
                    way = ways[attempt % len(ways)]
                    found = ascend(
                        _taken(victim, way, noise), images,
                        gain=_gain(way, labels, clean, target=self.target), how=how,
                        ids=ids, seed=streams.key(seed, self.name, attempt), score=lead, lead=lead,
                        told=partial(told, len(rows), ""),
                    )  # fmt: skip
                    again = judged(found, victim, images=images, mask=how.mask, lead=lead)
                    kept.offer(again, rows)
        origin: dict[str, Json] = {
            "attack": self.name, "parameters": self.parameters, "seed": seed,
        }  # fmt: skip
        return kept.found(target=self.target, origin=origin)

    def _noise(self, image_px: tuple[int, int], *, seed: int) -> Tensor:
        """Patterns ``(noises, 3, H, W)``, the same for all images: none sways another's."""
        chance = streams.generator(seed, self.name, "noise")
        drawn = SIGMA * chance.standard_normal((self.noises, 3, *image_px))
        return torch.from_numpy(drawn.astype(np.float32))


def ways_of(victim: Victim, classes: int, *, target: int | None) -> tuple[Way, ...]:
    """The ways this victim can be taken.

    Only the twin of an integer graph has an identity rule of its own, and the difference of logits
    ratio compares three classes, targeted four.
    """
    needed = 3 if target is None else 4
    return tuple(
        way
        for way in WAYS
        if (way.backward == "clipped" or isinstance(victim, Twin))
        and (way.loss != "dlr" or classes >= needed)
    )


class Smoothed(nn.Module):
    """The mean logits of a victim over the image and the image under each noise pattern."""

    def __init__(self, victim: Victim, noise: Tensor) -> None:
        super().__init__()
        self.victim = victim
        self.noise = noise

    def forward(self, pixels: Tensor) -> Tensor:
        each = [pixels, *(pixels + pattern for pattern in self.noise)]
        return torch.stack([self.victim(shown) for shown in each]).mean(dim=0)


@torch.no_grad()
def judged(
    found: Ascended, victim: Victim, *, images: Tensor, mask: Tensor | None, lead: Gain
) -> Ascended:
    """What was found through one way, with the leads it has on the victim itself."""

    def of(pixels: Tensor, corners: Tensor) -> Tensor:
        shown = upright.paste(images, pixels, corners=corners, mask=mask)
        return lead(victim(shown).float())

    first = []
    for kappa, one in zip(KAPPAS, found.first, strict=True):
        there = of(one.pixels, one.corners)
        first.append(one._replace(reached=one.reached & (there > 0.0) & (there >= kappa)))
    return found._replace(score=of(found.pixels, found.corners), first=tuple(first))


def _taken(victim: Victim, way: Way, noise: Tensor) -> Victim:
    """The victim as this way sees it."""
    if way.backward == "identity":
        assert isinstance(victim, Twin)
        return Twin(victim.graph, backward="identity")
    return Smoothed(victim, noise) if way.noisy else victim


def _gain(way: Way, labels: Tensor, clean: Tensor, *, target: int | None) -> Gain:
    plain = gain_of(way.loss, labels, target=target)
    if way.gaps is None:
        return plain
    top = clean.topk(2, dim=1).values
    temperature = way.gaps * (top[:, :1] - top[:, 1:]).clamp_min(torch.finfo(torch.float32).eps)
    return lambda logits: plain(logits / temperature)
