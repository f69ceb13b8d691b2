"""The loss of a batch of which a part carries patches: both parts count the same."""

from __future__ import annotations

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
