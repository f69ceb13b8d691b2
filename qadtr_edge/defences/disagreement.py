"""FDP and GPDP, the two penalties of TriQDef (arXiv 2508.12132): widths shall look differently.

    FDP  = sum over stages, mean over pairs (b, c):  agreement(phi_b, phi_c),  phi: feature maps
    GPDP =                  mean over pairs (b, c):  agreement(g_b, g_c),  g_b = d CE(f_b(x), y)/dx

both on patched images, ``agreement`` as in ``edges.py``; GPDP is differentiated twice. Averaging
over pairs, where the paper sums, keeps the weights' meaning while widths join. That, what a stage
is, the reduction to one channel by the mean absolute value, 4 x 4 cells on feature maps, 8 x 8 on
gradients, and running batch-norm statistics under GPDP are this project's definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.quantnet import QuantNet
from .edges import agreement
from .gir import input_gradient
from .options import bounded

FEATURE_CELLS, GRADIENT_CELLS = 4, 8  # a side


@dataclass(frozen=True)
class FdpOptions:
    """``weight`` of FDP, 0 for none; ``dice``, ``orientation``: of its two terms; ``stages``."""

    weight: float = bounded(0.8, 0.0, high=1e3)
    dice: float = bounded(0.5, 0.0, high=1e3)
    orientation: float = bounded(1.0, 0.0, high=1e3)
    stages: int = bounded(3, 1, high=100)


@dataclass(frozen=True)
class GpdpOptions:
    """``weight`` of GPDP, 0 for none; ``dice``, ``orientation``: of its two terms.

    ``images``: how many patched images of a batch it is taken on.
    """

    weight: float = bounded(0.5, 0.0, high=1e3)
    dice: float = bounded(0.5, 0.0, high=1e3)
    orientation: float = bounded(1.0, 0.0, high=1e3)
    images: int = bounded(32, 1, high=1 << 20)


def stage_ends(net: QuantNet, tensors: Mapping[str, Tensor], *, stages: int) -> tuple[str, ...]:
    """The steps at which the first ``stages`` resolutions of ``net`` end.

    For each number of rows and columns that occurs: the last step with such a tensor. That is the
    output of a residual stage in a ResNet, the convolution before a pooling in a VGG, the expansion
    before a depthwise reduction in a MobileNet. The head and resolutions under 4 x 4 are left out.
    ``tensors``: what ``net.run`` gave.
    """
    found: dict[tuple[int, ...], str] = {}
    for step in net.steps:
        size = tuple(tensors[step.name].shape[2:])
        if step.op != "input" and len(size) == 2 and min(size) >= FEATURE_CELLS:
            found[size] = step.name
    return tuple(found.values())[:stages]


def one_channel(values: Tensor) -> Tensor:
    """Mean absolute value over channels: ``(N, C, H, W)`` to ``(N, H, W)``."""
    return values.abs().mean(dim=1)


def fdp(maps: Sequence[Sequence[Tensor]], options: FdpOptions) -> Tensor:
    """FDP without its weight, 0-d. ``maps[b][l] (N, H, W)``: of the b-th width at stage l."""
    stages = [
        agreement(
            torch.stack(same_stage, dim=1), cells=FEATURE_CELLS, dice=options.dice,
            orientation=options.orientation,
        )
        for same_stage in zip(*maps, strict=True)
    ]  # fmt: skip
    return torch.stack(stages).sum() if stages else torch.zeros(())


def gpdp(
    net: QuantNet, images: Tensor, *, labels: Tensor, widths: Sequence[int], options: GpdpOptions
) -> Tensor:
    """GPDP without its weight, 0-d with its graph to all parameters; ``net`` is left as it was.

    ``images (N, 3, H, W) float32`` in 0..255; ``labels (N,)``; ``widths``: those compared. The
    paper keeps its gradient from no parameter, and each of ``widths`` has a task loss in the same
    step, so batch norm and scales learn from it too, unlike under GIR-A (``gir.py``).
    """
    selected, was_training = net.bits, net.training
    net.eval()
    maps = [one_channel(input_gradient(net.select(bits), images, labels=labels)) for bits in widths]
    net.select(selected).train(was_training)
    return agreement(
        torch.stack(maps, dim=1), cells=GRADIENT_CELLS, dice=options.dice,
        orientation=options.orientation,
    )  # fmt: skip
