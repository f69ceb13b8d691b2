"""GIR, gradient-inconsistent regularization: three readings of one sentence.

The abstract of arXiv 2503.07058 says that controlled gradient perturbations are injected to disrupt
the adversary's optimisation; formulas and defaults are this project's definition:

- ``A`` (regularization): a penalty on how well the input gradients of two widths agree,
  ``mean_i cos^2(g_b(x_i), g_b2(clip(x_i + sigma u_i)))`` with ``g_b = d CE(f_b(x), y) / dx``,
  differentiated twice. Its gradient goes to the weights of convolutions and linear layers alone:
  batch norm and scales belong to one width each, and at the other width of the pair no loss of the
  step would hold against it.
- ``B``: noise on the training gradient, ``g + s_e |g| / sqrt(d) eps`` for each tensor of d entries,
  ``s_e = sigma_0 (1 + e)^-0.55`` in epoch e (the decay of Neelakantan et al., arXiv 1511.06807).
- ``C``: noise in the straight-through backward pass of every quantizer, ``g (1 + sigma eps)``.

All act through the weights they leave behind; an engine has none of it. Any of them can hide
gradients instead of removing weaknesses (arXiv 1802.00420): judge by attacks that need none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..models.quantnet import QuantNet
from .options import bounded

SMALLEST = 1e-8 / 255  # a gradient of smaller norm has no direction; 1e-8 if pixels were 0..1


@dataclass(frozen=True)
class GirOptions:
    """- ``variant``: ``A``, ``B``, ``C`` or ``off``.
    - A: ``weight`` at the end of a linear ramp over the first ``ramp`` of training; ``sigma`` of
      the perturbation, in units of 0..1; ``images``: patched images of a batch it is taken on, at
      most (clean ones where none is patched); ``pair``: the second gradient at another width or the
      same; ``region``: cosine over the whole image, or over the pixels of the patch.
    - B: ``training_noise``, sigma_0. C: ``backward_noise``, sigma.
    """

    variant: Literal["A", "B", "C", "off"] = "A"
    weight: float = bounded(0.5, 0.0, high=1e3)
    sigma: float = bounded(8 / 255, 0.0, high=1.0)
    ramp: float = bounded(0.1, 0.0, high=1.0)
    images: int = bounded(32, 1, high=1 << 20)
    pair: Literal["other_bit", "same_bit"] = "other_bit"
    region: Literal["image", "patch"] = "image"
    training_noise: float = bounded(0.01, 0.0, high=10.0)
    backward_noise: float = bounded(0.1, 0.0, high=10.0)


class Inconsistency(NamedTuple):
    """``penalty``: GIR-A's, 0-d with its graph to the weights; 0 where every image is skipped.

    ``cosine``: mean of what it punishes, ``None`` where every image is; ``skipped``: share of the
    images whose gradient vanishes at one of the widths, so that it has no direction.
    """

    penalty: Tensor
    cosine: float | None
    skipped: float


def inconsistency(
    net: QuantNet, images: Tensor, *, labels: Tensor, bits: tuple[int, int], sigma: float,
    region: Tensor | None = None,
) -> Inconsistency:  # fmt: skip
    """GIR-A on ``images (N, 3, H, W) float32`` in 0..255.

    ``region (N, 1, H, W)``: pixels the cosine runs over. Batch norm uses its running statistics.
    Which parameters get a gradient does not depend on the images.
    """
    selected, was_training = net.bits, net.training
    net.eval()
    noised = (images + 255.0 * sigma * torch.randn_like(images)).clamp(0.0, 255.0)
    with _weights_alone(net):
        first = input_gradient(net.select(bits[0]), images, labels=labels)
        second = input_gradient(net.select(bits[1]), noised, labels=labels)
    net.select(selected).train(was_training)
    if region is not None:
        first, second = first * region, second * region
    first, second = first.flatten(1), second.flatten(1)
    able = (first.detach().norm(dim=1) >= SMALLEST) & (second.detach().norm(dim=1) >= SMALLEST)
    cosine = functional.cosine_similarity(first[able], second[able], dim=1, eps=SMALLEST)
    count = len(cosine)
    return Inconsistency(
        cosine.square().sum() / max(1, count),
        float(cosine.detach().mean()) if count else None,
        1 - count / len(images),
    )


@contextmanager
def _weights_alone(net: QuantNet) -> Iterator[None]:
    """Inside, graphs reach the weights of layers and no other parameter."""
    weights = {id(layer.weight) for layer in net.layers.values()}
    others = [each for each in net.parameters() if each.requires_grad and id(each) not in weights]
    for each in others:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in others:
            each.requires_grad_(True)


def input_gradient(net: QuantNet, images: Tensor, *, labels: Tensor) -> Tensor:
    """Gradient of each image's own cross-entropy, ``(N, 3, H, W)``, with its graph."""
    images = images.detach().requires_grad_(True)
    loss = functional.cross_entropy(net(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    return gradient


@torch.no_grad()
def shake(net: nn.Module, *, sigma: float, epoch: int) -> None:
    """GIR-B: noise on every gradient of ``net``, in place."""
    share = sigma * (1 + epoch) ** -0.55
    for weight in net.parameters():
        if weight.grad is not None:
            size = share * weight.grad.norm() / weight.numel() ** 0.5
            weight.grad.add_(torch.randn_like(weight.grad) * size)
