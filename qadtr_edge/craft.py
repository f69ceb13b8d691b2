"""Crafting: an attack and a victim give a patch, kept in the bank under the digest of its recipe.

A patch whose recipe is already in the bank is read, not crafted again. Patches of single images are
stored in parts as they are found, so that an interrupted crafting goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from . import replay
from .attacks.differential import Both
from .attacks.kept import Found
from .attacks.per_image import BATCH, PerImage
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
from .search import all_in_parts, only
from .types import FLOAT_BITS, Json, Labels, Patch, PlacedPatches

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
    knowledge: Literal["simulation", "surrogate", "both"]
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


class AllWidths(nn.Module):
    """The mean logits of a ``QuantNet`` over all widths it holds.

    A patch that must win on their mean transfers better than one made at a single width (Yang et
    al., arXiv 2305.05875, of whole images).
    """

    def __init__(self, net: QuantNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        each = [self.net.select(bits)(pixels) for bits in self.net.widths]
        return torch.stack(each).mean(dim=0)


def prey(run: Run, kind: str, *, bits: int) -> Prey:
    """What patches for the engine at ``bits`` are crafted on.

    - ``twin``: the deployed integers, forward bit for bit, gradients straight-through;
    - ``simulation``: the fake-quantized network of the checkpoint at that width;
    - ``float``: the same network at 32 bits, a surrogate. At 32 bits all three are this one;
    - ``other``: the same network at another width, a surrogate: float, else the widest other one;
    - ``widths``: the mean of the network's logits over all widths the checkpoint holds.

    Raises ``BadInput`` when the run lacks the file, with the command that makes it, and when the
    checkpoint holds no such width.
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
    net, _ = checkpoint.load(run.checkpoint)
    if kind == "widths":
        return _all_widths(run, net, bits=bits)
    width = bits
    if kind == "float":
        width = FLOAT_BITS
    elif kind == "other":
        width = max((held for held in net.widths if held != bits), default=FLOAT_BITS)
    net.select(width)
    name = "fp32" if width == FLOAT_BITS else f"simulation-{width_name(width)}"
    return Prey(
        AtWidth(net, width),
        name,
        "simulation" if width == bits else "surrogate",
        f"{digest(run.checkpoint)}@{width}",
    )


def beside_float(run: Run, falls: Prey, *, bits: int) -> Prey:
    """``falls``, the victim that is to fall, and the float model of the run that is to stay right.

    Raises ``BadInput`` when the engine is the float model, or the checkpoint holds none.
    """
    if bits == FLOAT_BITS:
        raise BadInput(
            "Differential patches fool a quantized engine and not its float model, and this engine "
            "is the float model.",
            "Choose a width: --bits 8.",
        )
    original = prey(run, "float", bits=bits)
    return Prey(
        Both(falls.victim, original.victim),
        f"{falls.name}+{original.name}",
        "both",
        f"{falls.digest}+{original.digest}",
    )


def _all_widths(run: Run, net: QuantNet, *, bits: int) -> Prey:
    names = "+".join(width_name(width) for width in net.widths)
    return Prey(
        AllWidths(net),
        f"simulation-{names}",
        "simulation" if bits in net.widths else "surrogate",
        f"{digest(run.checkpoint)}@{names}",
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


def craft_each(
    attack: PerImage, prey: Prey, *, data: Dataset, folder: Path, seed: int, told: Told,
    kappas: Sequence[float] = (),
) -> Found:  # fmt: skip
    """The patch and place of this attack for each image of ``data``, the scored split.

    Beside the best, the first that led by each of ``kappas``. From ``folder`` or found now and kept
    there, as ``craft`` does.
    """
    recipe: dict[str, Json] = {
        "recipe": RECIPE,
        "attack": attack.name,
        "parameters": attack.parameters,
        "seed": seed,
        "victim": prey.digest,
        "data": replay.data_digest(data),
    }

    def find(rows: Labels) -> tuple[PlacedPatches, ...]:
        found = attack.search(prey.victim, only(data, rows), seed=seed, told=told)
        how: dict[str, Json] = {
            "victim_name": prey.name,
            "knowledge": prey.knowledge,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        kept = (found.best, *(found.first[kappa] for kappa in kappas))
        return tuple(replace(one, origin={**one.origin, **how}) for one in kept)

    best, *first = all_in_parts(
        find, (recipe, *({**recipe, "kappa": kappa} for kappa in kappas)), images=len(data),
        part=BATCH, folder=folder, spared=lambda count: told(count * attack.budget, ""),
    )  # fmt: skip
    return Found(best, dict(zip(kappas, first, strict=True)))
