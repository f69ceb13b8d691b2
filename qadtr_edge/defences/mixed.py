"""The loss of a batch of which a part carries patches: both parts count the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mixed_loss(logits: Tensor, labels: Tensor, *, patched: int) -> Tensor:
    """Half the mean cross-entropy of the clean images, half that of the last ``patched`` ones.

    With only clean or only patched images it is their mean.
    """
    if not 0 < patched < len(labels):
        return functional.cross_entropy(logits, labels)
    clean = functional.cross_entropy(logits[:-patched], labels[:-patched])
    return 0.5 * (clean + functional.cross_entropy(logits[-patched:], labels[-patched:]))


@torch.no_grad()
def told_accuracy(
    logits: Tensor, labels: Tensor, *, patched: int, bits: int, kind: str = "patched"
) -> dict[str, float]:
    """Training accuracy of both parts at this width, as ``clean_w8`` and ``patched_w8``, 0 to 1.

    A part without images has no entry; ``kind`` names the last ``patched`` ones.
    """
    right = (logits.argmax(dim=1) == labels).float()
    clean = len(labels) - patched
    found = {}
    if clean:
        found[f"clean_w{bits}"] = float(right[:clean].mean())
    if patched:
        found[f"{kind}_w{bits}"] = float(right[clean:].mean())
    return found
