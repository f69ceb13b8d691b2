"""``plain``: quantization-aware training without patches, the undefended yardstick.

With several widths, one width per step in shuffled cycles: every width once per cycle, in random
order, so that no width is over-fitted (the bit-width cycling of QADT-R, arXiv 2503.07058, alone).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .. import streams
from ..models.quantnet import QuantNet

_BATCH_PIXELS = 100 * 32 * 32  # larger batches leave the cache and take longer


class Plain:
    """Cross-entropy on clean images at the width of the step."""

    name = "plain"

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def width(self, net: QuantNet, step: int) -> int:
        """The width of training step ``step`` (0-based), a pure function of (seed, step)."""
        cycle, place = divmod(step, len(net.widths))
        order = streams.generator(self.seed, "width cycle", cycle).permutation(len(net.widths))
        return net.widths[int(order[place])]

    def loss(self, net: QuantNet, images: Tensor, *, labels: Tensor) -> Tensor:
        """Mean loss of one batch, 0-d, with its graph. ``images (B, 3, H, W) uint8``."""
        logits: Tensor = net(images)
        return functional.cross_entropy(logits, labels)


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
