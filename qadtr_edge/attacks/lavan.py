"""LaVAN (Karmon et al., arXiv 1801.02608): a patch by plain normalised gradient steps, no rotation.

The loss is cross-entropy of the target minus that of the true class, whose log-sum-exp cancels: it
is exactly ``z_target - z_true``, here maximised. Dividing the gradient by its largest entry is this
project's choice, and so is the untargeted form: each image's target is then the wrong class its
victim finds most likely when clean, and success is any wrong label.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import streams
from ..data.dataset import Dataset
from ..patch.placement import policy
from ..patch.shape import RECTANGLE
from ..types import Json, Labels, Patch
from . import eot
from .parameters import parameters_of
from .universal import Best, Jury, as_bytes, blank, drawn, noise, split
from .victim import Told, Victim, frozen, logits_of


class Lavan:
    """One universal patch, untransformed; places are random, or one with ``fixed:TOP,LEFT``.

    ``patch_px``: rows and columns; ``shape``: as of ``patch/shape.py``. ``step_size``: in units
    where pixels are 0 to 1.
    """

    name = "lavan"
    needs_gradient = True
    tier = "T1"
    threat: Literal["T-A"] = "T-A"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        placement: str = "plain",
        steps: int = 150,
        batch: int = 64,
        step_size: float = 0.05,
        judged_every: int = 15,
        shape: str = RECTANGLE,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.placement = placement
        self.steps = steps
        self.batch = batch
        self.step_size = step_size
        self.judged_every = judged_every
        self.shape = shape

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def craft(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Patch:
        """The patch of the ascent that won most on images of ``data`` held out from it."""
        rows, columns = data.images.shape[2:]
        how = policy(self.placement, image_px=min(rows, columns))
        chance = streams.generator(seed, self.name)
        values = noise(chance, self.patch_px)
        like = blank(self.patch_px, target=self.target, shape=self.shape)
        with frozen(victim):
            fit, held = split(victim, data, target=self.target)
            best = Best(Jury(victim, held, how, seed))
            targets = self._targets(victim, fit)
            for now in drawn(
                fit, how, patch_px=self.patch_px, steps=self.steps, batch=self.batch,
                chance=chance, seed=seed, name=self.name,
            ):  # fmt: skip
                step = now.step
                values = values.detach().requires_grad_(True)
                shown = eot.paste(now.images, 255.0 * values, mask=like.mask, placements=now.places)
                logits = victim(eot.to_bytes(shown))
                lead = _logit(logits, targets[now.chosen]) - _logit(logits, fit.labels[now.chosen])
                (gradient,) = torch.autograd.grad(lead.mean(), values)
                stride = self.step_size / gradient.abs().max().clamp_min(1e-30)
                values = (values.detach() + stride * gradient).clamp(0.0, 1.0)
                if step % self.judged_every == 0 or step == self.steps:
                    best.offer(as_bytes(values), like=like)
                told(1, best.told)
        return best.kept

    def _targets(self, victim: Victim, data: Dataset) -> Labels:
        """The class each image is pushed to."""
        if self.target is not None:
            return np.full(len(data), self.target, np.int64)
        wrong = logits_of(victim, data.images)
        wrong[np.arange(len(data)), data.labels] = -np.inf
        likeliest: Labels = wrong.argmax(axis=1).astype(np.int64)
        return likeliest


def _logit(logits: Tensor, classes: Labels) -> Tensor:
    """The logit of one class per image."""
    return logits.gather(1, torch.from_numpy(classes)[:, None]).squeeze(1)
