"""What ends a training early: a first step that cannot be made, a number that is none."""

from __future__ import annotations

import copy
from typing import NoReturn

import torch
from torch import Tensor

from .defences.defence import Batch, Defence
from .errors import BadInput
from .models.quantnet import QuantNet


def rehearse(net: QuantNet, defence: Defence, *, images: Tensor, labels: Tensor, kind: str) -> None:
    """A step on the first two images with copies of all: what it refuses is refused at once.

    For example a width that is not held, or a patch that does not fit. ``images (N, 3, H, W)
    uint8``, ``labels (N,)``; ``kind``: as in ``Batch``. Nothing is changed.
    """
    batch = Batch(images[:2], labels[:2], step=0, steps=1000, epoch=0, kind=kind)
    copy.deepcopy(defence).step(copy.deepcopy(net), batch)


def check_gradients(net: QuantNet, loss: Tensor, *, step: int) -> None:
    """Raises ``BadInput`` when the loss, 0-d, or a gradient is not finite."""
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    if not torch.isfinite(loss):
        _refuse("The loss", step=step, bits=net.bits)
    if not torch.isfinite(torch.stack([each.sum() for each in gradients.values()])).all():
        broken = [n for n, each in gradients.items() if not torch.isfinite(each).all()]
        _refuse(f"The gradient of {[*broken, 'the weights'][0]}", step=step, bits=net.bits)


def check_weights(net: QuantNet, *, step: int) -> None:
    """Raises ``BadInput`` when a weight, scale or statistic is not finite."""
    for name, value in net.state_dict().items():
        if not torch.isfinite(value).all():
            _refuse(name, step=step, bits=net.bits)


def _refuse(what: str, *, step: int, bits: int) -> NoReturn:
    raise BadInput(
        f"{what} stopped being a number at step {step} (width {bits}).",
        "Lower --lr, or start from a trained float model with --init.",
    )
