"""An engine as a plain function, which is all that Sparse-RS, AutoAttack and foolbox ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..replay import BATCH, Logits, Model
from .attacked import to_bytes

if TYPE_CHECKING:
    from torch import Tensor


def on_arrays(
    model: Model, *, top: float = 1.0, batch: int = BATCH
) -> Callable[[NDArray[np.floating]], Logits]:
    """From images ``(N, 3, H, W)`` of 0 to ``top`` to logits ``(N, K) float32``, in batches."""

    def logits(images: NDArray[np.floating]) -> Logits:
        shown = to_bytes(np.asarray(images), top=top)
        parts = [model(shown[at : at + batch]) for at in range(0, len(shown), batch)]
        return np.concatenate(parts)

    return logits


def on_tensors(model: Model, *, top: float = 1.0, batch: int = BATCH) -> Callable[[Tensor], Tensor]:
    """The same from tensor to tensor, on the device of the images. It has no gradient.

    Sparse-RS: ``RSAttack(on_tensors(engine), norm="patches", …)``; AutoAttack:
    ``AutoAttack(on_tensors(engine), attacks_to_run=["square"], version="custom", …)``.
    """
    import torch

    arrays = on_arrays(model, top=top, batch=batch)

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(arrays(images.detach().cpu().numpy())).to(images.device)

    return logits
