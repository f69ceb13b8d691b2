"""GAP, the adversarial patch of Brown et al. (arXiv 1712.09665): one patch for all images.

Maximises the expected gain over images and placements: ``log p(target)`` when targeted, else
``-log p(true class)``. Images and places are drawn anew at every step.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .. import streams
from ..data.dataset import Dataset
from ..patch.placement import policy
from ..patch.shape import RECTANGLE
from ..types import Json, Patch
from . import eot
from .parameters import parameters_of
from .universal import Best, Jury, as_bytes, blank, drawn, noise, split
from .victim import Told, Victim, frozen

Loss = Literal["cross_entropy", "margin", "hinge"]
HINGE = 2.0
"""Lead in logits past which ``hinge`` spends no more on an image."""

Ascent = Literal["sign", "adam"]


class Gap:
    """One universal patch by gradient ascent under random placements.

    - ``patch_px``: rows and columns; ``shape``: as of ``patch/shape.py``.
    - ``ascent``: ``sign`` steps by the sign of the gradient, ``adam`` is the optimiser of the
      public versions; ``learning_rate``: its step, in units where pixels are 0 to 1. It falls
      linearly to a tenth, without which the last steps only shake the patch.
    - ``loss``: ``cross_entropy`` as published, or ``margin``: the logit of the best wrong class
      minus that of the true one (targeted: target minus best other), which cannot saturate;
      ``hinge``: the margin, no further than ``HINGE`` past the change of label.
    - ``judged_every``: steps between two patches that may be kept.
    """

    name = "gap"
    needs_gradient = True
    tier = "T1"
    threat: Literal["T-A"] = "T-A"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        placement: str = "random",
        steps: int = 150,
        batch: int = 128,
        ascent: Ascent = "sign",
        learning_rate: float = 0.1,
        loss: Loss = "cross_entropy",
        shape: str = RECTANGLE,
        judged_every: int = 15,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.placement = placement
        self.steps = steps
        self.batch = batch
        self.ascent = ascent
        self.learning_rate = learning_rate
        self.loss = loss
        self.shape = shape
        self.judged_every = judged_every

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self)

    def craft(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Patch:
        """The patch of the ascent that won most on images of ``data`` held out from it."""
        rows, columns = data.images.shape[2:]
        how = policy(self.placement, image_px=min(rows, columns))
        chance = streams.generator(seed, self.name)
        values = noise(chance, self.patch_px).requires_grad_(True)
        like = blank(self.patch_px, target=self.target, shape=self.shape)
        adam = torch.optim.Adam([values], lr=self.learning_rate, maximize=True)
        with frozen(victim):
            fit, held = split(victim, data, target=self.target)
            best = Best(Jury(victim, held, how, seed))
            for now in drawn(
                fit, how, patch_px=self.patch_px, steps=self.steps, batch=self.batch,
                chance=chance, seed=seed, name=self.name,
            ):  # fmt: skip
                step = now.step
                shown = eot.paste(now.images, 255.0 * values, mask=like.mask, placements=now.places)
                logits = victim(eot.to_bytes(shown))
                stride = self.learning_rate * (1.0 - 0.9 * (step - 1) / self.steps)
                gain = self.gain(logits, now.labels)
                (values.grad,) = torch.autograd.grad(gain, values)
                with torch.no_grad():
                    if self.ascent == "sign":
                        values += stride * values.grad.sign()
                    else:
                        adam.param_groups[0]["lr"] = stride
                        adam.step()
                    values.clamp_(0.0, 1.0)
                if step % self.judged_every == 0 or step == self.steps:
                    best.offer(as_bytes(values), like=like)
                told(1, best.told)
        return best.kept

    def gain(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the ascent maximises, averaged over the batch."""
        wanted = labels if self.target is None else torch.full_like(labels, self.target)
        sign = 1.0 if self.target is None else -1.0
        if self.loss == "cross_entropy":
            return sign * functional.cross_entropy(logits, wanted)
        named = logits.gather(1, wanted[:, None]).squeeze(1)
        others = logits.scatter(1, wanted[:, None], -torch.inf).max(dim=1).values
        lead = sign * (others - named)
        return lead.clamp(max=HINGE).mean() if self.loss == "hinge" else lead.mean()
