"""Differential patches: the engine is wrong and the float model it was made from stays right.

The idea of DIVA (Hao et al., MLSys 2022, arXiv 2204.10933), for patches: only deployment has this
failure, and whoever validates on the server never sees it. On each image the margin of the
quantized network is ascended less a weighted hinge on the float model's: a step pushes both until
the float model tips over, and from there only their difference. Steps are those of ``ascent.py``.
The margins in place of DIVA's probabilities, the hinge and what is kept are this project's choice.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..patch.shape import RECTANGLE
from ..types import Json
from . import per_image
from .ascent import Ascent, Gain, Moves, gain_of
from .kept import Found
from .parameters import parameters_of
from .victim import Told, Victim


class Both(nn.Module):
    """Two networks shown the same pixels: logits ``(N, 2K)``, first of the one that is to fall."""

    def __init__(self, quantized: Victim, original: Victim) -> None:
        super().__init__()
        self.quantized = quantized
        self.original = original

    def forward(self, pixels: Tensor) -> Tensor:
        each = [self.quantized(pixels).float(), self.original(pixels).float()]
        return torch.cat(each, dim=1)


class Differential:
    """One patch and place for each image against ``Both``; of all restarts the best is kept.

    Best is the largest of the smaller of two margins: by which the quantized network is lost and by
    which the float model is right. ``weight``: of the hinge. Other options as in ``Ascent``.
    """

    name = "differential"
    needs_gradient = True
    tier = "T7"
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
        weight: float = 1.0,
        moves: Moves = "none",
        stride: int = 2,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.steps = steps
        self.step_size = step_size
        self.restarts = restarts
        self.weight = weight
        self.moves = moves
        self.stride = stride
        self.shape = shape

    @property
    def budget(self) -> int:
        return self.steps * self.restarts

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self)

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch of largest ``score`` found on each image of ``data``; ``victim``: ``Both``."""
        how = Ascent(
            patch_px=self.patch_px, steps=self.steps, step_size=self.step_size, moves=self.moves,
            stride=self.stride, attempts=self.restarts, shape=self.shape,
        )  # fmt: skip
        return per_image.search(
            self, victim, data=data, how=how, gain=self.gain, score=self.score, seed=seed, told=told
        )

    def gain(self, labels: Tensor) -> Gain:
        """The margin on the quantized network less the hinge on that on the float model."""
        falls = gain_of("margin", labels, target=self.target)
        follows = gain_of("margin", labels)

        def ascended(logits: Tensor) -> Tensor:
            quantized, original = logits.chunk(2, dim=1)
            return falls(quantized) - self.weight * follows(original).relu()

        return ascended

    def score(self, labels: Tensor) -> Gain:
        """Above 0 exactly where the quantized network is lost and the float model is right."""
        falls = per_image.lead_of(labels, target=self.target)
        follows = per_image.lead_of(labels, target=None)

        def smaller(logits: Tensor) -> Tensor:
            quantized, original = logits.chunk(2, dim=1)
            held = -follows(original)
            held = held.where(held != 0, torch.finfo(held.dtype).tiny)
            return falls(quantized).minimum(held)

        return smaller
