"""BACT, the bit-width curriculum of TriQDef (arXiv 2508.12132): narrow widths join later.

The paper starts with 32 and 8 bits, adds 5, 4 and 2, and lets a new quantizer calibrate its ranges
before all active widths train jointly. When they are added, from how many images they are
calibrated, and that a new width takes over the batch norm of the next wider one, is this project's
definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.calibrate import calibrate
from ..models.quantnet import QuantNet
from .defence import Batch

FIRST = 2  # widths that training starts with


def active_at(
    widths: Sequence[int], add_at: Sequence[float], *, step: int, steps: int
) -> tuple[int, ...]:
    """The widths that train at step ``step`` (from 0) of ``steps``, widest first.

    The two widest start; the next ones join at the shares ``add_at`` of training, one at each, and
    those left over with the last. Without shares all start. A pure function of its arguments.
    """
    ordered = sorted(widths, reverse=True)
    begun = sum(step >= round(share * steps) for share in add_at)
    return tuple(ordered if begun == len(add_at) else ordered[: FIRST + begun])


class Bact:
    """Which widths are active; calibrates each as it joins.

    - ``add_at``: as in ``active_at``; ``images``: how many of the last training images a new width
      is calibrated on.
    """

    def __init__(self, add_at: Sequence[float], *, images: int) -> None:
        self.add_at = tuple(add_at)
        self.images = images
        self.joined: tuple[int, ...] = ()
        self._recent: Tensor | None = None  # (<= images, 3, H, W) uint8, until all have joined

    def widths(self, net: QuantNet, batch: Batch) -> tuple[int, ...]:
        """The widths of this step, widest first, those that are new calibrated.

        Those of the first call count as calibrated: training calibrates every width at its start.
        """
        active = active_at(net.widths, self.add_at, step=batch.step, steps=batch.steps)
        self.joined = self.joined or active
        if set(self.joined) >= set(net.widths):
            self._recent = None
            return self.joined
        earlier = [] if self._recent is None else [self._recent]
        self._recent = torch.cat([*earlier, batch.images])[-self.images :].clone()
        for bits in active:
            if bits not in self.joined:
                narrowest = min(self.joined)
                for waiting in set(net.widths) - set(self.joined):
                    copy_norms(net, narrowest, to=waiting)
                calibrate(net, self._recent, widths=(bits,))
                self.joined = (*self.joined, bits)
        return self.joined

    def state(self) -> dict[str, Tensor]:
        """The widths that have joined and the images the next is calibrated on."""
        found = {"joined": torch.tensor(self.joined)} if self.joined else {}
        return found if self._recent is None else {**found, "recent": self._recent}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        self.joined = tuple(state["joined"].tolist()) if "joined" in state else ()
        self._recent = state.get("recent")


@torch.no_grad()
def copy_norms(net: QuantNet, bits: int, *, to: int) -> None:
    """Give width ``to`` the batch norms of width ``bits``, statistics and affine, by value."""
    for layer in net.layers.values():
        norms = layer.norms
        assert isinstance(norms, nn.ModuleDict)
        if f"w{bits}" in norms:
            norms[f"w{to}"].load_state_dict(norms[f"w{bits}"].state_dict())
