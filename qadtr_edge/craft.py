"""Crafting: an attack and a victim give a patch, kept in the bank under the digest of its recipe.

A patch whose recipe is already in the bank is read, not crafted again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .attacks.victim import Attack, Told, Victim
from .data.dataset import Dataset
from .errors import BadInput
from .files import digest
from .integer import graph_file
from .integer.twin import Twin
from .models import checkpoint
from .models.quantnet import QuantNet
from .patch import bank
from .runs import Run, width_name
from .types import FLOAT_BITS, Json, Patch

RECIPE = 1
"""Grows when an attack's code changes what it makes, so that older patches are not taken for it."""


@dataclass(frozen=True, eq=False)
class Prey:
    """A victim, and how the rows of its patches speak of it.

    ``name``: what it is, at which width; ``knowledge``: what it lets an attacker know of the
    engine; ``digest``: stands for the network.
    """

    victim: Victim
    name: str
    knowledge: Literal["simulation", "surrogate"]
    digest: str


class AtWidth(nn.Module):
    """A ``QuantNet`` held at one width, whatever others select on it in between."""

    def __init__(self, net: QuantNet, bits: int) -> None:
        super().__init__()
        self.net = net
        self.bits = bits

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net.select(self.bits)(pixels)
        return logits


def prey(run: Run, kind: str, *, bits: int) -> Prey:
    """What patches for the engine at ``bits`` are crafted on.

    - ``twin``: the deployed integers, forward bit for bit, gradients straight-through;
    - ``simulation``: the fake-quantized network of the checkpoint at that width;
    - ``float``: the same network at 32 bits, a surrogate. At 32 bits all three are this one.

    Raises ``BadInput`` when the run lacks the file, with the command that makes it.
    """
    if kind == "twin" and bits != FLOAT_BITS:
        path = run.graph(bits)
        if not path.is_file():
            raise BadInput(
                f"{run.folder} holds no integer graph at {bits} bits.",
                f"Make it: qadtr-edge export --run {run.folder} --bits {bits}.",
            )
        graph = graph_file.load(path)
        return Prey(Twin(graph), f"twin-{width_name(bits)}", "simulation", graph_file.digest(graph))
    width = FLOAT_BITS if kind == "float" else bits
    net, _ = checkpoint.load(run.checkpoint)
    net.select(width)
    name = "fp32" if width == FLOAT_BITS else f"simulation-{width_name(width)}"
    return Prey(
        AtWidth(net, width),
        name,
        "simulation" if width == bits else "surrogate",
        f"{digest(run.checkpoint)}@{width}",
    )


def craft(
    attack: Attack, prey: Prey, *, data: Dataset, folder: Path, seed: int, told: Told
) -> Patch:
    """The patch of this attack on this victim, from ``folder`` or crafted now and kept there.

    ``data`` is the crafting split. The digest of everything that determines the patch names its
    file; threads and versions, which can move a gradient's last bits, are noted beside it.
    """
    recipe: dict[str, Json] = {
        "recipe": RECIPE,
        "attack": attack.name,
        "parameters": attack.parameters,
        "seed": seed,
        "victim": prey.digest,
        "data": data.digest,
    }
    path = folder / f"{bank.key(recipe)}.npz"
    if path.is_file():
        return bank.load(path)
    made = attack.craft(prey.victim, data, seed=seed, told=told)
    patch = replace(
        made,
        origin={
            **recipe,
            "victim_name": prey.name,
            "knowledge": prey.knowledge,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    )
    bank.save(patch, path)
    return patch
