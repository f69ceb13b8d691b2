"""LOAP, the location-optimized attack of PBAT (Rao, Stutz and Schiele, arXiv 2005.02313).

The ascent is in ``ascent.py``. Published: cross-entropy, 100 steps of 0.05, 30 attempts, places
that leave the central 10x10 pixels of a 32x32 image free (``avoid_px=10``).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from ..data.dataset import Dataset
from ..patch.shape import RECTANGLE
from ..types import Json
from . import per_image
from .ascent import Ascent, Moves, gain_of
from .kept import Found
from .parameters import parameters_of
from .victim import Told, Victim


class Loap:
    """One patch and place for each image by sign steps and moves; the largest loss is kept.

    Options as in ``Ascent``; ``attempts`` are new noise at a new place.
    """

    name = "loap"
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
        moves: Moves = "random",
        stride: int = 2,
        avoid_px: int = 0,
        attempts: int = 10,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.steps = steps
        self.step_size = step_size
        self.moves = moves
        self.stride = stride
        self.avoid_px = avoid_px
        self.attempts = attempts
        self.shape = shape

    @property
    def budget(self) -> int:
        return self.steps * self.attempts

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch and place of largest cross-entropy found on each image of ``data``."""
        how = Ascent(
            patch_px=self.patch_px, steps=self.steps, step_size=self.step_size, moves=self.moves,
            stride=self.stride, avoid_px=self.avoid_px, shape=self.shape, attempts=self.attempts,
        )  # fmt: skip
        loss = partial(gain_of, "cross_entropy", target=self.target)
        return per_image.search(
            self, victim, data=data, how=how, gain=loss, score=loss,
            lead=partial(per_image.lead_of, target=self.target), seed=seed, told=told,
        )  # fmt: skip
