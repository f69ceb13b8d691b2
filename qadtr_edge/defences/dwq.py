"""``dwq-pixel`` and ``dwq-patch``: random precision training on attacks at the drawn width.

Double-Win Quant (Fu et al., ICML 2021), written from its description: at each step a width is drawn
and the batch is attacked by L-infinity PGD and trained on at that width. ``dwq-pixel`` is that: it
never sees a patch. ``dwq-patch`` puts patches in place of the pixel attack on half of a batch,
which is this project's. The quantizer and the widths are the project's own for all recipes, not the
affine one of the paper. Its random precision at inference is a choice among engines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import streams
from ..attacks.ascent import gain_of
from ..models.quantnet import QuantNet
from .dbwt import DbwtOptions, widths_at
from .defence import Batch, Stateless, Step, attacking
from .distill import DistillOptions, taught
from .mixed import mixed_loss, told_accuracy
from .options import bounded
from .pbat import PatchAttackOptions, Pbat, PbatOptions


@dataclass(frozen=True)
class PixelAttackOptions:
    """- ``steps``: sign steps; ``eps``, ``step_size``: largest change of a pixel and length of a
      step, in units of 0..1; the start is uniform within ``eps``.
    - ``bn``: batch norm under attack: ``train`` the batch's own statistics, as published, with the
      running ones left alone, or ``eval``.
    """

    steps: int = bounded(7, 0, high=1000)
    eps: float = bounded(8 / 255, 0.0, high=1.0)
    step_size: float = bounded(2 / 255, 0.0, high=1.0)
    bn: Literal["eval", "train"] = "train"


@dataclass(frozen=True)
class DwqPixelOptions:
    """- ``share``: part of a batch attacked; the published recipe attacks all of it.
    - ``attack``: how; ``dbwt``: how widths take turns; ``distill``: how narrow ones are taught.
    """

    share: float = bounded(1.0, 0.0, high=1.0)
    attack: PixelAttackOptions = field(default_factory=PixelAttackOptions)
    dbwt: DbwtOptions = field(default_factory=lambda: DbwtOptions(order="random"))
    distill: DistillOptions = field(default_factory=DistillOptions)


class DwqPixel(Stateless):
    """Random precision training with PGD on all pixels."""

    name = "dwq-pixel"
    Options = DwqPixelOptions

    def __init__(self, options: DwqPixelOptions, *, seed: int) -> None:
        self.options = options
        self.seed = seed

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """Cross-entropy of the attacked batch, averaged over the widths of the step."""
        options, labels = self.options, batch.labels
        attacked = round(options.share * len(labels))
        told: dict[str, float] = {}
        shown, losses = batch.images.float(), []
        for bits in widths_at(
            options.dbwt, net.widths, seed=self.seed, step=batch.step, steps=batch.steps,
            epoch=batch.epoch,
        ):  # fmt: skip
            net.select(bits)
            if attacked:
                made = perturbed_images(
                    net, batch.images[-attacked:], labels=labels[-attacked:],
                    options=options.attack, seed=streams.key(self.seed, self.name, batch.step),
                    part=batch.part,
                )  # fmt: skip
                shown = torch.cat([batch.images[:-attacked].float(), made])
            shown = shown.contiguous(memory_format=torch.channels_last)
            logits = net.train()(shown)
            soft = taught(net, options.distill, shown=shown, bits=bits, logits=logits)
            losses.append(mixed_loss(logits, labels, patched=attacked) + soft)
            told |= told_accuracy(logits, labels, patched=attacked, bits=bits, kind="perturbed")
        return Step(torch.stack(losses).mean(), shown, told)


@dataclass(frozen=True)
class DwqPatchOptions(PbatOptions):
    """As ``pbat``, with 7 steps, no moves, and widths drawn at random."""

    attack: PatchAttackOptions = field(
        default_factory=lambda: PatchAttackOptions(steps=7, moves="none")
    )
    dbwt: DbwtOptions = field(default_factory=lambda: DbwtOptions(order="random"))


class DwqPatch(Pbat):
    """Random precision training with a patch on half of the images: no pool, no pair, no GIR."""

    name = "dwq-patch"
    Options = DwqPatchOptions


def perturbed_images(
    net: QuantNet, images: Tensor, *, labels: Tensor, options: PixelAttackOptions, seed: int,
    part: int = 0,
) -> Tensor:  # fmt: skip
    """``images (N, 3, H, W) uint8`` after PGD at the selected width: float32, whole 0..255.

    No pixel differs by more than ``eps``. ``part``: which N of the images of all processes they
    are. ``net`` is left as it was.
    """
    pixels = images.float().contiguous(memory_format=torch.channels_last)
    most, stride = 255.0 * options.eps, 255.0 * options.step_size
    whole = math.floor(most + 1e-6)
    chance = streams.generator(seed, "pgd")
    n = len(pixels)  # a part draws those before it too: together they draw what one process would
    shape = ((part + 1) * n, *pixels.shape[1:])
    start = chance.integers(-whole, whole, shape, dtype=np.int16, endpoint=True)[part * n :]
    gain = gain_of("cross_entropy", labels)
    low, high = (pixels - most).clamp_min(0.0), (pixels + most).clamp_max(255.0)
    moved = (pixels + torch.from_numpy(start).to(pixels)).clamp(0.0, 255.0)
    with attacking(net, options.bn):
        for _ in range(options.steps):
            moved = moved.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(gain(net(moved)).sum(), moved)
            moved = (moved.detach() + stride * gradient.sign()).clamp(low, high)
    return pixels + (moved.detach() - pixels).round().clamp(-whole, whole)
