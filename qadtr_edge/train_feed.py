"""The batches of a training, each a function of (seed, phase, step): resuming skips none."""

from __future__ import annotations

import torch
from torch import Tensor

from . import streams
from .data.augment import augment
from .data.dataset import Dataset
from .defences.defence import Batch
from .errors import BadInput
from .train_group import Group


class Feed:
    """Shuffled, augmented batches of ``data``, which stays in the memory of the group's device.

    ``images (N, 3, H, W) uint8``, ``labels (N,) int64``; ``size``: images of a global batch;
    ``per_epoch``: steps of an epoch, the incomplete batch at its end left out. Raises ``BadInput``
    when ``size`` does not divide among the processes.
    """

    def __init__(self, data: Dataset, *, batch: int, crop_px: int, seed: int, group: Group) -> None:
        self.images = torch.from_numpy(data.images).to(group.device)
        self.labels = torch.from_numpy(data.labels).to(group.device)
        self.size = min(batch, len(self.labels))
        self.per_epoch = len(self.labels) // self.size
        if self.size % group.size:
            raise BadInput(
                f"A batch of {self.size} images does not divide among {group.size} processes.",
                f"Give --batch {max(1, self.size // group.size) * group.size}.",
            )
        self._flip, self._crop_px, self._seed, self._group = data.flip_allowed, crop_px, seed, group
        self._order: tuple[tuple[str, int], Tensor] | None = None

    def batch(self, phase: str, step: int, *, steps: int, kind: str) -> Batch:
        """Batch ``step`` (from 0) of ``steps`` of a phase: this process's part of it."""
        epoch, place = divmod(step, self.per_epoch)
        rows = self._rows(phase, epoch)[place * self.size : (place + 1) * self.size]
        crops = torch.Generator().manual_seed(streams.key(self._seed, "crop", phase, step) >> 1)
        shown = augment(self.images[rows], crops, flip=self._flip, crop_px=self._crop_px)
        shown = self._group.own(shown).contiguous(memory_format=torch.channels_last)
        labels = self._group.own(self.labels[rows])
        return Batch(shown, labels, step, steps, epoch=epoch, kind=kind)

    def _rows(self, phase: str, epoch: int) -> Tensor:
        """The order of an epoch, kept while it lasts."""
        if self._order is None or self._order[0] != (phase, epoch):
            order = streams.generator(self._seed, "order", phase, epoch)
            self._order = (phase, epoch), torch.from_numpy(order.permutation(len(self.labels)))
        return self._order[1]
