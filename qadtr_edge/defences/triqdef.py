"""TriQDef (Guesmi, Ouni, Shafique, arXiv 2508.12132): widths that disagree about patches.

One set of weights at several widths, trained jointly on clean and patched images, with penalties on
widths that see the same features (FDP) or have the same gradients (GPDP), so that a patch made at
one width does not carry over to another:

    L = L_clean + lambda_adv L_adv + lambda_FDP L_FDP + lambda_GPDP L_GPDP,    1, 0.8, 0.5

L_clean and L_adv are the mean cross-entropies over the active widths. The parts stand in
``patch_source.py``, ``disagreement.py`` with ``edges.py``, and ``bact.py``; each says what of it is
the paper's and what is this project's definition, which half of a batch being patched also is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import BadInput
from ..models.quantnet import QuantNet
from . import disagreement
from .bact import Bact
from .defence import Batch, Step
from .disagreement import FdpOptions, GpdpOptions
from .mixed import told_accuracy
from .options import bounded
from .patch_source import PatchOptions, PatchSource


@dataclass(frozen=True)
class TriqdefOptions:
    """- ``share``: part of a batch patched; ``adv_weight``: lambda_adv.
    - ``curriculum``: ``bact``, or ``off`` to train all widths from the start; ``add_at``: shares of
      training at which a width joins; ``calibration_images``: what it is calibrated on.
    - ``fdp``, ``gpdp``, ``patches``: the parts.
    """

    share: float = bounded(0.5, 0.0, high=1.0)
    adv_weight: float = bounded(1.0, 0.0, high=1e3)
    curriculum: Literal["bact", "off"] = "bact"
    add_at: tuple[float, ...] = field(default=(0.3, 0.45, 0.6), metadata={"range": (0.0, 1.0)})
    calibration_images: int = bounded(200, 1, high=1 << 20)
    fdp: FdpOptions = field(default_factory=FdpOptions)
    gpdp: GpdpOptions = field(default_factory=GpdpOptions)
    patches: PatchOptions = field(default_factory=PatchOptions)


class Triqdef:
    """All active widths at each step, on one batch of which half is patched."""

    name = "triqdef"
    float_share = 0.0
    Options = TriqdefOptions

    def __init__(self, options: TriqdefOptions, *, seed: int) -> None:
        self.options = options
        add_at = options.add_at if options.curriculum == "bact" else ()
        self.curriculum = Bact(add_at, images=options.calibration_images)
        self.patches = PatchSource(options.patches, seed=seed)

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """The loss above at the active widths. ``BadInput`` for penalties on a single width."""
        options = self.options
        if len(net.widths) < 2 and (options.fdp.weight or options.gpdp.weight):
            raise BadInput(
                f"{self.name} makes widths disagree, and --bits {net.widths[0]} is one alone.",
                "Give more widths, for example --bits 32,8,4, or use --recipe pbat.",
            )
        widths = self.curriculum.widths(net, batch)
        told: dict[str, float] = {"active_widths": float(len(widths))}
        patched = round(options.share * len(batch.labels))
        shown = batch.images.float()
        if patched:
            made = self.patches.patch(net, batch, count=patched, widths=widths)
            shown = torch.cat([shown[:-patched], made.shown])
            told |= {f"gain_w{bits}": gain for bits, gain in made.gain.items()}
        shown = shown.contiguous(memory_format=torch.channels_last)
        with_pairs = bool(patched) and len(widths) > 1
        losses, maps = [], []
        for bits in widths:
            net.train().select(bits)
            if with_pairs and options.fdp.weight:
                logits, features = self._observed(net, shown, patched=patched)
                maps.append(features)
            else:
                logits = net(shown)
            losses.append(self._classification(logits, batch.labels, patched=patched))
            told |= told_accuracy(logits, batch.labels, patched=patched, bits=bits)
        total = torch.stack(losses).mean()
        if maps:
            penalty = disagreement.fdp(maps, options.fdp)
            told["fdp"] = penalty.item()
            total = total + options.fdp.weight * penalty
        if with_pairs and options.gpdp.weight:
            count = min(options.gpdp.images, patched)
            penalty = disagreement.gpdp(
                net, shown[-count:], labels=batch.labels[-count:], widths=widths,
                options=options.gpdp,
            )  # fmt: skip
            told["gpdp"] = penalty.item()
            total = total + options.gpdp.weight * penalty
        return Step(total, shown, told)

    def _observed(
        self, net: QuantNet, shown: Tensor, *, patched: int
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Logits of all images, and the maps of the patched ones at the ends of the stages."""
        tensors = net.run(shown)
        ends = disagreement.stage_ends(net, tensors, stages=self.options.fdp.stages)
        maps = [disagreement.one_channel(tensors[name][-patched:]) for name in ends]
        return tensors[net.steps[-1].name], maps

    def _classification(self, logits: Tensor, labels: Tensor, *, patched: int) -> Tensor:
        """``L_clean + lambda_adv L_adv`` of one width; what no image belongs to is 0."""
        clean = len(labels) - patched
        total = logits.new_zeros(())
        if clean:
            total = total + functional.cross_entropy(logits[:clean], labels[:clean])
        if patched:
            adversarial = functional.cross_entropy(logits[clean:], labels[clean:])
            total = total + self.options.adv_weight * adversarial
        return total

    def perturb(self, net: QuantNet, batch: Batch) -> None:
        """Nothing."""

    def state(self) -> dict[str, Tensor]:
        """Those of the patches and the curriculum."""
        return {
            **{f"patches.{name}": value for name, value in self.patches.state().items()},
            **{f"curriculum.{name}": value for name, value in self.curriculum.state().items()},
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        for prefix, part in (("patches.", self.patches), ("curriculum.", self.curriculum)):
            part.restore(
                {
                    name.removeprefix(prefix): value
                    for name, value in state.items()
                    if name.startswith(prefix)
                }
            )
