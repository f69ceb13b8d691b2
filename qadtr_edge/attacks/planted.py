"""Planted masking: wrappers that make a network look robust to gradients and are not.

The unit test of an attack suite: each leaves the network as easy to fool as it was, or nearly, and
takes its gradients away. A suite that a wrapper holds off would also be held off by a masked
defence (Carlini et al., arXiv 1902.06705; Athalye et al., arXiv 1802.00420).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..types import Pixels
from .queries import Logits, Model
from .victim import Victim

LEVELS = 16
"""Different values that the coarse head can give to a logit."""

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Masked:
    """One network behind one wrapper: ``model`` to whoever asks it, ``victim`` to gradients."""

    name: str
    model: Model
    victim: Victim


def planted(model: Model, victim: Victim, *, clean: Logits) -> tuple[Masked, ...]:
    """The five wrappers around a network, given as engine and as victim.

    ``clean (N, K)``: its logits of some images, from which the coarse head takes its range.
    """
    heads: dict[str, Head] = {
        "8-bit softmax head": softmax_head,
        f"{LEVELS}-level logit head": coarse_head(clean),
        "label-only head": label_head,
    }
    return (
        Masked("gradient killer", model, lambda pixels: _still(victim(pixels.detach()), pixels)),
        Masked("hard round at the input", model, lambda pixels: victim(pixels.round())),
        *(Masked(name, _behind(head, model), _hard(head, victim)) for name, head in heads.items()),
    )


def softmax_head(logits: Tensor) -> Tensor:
    """Softmax shares in steps of 1/256, as an engine with a uint8 output gives them."""
    return (functional.softmax(logits, dim=1) * 256.0).round().clamp(max=255.0) / 256.0


def coarse_head(clean: Logits) -> Head:
    """Logits rounded to 16 levels over the range that ``clean`` spans, clipped outside it."""
    low, high = float(clean.min()), float(clean.max())
    step = (high - low) / (LEVELS - 1)

    def head(logits: Tensor) -> Tensor:
        return ((logits - low) / step).round().clamp(0.0, LEVELS - 1.0)

    return head


def label_head(logits: Tensor) -> Tensor:
    """1 for the label, 0 for every other class."""
    return functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


def _behind(head: Head, model: Model) -> Model:
    def answers(images: Pixels) -> Logits:
        found: Logits = head(torch.from_numpy(model(images))).numpy()
        return found

    return answers


def _hard(head: Head, victim: Victim) -> Victim:
    def answers(pixels: Tensor) -> Tensor:
        logits = victim(pixels)
        return _still(head(logits), logits)

    return answers


def _still(answers: Tensor, source: Tensor) -> Tensor:
    """``answers``, connected to ``source`` by a gradient that is zero, as autograd needs one."""
    return answers + 0.0 * source.flatten(1).sum(dim=1, keepdim=True)
