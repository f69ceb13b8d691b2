"""PGD-patch: sign steps on each image's own patch, restarted, the largest margin kept.

Projected gradient ascent (Madry et al., arXiv 1706.06083) on the pixels of a patch. Through the
straight-through gradients of a quantized victim it is the upper bound that white-box knowledge
gives; where a search without gradients beats it, gradients are masked. The losses are those of
``ascent.py``; cross-entropy saturates, so its logits can be divided by a temperature first (Gupta
and Ajanthan, AAAI 2022).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.placement import Policy, check_fit, policy
from ..patch.shape import RECTANGLE
from ..types import Json
from . import per_image
from .ascent import Ascent, Gain, Loss, Moves, gain_of
from .kept import Found
from .parameters import parameters_of
from .victim import Told, Victim


class Pgd:
    """One patch for each image, at places drawn anew for each restart, of which the best is kept.

    - ``placement``: ``plain``, any place; or one place, ``centre`` or ``fixed:TOP,LEFT``;
      or those ``within:`` a region.
    - ``moves``: as LOAP moves, or ``none``. ``temperature``: of the logits in the loss.
    - ``kappa``: restarts on an image end when it is won by this margin in logits; ``None``: never.
    - ``shape``: as of ``patch/shape.py``.
    """

    name = "pgd"
    needs_gradient = True
    tier = "T3"
    threat: Literal["T-C"] = "T-C"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        placement: str = "plain",
        steps: int = 100,
        step_size: float = 0.05,
        restarts: int = 10,
        loss: Loss = "margin",
        temperature: float = 1.0,
        moves: Moves = "none",
        stride: int = 2,
        kappa: float | None = None,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.placement = placement
        self.steps = steps
        self.step_size = step_size
        self.restarts = restarts
        self.loss = loss
        self.temperature = temperature
        self.moves = moves
        self.stride = stride
        self.kappa = kappa
        self.shape = shape

    @property
    def budget(self) -> int:
        return self.steps * self.restarts

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def search(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Found:
        """The patch of largest margin found on each image of ``data``.

        Raises ``BadInput`` for a placement that rotates, and for a loss that compares more classes
        than there are.
        """
        image_px = (data.images.shape[2], data.images.shape[3])
        places = self._upright(image_px)
        how = Ascent(
            patch_px=self.patch_px, steps=self.steps, step_size=self.step_size, moves=self.moves,
            stride=self.stride, attempts=self.restarts, corner=self._corner(places, image_px),
            within=places.within, shape=self.shape,
        )  # fmt: skip
        per_image.require_classes(victim, data, loss=self.loss, target=self.target)
        lead = partial(per_image.lead_of, target=self.target)
        return per_image.search(
            self, victim, data=data, how=how, gain=self._gain, score=lead, lead=lead,
            enough=self.kappa, seed=seed, told=told,
        )  # fmt: skip

    def _gain(self, labels: Tensor) -> Gain:
        plain = gain_of(self.loss, labels, target=self.target)
        return lambda logits: plain(logits / self.temperature)

    def _upright(self, image_px: tuple[int, int]) -> Policy:
        """The policy of the placement, which keeps patches as they are stored."""
        how = policy(self.placement, image_px=min(image_px))
        check_fit(how, self.patch_px, image_px=image_px)
        if not how.is_upright or how.is_lit or how.copies > 1:
            raise BadInput(
                f"{self.name} shows one patch as it is stored, and the placement {how.name} "
                "does not.",
                "Give --placement plain, centre, fixed:TOP,LEFT or within:MASK.png.",
            )
        return how

    def _corner(self, how: Policy, image_px: tuple[int, int]) -> tuple[int, int] | None:
        """The one place of the placement, or ``None`` when there are several."""
        if how.centred:
            top, left = ((o - i) // 2 for o, i in zip(image_px, self.patch_px, strict=True))
            return top, left
        return how.corner
