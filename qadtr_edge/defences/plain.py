"""``plain`` and ``plain-cycle``: quantization-aware training without patches, the yardsticks.

``plain`` at one width is what everybody trains. With several widths its weights are shared, one
width a step in shuffled cycles; that is ``plain-cycle``, the bit-width cycling of QADT-R alone
(arXiv 2503.07058).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from ..models.quantnet import QuantNet
from ..types import FLOAT_BITS
from .dbwt import DbwtOptions, widths_at
from .defence import Batch, Stateless, Step
from .distill import DistillOptions, taught
from .mixed import told_accuracy

_BATCH_PIXELS = 100 * 32 * 32  # larger batches leave the cache and take longer


@dataclass(frozen=True)
class PlainOptions:
    """``dbwt``: how several widths take turns; ``distill``: how narrow ones are taught."""

    dbwt: DbwtOptions = field(default_factory=DbwtOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)


class Plain(Stateless):
    """Cross-entropy on clean images at the width of the step."""

    name = "plain"
    Options = PlainOptions

    def __init__(self, options: PlainOptions, *, seed: int) -> None:
        self.options = options
        self.seed = seed

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """Mean cross-entropy, averaged over the widths of the step."""
        losses, told = [], dict[str, float]()
        for bits in widths_at(
            self.options.dbwt, net.widths, seed=self.seed, step=batch.step, steps=batch.steps,
            epoch=batch.epoch,
        ):  # fmt: skip
            logits = net.train().select(bits)(batch.images)
            soft = taught(net, self.options.distill, shown=batch.images, bits=bits, logits=logits)
            losses.append(functional.cross_entropy(logits, batch.labels) + soft)
            told |= told_accuracy(logits, batch.labels, patched=0, bits=bits)
        return Step(torch.stack(losses).mean(), batch.images, told)


class PlainCycle(Plain):
    """The same under the name that says what it is compared for: DBWT without patches or GIR."""

    name = "plain-cycle"


class FloatOnly(Stateless):
    """Cross-entropy on clean images at width 32: how a fresh network begins."""

    name = "float"

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """Mean cross-entropy of the float network."""
        logits = net.train().select(FLOAT_BITS)(batch.images)
        told = told_accuracy(logits, batch.labels, patched=0, bits=FLOAT_BITS)
        return Step(functional.cross_entropy(logits, batch.labels), batch.images, told)


def accuracy(net: QuantNet, images: Tensor, *, labels: Tensor) -> float:
    """Share of images classified right at the selected width, in evaluation mode, 0 to 1."""
    size = max(1, _BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    was_training = net.training
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(x).argmax(1) == y).sum())
            for x, y in zip(images.split(size), labels.split(size), strict=True)
        )
    net.train(was_training)
    return right / len(labels)
