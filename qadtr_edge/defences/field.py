"""The images of one training step and the places of patches on them, for ascents that train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..attacks import eot
from ..models.quantnet import QuantNet
from ..patch.placement import place, policy
from ..patch.places import joined, taken
from ..types import Placements


class Field:
    """The images of one call, and the places on them."""

    def __init__(
        self, victim: QuantNet, pixels: Tensor, *, side: int, placement: str, seed: int,
        part: int = 0,
    ) -> None:  # fmt: skip
        """``pixels (N, 3, H, W) float32`` in 0..255; ``side`` of the patches.

        ``part``: which N of the images of all processes they are.
        """
        self.victim, self.pixels, self.seed = victim, pixels, seed
        self.ids = part * len(pixels) + np.arange(len(pixels))
        self.size = (pixels.shape[2], pixels.shape[3])
        self.mask = np.ones((side, side), bool)
        self.policy = policy(placement, image_px=min(self.size))

    def places(self, draw: int) -> Placements:
        """Set number ``draw`` of places, one on each image."""
        side = self.mask.shape[0]
        return place(
            self.policy, self.ids, seed=self.seed, patch_px=(side, side), image_px=self.size,
            draw=draw,
        )  # fmt: skip

    def paste(self, patches: Tensor, which: NDArray[np.int64], *, places: Placements) -> Tensor:
        """The images with patch ``which (N,)`` of ``patches (P, 3, h, w)`` in 0..1 on each."""
        shown = eot.paste(
            self.pixels, 255.0 * patches, mask=self.mask, placements=places, which=which
        )
        return eot.to_bytes(shown)

    @torch.no_grad()
    def worst(
        self,
        patches: Tensor,
        which: NDArray[np.int64],
        *,
        draws: Sequence[int],
        labels: Tensor,
        targets: Tensor,
        bits: int,
    ) -> Placements:
        """Of the places of these ``draws``, on each image the one of largest gain at ``bits``."""
        tried = [self.places(draw) for draw in draws]
        if len(tried) == 1:
            return tried[0]
        won = []
        for at in tried:
            logits = self.victim.select(bits)(self.paste(patches, which, places=at))
            won.append(gains_of(logits, labels, targets=targets))
        best = torch.stack(won).argmax(0).cpu().numpy()
        return taken(joined(tried), best * len(best) + np.arange(len(best)))


def gains_of(logits: Tensor, labels: Tensor, *, targets: Tensor) -> Tensor:
    """What an attack maximises on each image, ``(N,)``: CE, or minus the CE of its target.

    ``targets (N,)``: a class, or -1 for untargeted.
    """
    is_targeted = targets >= 0
    wanted = torch.where(is_targeted, targets, labels)
    losses = functional.cross_entropy(logits, wanted, reduction="none")
    return torch.where(is_targeted, -losses, losses)
