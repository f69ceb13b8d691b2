"""A-QAPA, adaptive quantization-aware patch attack: patches ascended inside the quantized network.

The abstract of arXiv 2503.07058 names the component and its purpose, robustness across bit-widths;
the formulas and the defaults are this project's definition:

    J_b = CE(f_b(A(x, P, t)), y)  untargeted,   -CE(f_b(A(x, P, t)), target)  targeted
    P  <- clip(P + alpha * sign(sum_b w_b dJ_b/dP)),      w_b = softmax(-Jbar_b / temperature)

with straight-through gradients at the width of the training step and one other, so that at least
one quantized width is always attacked. A pool of patches stays warm from step to step (the idea of
Meta Adversarial Training, arXiv 2101.11453): its best patches move slowly with the weights, so few
steps suffice. Patches live in 0..1 here and are rounded to bytes where the network sees them.
Jbar_b follows J_b once a call, after the last ascent step, not within it: ``Jbar_b <- 0.9 Jbar_b +
0.1 J_b``, of each patch of the pool, over the images it was shown on with its own goal.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import streams
from ..errors import BadInput
from ..models.quantnet import QuantNet
from ..patch.placement import check_fit, policy
from ..types import FLOAT_BITS, Placements
from .dbwt import other_width
from .defence import CONSTANT, attacking
from .field import Field, gains_of
from .options import bounded

EMA = 0.1  # share of the newest attack gain in the running one


@dataclass(frozen=True)
class AqapaOptions:
    """- ``steps``, ``step_size``: ascent steps each time, and their length in units of 0..1.
    - ``bits``: widths attacked: ``pair`` the one trained and another, ``current``, ``all``,
      ``fp32`` the float branch, ``frozen`` the float branch as it was when training began.
    - ``bit_weights``: ``adaptive`` weighs the widths at which a patch wins least, ``uniform``.
    - ``pool``: warm patches kept, 0 for fresh noise each time; ``entries``: how many of them a
      batch draws; ``reset``: chance that one drawn starts again from noise.
    - ``targeted``: share of the pool that pushes to a class of its own.
    - ``scope``: ``universal`` ascends the drawn patches, ``per_image`` a copy for each image, while
      the pool follows the mean of its images' gradients.
    - ``places``: places tried on each image, of which the worst for the network is used.
    - ``patch_px``: side, as seen in training; ``placement``: policy of the places.
    """

    steps: int = bounded(2, 0, high=1000)
    step_size: float = bounded(0.2, 0.0, high=1.0)
    bits: Literal["pair", "current", "all", "fp32", "frozen"] = "pair"
    bit_weights: Literal["adaptive", "uniform"] = "adaptive"
    temperature: float = bounded(1.0, 1e-3, high=1e3)
    pool: int = bounded(16, 0, high=4096)
    entries: int = bounded(4, 1, high=4096)
    reset: float = bounded(0.01, 0.0, high=1.0)
    targeted: float = bounded(0.5, 0.0, high=1.0)
    scope: Literal["universal", "per_image"] = "per_image"
    places: int = bounded(12, 1, high=256)
    patch_px: int = bounded(6, 1, high=4096)
    placement: str = "random"


class Patched(NamedTuple):
    """``shown``: images with their patches, ``(N, 3, H, W) float32`` of whole numbers 0..255.

    ``gain``: mean attack gain by width at the last ascent step; empty without one.
    """

    shown: Tensor
    gain: dict[int, float]


class Aqapa:
    """The pool and its ascent. ``seed`` and the step number decide every random draw."""

    def __init__(self, options: AqapaOptions, *, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.pool: Tensor | None = None  # (P, 3, h, w) in 0..1
        self.targets: Tensor | None = None  # (P,), -1 untargeted; on the CPU, as the gains are
        self.gains: Tensor | None = None  # (P, widths): running J_b
        self._frozen: QuantNet | None = None
        self._frozen_state: dict[str, Tensor] = {}

    def patch(
        self, net: QuantNet, images: Tensor, *, labels: Tensor, bits: int, step: int, part: int = 0
    ) -> Patched:
        """``images (N, 3, H, W) uint8`` with patches ascended against ``net`` at ``bits``.

        ``part``: which N of the images of all processes they are. Updates the pool. ``net`` is left
        as it was.
        """
        options = self.options
        self._begin(net, images)
        assert self.pool is not None
        assert self.targets is not None
        assert self.gains is not None
        chance = streams.generator(self.seed, "a-qapa", step)
        drawn = chance.permutation(len(self.pool))[: min(options.entries, len(self.pool))]
        is_reset = chance.random(len(drawn)) < (options.reset if options.pool else 1.0)
        fresh = torch.from_numpy(chance.random(self.pool[drawn].shape, dtype=np.float32))
        fresh = fresh.to(self.pool.device)
        entries = torch.where(
            torch.from_numpy(is_reset).to(fresh.device)[:, None, None, None],
            fresh,
            self.pool[drawn],
        )
        self.gains[drawn[is_reset]] = 0.0
        n = len(labels)
        of = chance.integers(0, len(drawn), (part + 1) * n)[part * n :]  # the entry of each image
        targets = self.targets[drawn][torch.from_numpy(of)].to(labels.device)
        is_own = targets == labels
        targets = torch.where(is_own, -1, targets)  # its own class is no target
        per_image = options.scope == "per_image"
        patches = entries[of] if per_image else entries
        which = np.arange(len(labels)) if per_image else of
        wins_at = self._widths(net, bits, step=step)
        weights = self._weights(net, drawn, of, wins_at).to(labels.device)
        victim = self._victim(net)
        pixels = images.float().contiguous(memory_format=torch.channels_last)
        gain: dict[int, float] = {}
        with attacking(victim):
            field = Field(
                victim, pixels, side=options.patch_px, placement=options.placement,
                seed=streams.key(self.seed, "a-qapa places", step), part=part,
            )  # fmt: skip
            seen_at = bits if bits in wins_at else wins_at[0]

            def worst() -> Placements:
                """The last places: of ``options.places`` the worst, where the patch is judged."""
                tried = range(1 + options.steps, 1 + options.steps + options.places)
                return field.worst(
                    patches, which, draws=tried, labels=labels, targets=targets, bits=seen_at
                )

            places = worst() if per_image else None
            for ascent in range(options.steps):
                at = places if places is not None else field.places(1 + ascent)
                patches = patches.detach().requires_grad_(True)
                shown = field.paste(patches, which, places=at)
                total = pixels.new_zeros(())
                for column, width in enumerate(wins_at):
                    won = gains_of(victim.select(width)(shown), labels, targets=targets)
                    total = total + (weights[:, column] * won).sum()
                    gain[width] = float(won.detach().mean())
                    if ascent + 1 == options.steps:
                        of_goal = ~is_own.cpu()
                        self._remember(
                            net, drawn, of[of_goal.numpy()], width=width,
                            won=won.detach().cpu()[of_goal],
                        )  # fmt: skip
                (gradient,) = torch.autograd.grad(total, patches)
                stride = options.step_size
                patches = (patches.detach() + stride * gradient.sign()).clamp(0.0, 1.0)
                if per_image:
                    index = torch.from_numpy(of).to(gradient.device)
                    mean = torch.zeros_like(entries).index_add(0, index, gradient)
                    entries = (entries + stride * mean.sign()).clamp(0.0, 1.0)
                else:
                    entries = patches
            with torch.no_grad():
                patches = patches.detach()
                shown = field.paste(patches, which, places=worst() if places is None else places)
        if options.pool:
            self.pool[drawn] = entries.detach()
        return Patched(shown.detach(), gain)

    def state(self) -> dict[str, Tensor]:
        """Pool, targets, running gains, and the frozen network where there is one, not a copy."""
        if self.pool is None or self.targets is None or self.gains is None:
            return {}
        found = {"pool": self.pool, "targets": self.targets, "gains": self.gains}
        frozen = self._frozen.state_dict() if self._frozen is not None else self._frozen_state
        return {
            **{name: value.clone() for name, value in found.items()},
            **{f"{CONSTANT}{name}": value for name, value in frozen.items()},
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave: the pool stays where it is given, the rest is the CPU's."""
        kept = {name: value.clone() for name, value in state.items()}
        self.pool, targets, gains = (kept.get(name) for name in ("pool", "targets", "gains"))
        self.targets = None if targets is None else targets.cpu()
        self.gains = None if gains is None else gains.cpu()
        frozen = {
            name.removeprefix(CONSTANT): value
            for name, value in kept.items()
            if name.startswith(CONSTANT)
        }
        if frozen:
            self._frozen, self._frozen_state = None, frozen

    def _begin(self, net: QuantNet, images: Tensor) -> None:
        """Makes the pool at the first call, and the frozen copy."""
        options, side = self.options, self.options.patch_px
        if options.bits in ("fp32", "frozen") and FLOAT_BITS not in net.widths:
            raise BadInput(
                f"a_qapa.bits={options.bits} attacks width 32, which --bits leaves out.",
                "Add 32 to --bits, or set a_qapa.bits=pair.",
            )
        if options.bits == "frozen" and self._frozen is None:
            self._frozen = copy.deepcopy(net)
            if self._frozen_state:
                self._frozen.load_state_dict(self._frozen_state)
        if self.pool is not None:
            return
        rows, columns = images.shape[2:]
        how = policy(options.placement, image_px=min(rows, columns))
        check_fit(how, (side, side), image_px=(rows, columns))
        chance = streams.generator(self.seed, "a-qapa", "pool")
        count = options.pool or options.entries
        noise = chance.random((count, 3, side, side), dtype=np.float32)
        self.pool = torch.from_numpy(noise).to(images.device)
        classes = torch.from_numpy(chance.integers(0, net.classes, count))
        is_targeted = torch.arange(count) < round(options.targeted * count)
        self.targets = torch.where(is_targeted, classes, -1)
        self.gains = torch.zeros(count, len(net.widths))

    def _victim(self, net: QuantNet) -> QuantNet:
        return self._frozen if self._frozen is not None else net

    def _widths(self, net: QuantNet, bits: int, *, step: int) -> tuple[int, ...]:
        match self.options.bits:
            case "pair":
                other = other_width(
                    net.widths, bits, seed=self.seed, step=step, purpose="a-qapa width"
                )
                return tuple(dict.fromkeys((bits, other)))
            case "current":
                return (bits,)
            case "all":
                return net.widths
            case "fp32" | "frozen":
                return (FLOAT_BITS,)

    def _weights(
        self, net: QuantNet, drawn: NDArray[np.int64], of: NDArray[np.int64], at: tuple[int, ...]
    ) -> Tensor:
        """Weight of each image's gain at each attacked width, ``(N, |at|)``; rows sum to 1."""
        assert self.gains is not None
        columns = [net.widths.index(width) for width in at]
        if self.options.bit_weights == "uniform":
            return torch.full((len(of), len(at)), 1 / len(at))
        running = self.gains[drawn][:, columns]
        shares: Tensor = torch.softmax(-running / self.options.temperature, dim=1)
        return shares[torch.from_numpy(of)]

    def _remember(
        self,
        net: QuantNet,
        drawn: NDArray[np.int64],
        of: NDArray[np.int64],
        *,
        width: int,
        won: Tensor,
    ) -> None:
        """Moves the running gain of the drawn entries at ``width`` towards that of their images."""
        assert self.gains is not None
        column = net.widths.index(width)
        index = torch.from_numpy(of)
        count = torch.bincount(index, minlength=len(drawn))
        mean = torch.zeros(len(drawn)).index_add(0, index, won) / count.clamp_min(1)
        there = torch.from_numpy(drawn)[count > 0]
        old = self.gains[there, column]
        self.gains[there, column] = (1 - EMA) * old + EMA * mean[count > 0]
