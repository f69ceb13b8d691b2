"""Recursive distillation: a narrow width is also taught by the next wider one.

From any-precision training (Yu et al., arXiv 1911.07346): soft labels of the next higher width
hold up the accuracy of the narrowest. Here the teacher runs in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..models.quantnet import QuantNet
from .options import bounded


@dataclass(frozen=True)
class DistillOptions:
    """``weight`` of the soft loss, 0 for none; ``below``: the widest width that is taught."""

    weight: float = bounded(0.0, 0.0, high=1e3)
    below: int = bounded(4, 2, high=32)


def taught(
    net: QuantNet, options: DistillOptions, *, shown: Tensor, bits: int, logits: Tensor
) -> Tensor:
    """Cross-entropy of ``logits`` at ``bits`` against the next wider width's, weighted; 0-d.

    0 where nothing is taught. ``net`` is left at ``bits``, in its mode.
    """
    wider = sorted(width for width in net.widths if width > bits)
    if not options.weight or bits > options.below or not wider:
        return logits.new_zeros(())
    was_training = net.training
    with torch.no_grad():
        teacher = net.eval().select(wider[0])(shown).softmax(dim=1)
    net.select(bits).train(was_training)
    return options.weight * functional.cross_entropy(logits, teacher)
