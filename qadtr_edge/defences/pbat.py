"""``pbat`` and ``pbat-fp``: adversarial training on location-optimized patches, one for each image.

Rao, Stutz and Schiele (arXiv 2005.02313), written from the paper: half of each batch is attacked
from scratch, the loss is half clean and half patched. Here the attack runs inside the quantized
network, at the width of the step, which is this project's carrying over; ``pbat-fp`` is the order
of the papers that quantize afterwards. Patches are per image; whether others who report "PBAT"
used universal ones is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .. import streams
from ..attacks import upright
from ..attacks.ascent import Ascent, ascend, gain_of
from ..errors import BadInput
from ..models.quantnet import QuantNet
from ..types import FLOAT_BITS
from .dbwt import DbwtOptions, widths_at
from .defence import Batch, Stateless, Step, attacking
from .distill import DistillOptions, taught
from .mixed import mixed_loss, told_accuracy
from .options import bounded


@dataclass(frozen=True)
class PatchAttackOptions:
    """- ``steps``, ``step_size``: sign steps from uniform noise, their length in units of 0..1.
    - ``moves``: after a step the patch tries ``random`` one direction, ``full`` all four, or
      ``none``, by ``stride`` pixels.
    - ``patch_px``: side; ``avoid_px``: side of the central square no patch touches, 0 for none (the
      paper: 10); ``attempts``: starts, of which the worst for the network is used.
    - ``bn``: batch norm under attack: ``eval`` running statistics, ``train`` the batch's own.
    """

    steps: int = bounded(25, 0, high=1000)
    step_size: float = bounded(0.1, 0.0, high=1.0)
    moves: Literal["random", "full", "none"] = "random"
    stride: int = bounded(2, 1, high=4096)
    patch_px: int = bounded(6, 1, high=4096)
    avoid_px: int = bounded(0, 0, high=4096)
    attempts: int = bounded(1, 1, high=1000)
    bn: Literal["eval", "train"] = "eval"


@dataclass(frozen=True)
class PbatOptions:
    """- ``share``: part of a batch patched; ``attack``: how.
    - ``dbwt``: how several widths take turns; ``distill``: how narrow ones are taught.
    """

    share: float = bounded(0.5, 0.0, high=1.0)
    attack: PatchAttackOptions = field(default_factory=PatchAttackOptions)
    dbwt: DbwtOptions = field(default_factory=DbwtOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)


class Pbat(Stateless):
    """Part of each batch attacked at the width of the step, each image by a patch of its own."""

    name = "pbat"
    Options = PbatOptions

    def __init__(self, options: PbatOptions, *, seed: int) -> None:
        self.options = options
        self.seed = seed

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """Cross-entropy of the mixed batch, averaged over the widths of the step."""
        return self._step(net, batch, widths=net.widths, share=self.options.share)

    def _step(self, net: QuantNet, batch: Batch, *, widths: Sequence[int], share: float) -> Step:
        """At widths of ``widths``, each with patches made against it."""
        options, labels = self.options, batch.labels
        patched = round(share * len(labels))
        told: dict[str, float] = {}
        shown, losses = batch.images.float(), []
        for bits in widths_at(
            options.dbwt, widths, seed=self.seed, step=batch.step, steps=batch.steps,
            epoch=batch.epoch,
        ):  # fmt: skip
            net.select(bits)
            if patched:
                made = patched_images(
                    net, batch.images[-patched:], labels=labels[-patched:],
                    options=options.attack, seed=streams.key(self.seed, self.name, batch.step),
                    part=batch.part,
                )  # fmt: skip
                shown = torch.cat([batch.images[:-patched].float(), made])
            shown = shown.contiguous(memory_format=torch.channels_last)
            logits = net.train()(shown)
            soft = taught(net, options.distill, shown=shown, bits=bits, logits=logits)
            losses.append(mixed_loss(logits, labels, patched=patched) + soft)
            told |= told_accuracy(logits, labels, patched=patched, bits=bits)
        return Step(torch.stack(losses).mean(), shown, told)


class PbatFp(Pbat):
    """PBAT on the float network, then clean quantization-aware training at the other widths."""

    name = "pbat-fp"
    float_share = 0.9

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """PBAT at width 32 in the float phase; afterwards clean cross-entropy. Needs width 32."""
        if batch.kind == "float":
            if FLOAT_BITS not in net.widths:
                raise BadInput(
                    f"{self.name} begins with training at width {FLOAT_BITS}, which --bits leaves "
                    "out.",
                    f"Add {FLOAT_BITS} to --bits, or use --recipe pbat.",
                )
            return self._step(net, batch, widths=(FLOAT_BITS,), share=self.options.share)
        quantized = [bits for bits in net.widths if bits != FLOAT_BITS]
        return self._step(net, batch, widths=quantized, share=0.0)


def patched_images(
    net: QuantNet, images: Tensor, *, labels: Tensor, options: PatchAttackOptions, seed: int,
    part: int = 0,
) -> Tensor:  # fmt: skip
    """``images (N, 3, H, W) uint8``, a patch on each, made at the selected width of ``net``.

    Float32, whole numbers 0..255. ``part``: which N of the images of all processes they are.
    ``net`` is left as it was.
    """
    pixels = images.float().contiguous(memory_format=torch.channels_last)
    how = Ascent(
        patch_px=(options.patch_px, options.patch_px), steps=options.steps,
        step_size=options.step_size, moves=options.moves, stride=options.stride,
        avoid_px=options.avoid_px, attempts=options.attempts,
    )  # fmt: skip
    with attacking(net, options.bn):
        found = ascend(
            net, pixels, gain=gain_of("cross_entropy", labels), how=how,
            ids=part * len(labels) + np.arange(len(labels)), seed=seed,
        )  # fmt: skip
    return upright.paste(pixels, found.pixels, corners=found.corners)
