"""What white-box attacks are aimed at, and the guard that crafting leaves it as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..types import Patch, Pixels
from .parameters import Described

Victim = Callable[[Tensor], Tensor]
"""From pixels ``(N, 3, H, W) float32`` in 0..255 to logits ``(N, K)``, differentiable in pixels."""

Told = Callable[[int, str], None]
"""Called as work is done: steps finished since the last call, and a note such as a loss."""

BATCH = 128


class Attack(Described, Protocol):
    """A way to make a patch; its class takes ``patch_px``, ``target`` and ``placement`` by name.

    ``placement``: the policy its patches are made for. ``target``: class to push to, ``None``
    untargeted. ``steps``: how many times ``craft`` reports a step.
    """

    @property
    def needs_gradient(self) -> bool: ...
    @property
    def target(self) -> int | None: ...
    @property
    def steps(self) -> int: ...

    def craft(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Patch:
        """A patch crafted on ``data``, which must hold none of the images it is scored on."""
        ...


@contextmanager
def frozen(victim: Victim) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; everything as it was afterwards.

    Raises ``AssertionError`` when parameters or buffers changed inside: batch statistics that move
    while a patch is crafted would attack another network than the one judged.
    """
    if not isinstance(victim, nn.Module):
        yield
        return
    before = state_digest(victim)
    modes = {module: module.training for module in victim.modules()}
    wanted = {weight: weight.requires_grad for weight in victim.parameters()}
    victim.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for weight, flag in wanted.items():
            weight.requires_grad_(flag)
    assert state_digest(victim) == before, "crafting changed the victim's parameters or buffers"


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers."""
    sha = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def as_pixels(images: Pixels) -> Tensor:
    """Images ``(N, 3, H, W) uint8`` as float32 in 0..255, channels last: fast in convolutions."""
    return torch.from_numpy(images).float().contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def logits_of(victim: Victim, images: Pixels) -> NDArray[np.float32]:
    """Logits ``(N, K)`` of images ``(N, 3, H, W) uint8``, without gradients."""
    starts = range(0, len(images), BATCH)
    parts = [victim(as_pixels(images[at : at + BATCH])).float().numpy() for at in starts]
    return np.concatenate(parts)
