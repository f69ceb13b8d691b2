"""What a defence is: the loss of a training step, and what it remembers between steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from ..models.quantnet import QuantNet

CONSTANT = "frozen."
"""Under such names a defence's state holds what stays as it is once made."""


def _own_part() -> int:
    """The rank of this process among those that train together; alone 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step is given.

    ``images (B, 3, H, W) uint8``, already augmented; ``labels (B,) int64``; ``step`` of ``steps``
    in this phase, counted from 0; ``epoch`` likewise. ``kind``: ``float`` while the network has
    no widths but 32 yet, else ``quantized``. ``part``: which of the equal parts of the global batch
    it is, counted from 0.
    """

    images: Tensor
    labels: Tensor
    step: int
    steps: int
    epoch: int
    kind: str = "quantized"
    part: int = field(default_factory=_own_part)

    @property
    def progress(self) -> float:
        """Share of the phase that is behind, in [0, 1)."""
        return self.step / max(1, self.steps)


class Step(NamedTuple):
    """``loss``: 0-d, with its graph; ``shown``: the pixels the network saw, ``(B, 3, H, W)``.

    ``shown`` is what batch norm is re-estimated on at the end. ``told``: numbers for the log.
    """

    loss: Tensor
    shown: Tensor
    told: dict[str, float]


class Defence(Protocol):
    """A way to train. Its class has ``Options``, a frozen dataclass, and takes ``(options, seed)``.

    Everything drawn at random is a function of (seed, step), so that resuming needs no more than
    ``state``. ``name``: as registered.
    """

    @property
    def name(self) -> str: ...

    @property
    def float_share(self) -> float:
        """Share of the epochs that it trains at width 32 before the widths are calibrated."""
        ...

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """The loss of a step; selects the widths it wants and leaves ``net`` in training mode."""
        ...

    def perturb(self, net: QuantNet, batch: Batch) -> None:
        """Called between the backward pass and the update, for what acts on the gradients."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the defence remembers, by name."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave, from the device it is trained on.

        Of the ``CONSTANT`` names all are there or none, and then they stay as they are.
        """
        ...


class Stateless:
    """For defences that remember nothing and leave the gradients alone."""

    float_share = 0.0

    def perturb(self, net: QuantNet, batch: Batch) -> None:
        """Nothing."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


@contextmanager
def attacking(net: QuantNet, mode: str = "eval") -> Iterator[None]:
    """Inside, gradients reach pixels alone, and batch norm uses its running statistics.

    Passes run in ``net.attack_precision``; without weight gradients they take about two thirds of
    the time. Width, mode and parameters are afterwards as they were. ``mode="train"``: batch
    statistics, as DWQ attacks, with the running ones left alone.
    """
    selected, was_training = net.bits, net.training
    wanted = [weight for weight in net.parameters() if weight.requires_grad]
    kept = {}
    if mode == "train":
        kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train(mode == "train")
    for weight in wanted:
        weight.requires_grad_(False)
    half = net.attack_precision == "bfloat16"
    device = next(net.parameters()).device.type
    try:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            yield
    finally:
        for weight in wanted:
            weight.requires_grad_(True)
        with torch.no_grad():
            for name, buffer in net.named_buffers():
                if name in kept:
                    buffer.copy_(kept[name])
        net.select(selected).train(was_training)
