"""Which widths the steps of a training really trained: not every order comes to every width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .defences.defence import Batch, Defence, Step
from .models.quantnet import QuantNet

_TRAINED = "trained_widths"


class Watched:
    """``defence``, and in ``widths`` those its steps trained; what it remembers holds both.

    A step trains a width when it passes images through it in training mode with weights that want
    gradients: not when it attacks, calibrates or compares gradients there.
    """

    def __init__(self, defence: Defence) -> None:
        self.defence = defence
        self.widths: set[int] = set()

    @property
    def name(self) -> str:
        return self.defence.name

    @property
    def float_share(self) -> float:
        return self.defence.float_share

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """That of the defence."""

        def note(layer: nn.Module, _: tuple[Tensor, ...]) -> None:
            if layer.training and torch.is_grad_enabled() and next(net.parameters()).requires_grad:
                self.widths.add(net.bits)

        assert net.pixel_input is not None
        handle = net.pixel_input.register_forward_pre_hook(note)
        try:
            return self.defence.step(net, batch)
        finally:
            handle.remove()

    def perturb(self, net: QuantNet, batch: Batch) -> None:
        """That of the defence."""
        self.defence.perturb(net, batch)

    def state(self) -> dict[str, Tensor]:
        """That of the defence, and the widths."""
        return {
            **self.defence.state(),
            _TRAINED: torch.tensor(sorted(self.widths), dtype=torch.int64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        own = dict(state)
        self.widths = {int(bits) for bits in own.pop(_TRAINED, torch.tensor([])).tolist()}
        self.defence.restore(own)
