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
        self.target = target
        self.how = Ascent(
            patch_px=patch_px, steps=steps, step_size=step_size, moves=moves, stride=stride,
            avoid_px=avoid_px, shape=shape, attempts=attempts,
        )  # fmt: skip

    @property
    def budget(self) -> int:
        return self.how.steps * self.how.attempts

    @property
    def parameters(self) -> dict[str, Json]:
        how = self.how
        return {
            "patch_px": list(how.patch_px),
            "target": self.target,
            "steps": how.steps,
            "step_size": how.step_size,
            "moves": how.moves,
            "stride": how.stride,
            "avoid_px": how.avoid_px,
            "attempts": how.attempts,
            **({} if how.shape == RECTANGLE else {"shape": how.shape}),
        }

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch and place of largest cross-entropy found on each image of ``data``."""
        loss = partial(gain_of, "cross_entropy", target=self.target)
        return per_image.search(
            self, victim, data=data, how=self.how, gain=loss, score=loss,
            lead=partial(per_image.lead_of, target=self.target), seed=seed, told=told,
        )  # fmt: skip
