"""A small network, batches and recipes on which the parts of TriQDef are tested."""

from __future__ import annotations

import torch
from torch import Tensor

import nets
from qadtr_edge.defences.defence import Batch
from qadtr_edge.defences.recipes import build
from qadtr_edge.defences.triqdef import Triqdef
from qadtr_edge.models.quantnet import QuantNet

WIDTHS = (2, 32, 5, 8, 4)
SMALL = ("patches.patch_px=4", "patches.ascents=5", "patches.pool=4", "gpdp.images=4")
OFF = ("fdp.weight=0", "gpdp.weight=0", "curriculum=off")


def made(*settings: str, seed: int = 0) -> Triqdef:
    defence, _ = build("triqdef", settings=(*SMALL, *settings), seed=seed)
    assert isinstance(defence, Triqdef)
    return defence


def fresh(widths: tuple[int, ...] = WIDTHS) -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=widths)


def batch(step: int = 0, *, steps: int = 20, count: int = 12) -> Batch:
    images = nets.pixels(count, seed=step)
    labels = torch.arange(count) % 6
    return Batch(images, labels, step, steps, epoch=0)


def state_of(net: QuantNet, bits: int) -> dict[str, Tensor]:
    """The scales and batch norms of one width."""
    return {
        name: value.clone()
        for name, value in net.state_dict().items()
        if name.endswith((f"@{bits}", f"scales.w{bits}")) or f"norms.w{bits}." in name
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())
