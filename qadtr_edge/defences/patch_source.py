"""Where TriQDef's patched images come from: a pool made offline, or patches made as it trains.

The paper (arXiv 2508.12132) trains on a pool of patches made on full-precision models, of several
sizes, places and targets, and optionally on patches made online at a random active width. Both are
A-QAPA (``aqapa.py``) here; sizes and numbers are this project's definition. The paper's colour
jitter is left out: the patches' places, rotations and sizes are random as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from .. import streams
from ..errors import BadInput
from ..models.quantnet import QuantNet
from ..types import FLOAT_BITS
from .aqapa import Aqapa, AqapaOptions, Patched
from .defence import Batch
from .options import bounded

_TOGETHER = 5  # ascent steps of the pool between two deals of its patches over the images


@dataclass(frozen=True)
class PatchOptions:
    """- ``source``: ``float_pool`` makes the patches once, at the first step, on the float network
      and the images of that step, and never changes them; ``online`` ascends them at each step, at
      a width drawn from the active ones.
    - ``patch_px``: sides, of which each step takes one; ``pool``: patches of each side;
      ``entries``: how many of them a batch draws; ``targeted``: share with a class to push to.
    - ``ascents``: steps that make the float pool, in fives; ``steps``: those of each training step
      online; ``step_size``: their length in units of 0..1; ``reset``: chance that a patch drawn
      online starts again from noise.
    - ``placement``: policy of the places.
    """

    source: Literal["float_pool", "online"] = "float_pool"
    patch_px: tuple[int, ...] = field(default=(6,), metadata={"range": (1, 4096)})
    pool: int = bounded(16, 1, high=4096)
    entries: int = bounded(4, 1, high=4096)
    targeted: float = bounded(0.5, 0.0, high=1.0)
    ascents: int = bounded(100, 0, high=100_000)
    steps: int = bounded(5, 0, high=1000)
    step_size: float = bounded(0.1, 0.0, high=1.0)
    reset: float = bounded(0.01, 0.0, high=1.0)
    placement: str = "random"


class PatchSource:
    """One pool for each side. ``seed`` and the step number decide every random draw."""

    def __init__(self, options: PatchOptions, *, seed: int) -> None:
        if not options.patch_px:
            raise BadInput("The option patches.patch_px names no side.", "Give patch_px=6.")
        self.options = options
        self.seed = seed
        is_online = options.source == "online"
        self.pools = {
            side: Aqapa(
                AqapaOptions(
                    steps=options.steps if is_online else 0, step_size=options.step_size,
                    bits="current", pool=options.pool, entries=options.entries,
                    reset=options.reset if is_online else 0.0, targeted=options.targeted,
                    scope="universal", places=1, patch_px=side, placement=options.placement,
                ),
                seed=streams.key(seed, "patch source", side),
            )
            for side in options.patch_px
        }  # fmt: skip

    def patch(self, net: QuantNet, batch: Batch, *, count: int, widths: Sequence[int]) -> Patched:
        """The last ``count`` images of the batch with patches; ``net`` is left as it was.

        ``widths``: the active ones. Raises ``BadInput`` for a float pool without width 32.
        """
        if self.options.source == "float_pool" and any(
            pool.pool is None for pool in self.pools.values()
        ):
            self._make(net, batch)
        chance = streams.generator(self.seed, "patch source", batch.step)
        sides = tuple(self.pools)
        side = sides[int(chance.integers(len(sides)))]
        bits = widths[int(chance.integers(len(widths)))]
        return self.pools[side].patch(
            net, batch.images[-count:], labels=batch.labels[-count:], bits=bits, step=batch.step,
            part=batch.part,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Those of the pools."""
        return {
            f"{side}.{name}": value
            for side, pool in self.pools.items()
            for name, value in pool.state().items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        for side, pool in self.pools.items():
            prefix = f"{side}."
            pool.restore(
                {
                    name.removeprefix(prefix): value
                    for name, value in state.items()
                    if name.startswith(prefix)
                }
            )

    def _make(self, net: QuantNet, batch: Batch) -> None:
        """Ascend all patches on the float network, dealt anew over the images now and then."""
        if FLOAT_BITS not in net.widths:
            raise BadInput(
                f"patches.source=float_pool makes patches at width {FLOAT_BITS}, which --bits "
                "leaves out.",
                f"Add {FLOAT_BITS} to --bits, or set patches.source=online.",
            )
        for pool in self.pools.values():
            making = replace(pool.options, steps=_TOGETHER, bits="fp32", entries=self.options.pool)
            maker = Aqapa(making if self.options.ascents else pool.options, seed=pool.seed)
            for deal in range(max(1, -(-self.options.ascents // _TOGETHER))):
                maker.patch(
                    net, batch.images, labels=batch.labels, bits=FLOAT_BITS, step=deal,
                    part=batch.part,
                )  # fmt: skip
            pool.restore(maker.state())
