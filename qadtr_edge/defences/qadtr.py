"""QADT-R: quantization-aware defense training with randomization (arXiv 2503.07058).

Its three parts stand beside it and can each be changed or left out: A-QAPA makes the patches
(``aqapa.py``), DBWT chooses the widths (``dbwt.py``), GIR regularizes (``gir.py``). The abstract
fixes what each is for; formulas and defaults are this project's definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .. import streams
from ..errors import BadInput
from ..models.quantnet import QuantNet
from . import gir
from .aqapa import Aqapa, AqapaOptions
from .dbwt import DbwtOptions, other_width, widths_at
from .defence import Batch, Step
from .distill import DistillOptions, taught
from .gir import GirOptions, Inconsistency
from .mixed import mixed_loss, told_accuracy
from .options import bounded


@dataclass(frozen=True)
class QadtrOptions:
    """- ``patches``: ``on``, or ``off`` to leave A-QAPA out; ``share``: part of a batch patched.
    - ``a_qapa``, ``dbwt``, ``gir``, ``distill``: the parts.
    """

    patches: Literal["on", "off"] = "on"
    share: float = bounded(0.5, 0.0, high=1.0)
    a_qapa: AqapaOptions = field(default_factory=AqapaOptions)
    dbwt: DbwtOptions = field(default_factory=DbwtOptions)
    gir: GirOptions = field(default_factory=GirOptions)
    distill: DistillOptions = field(default_factory=DistillOptions)


class Qadtr:
    """Half of each batch patched against the network as it is now, at the widths of the step."""

    name = "qadtr"
    float_share = 0.0
    Options = QadtrOptions

    def __init__(self, options: QadtrOptions, *, seed: int) -> None:
        """Raises ``BadInput`` for GIR-A on the patches of images that carry none."""
        has_patches = options.patches == "on" and options.share > 0
        if options.gir.variant == "A" and options.gir.region == "patch" and not has_patches:
            raise BadInput(
                "gir.region=patch compares gradients on patches, and no image has one "
                "(patches=off or share=0).",
                "Set gir.region=image, or patch some of the images.",
            )
        self.options = options
        self.seed = seed
        self.attack = Aqapa(options.a_qapa, seed=seed)

    def step(self, net: QuantNet, batch: Batch) -> Step:
        """Cross-entropy of the mixed batch, averaged over its widths, plus GIR-A.

        Patches and GIR-A start from one of its widths, drawn where it has several.
        """
        options, seed = self.options, self.seed
        widths = widths_at(
            options.dbwt, net.widths, seed=seed, step=batch.step, steps=batch.steps,
            epoch=batch.epoch,
        )  # fmt: skip
        chance = streams.generator(seed, "anchor width", batch.step)
        anchor = widths[int(chance.integers(len(widths)))]  # of one width, that one
        told: dict[str, float] = {}
        patched = round(options.share * len(batch.labels)) if options.patches == "on" else 0
        shown = batch.images.float()
        if patched:
            made = self.attack.patch(
                net, batch.images[-patched:], labels=batch.labels[-patched:], bits=anchor,
                step=batch.step, part=batch.part,
            )  # fmt: skip
            shown = torch.cat([shown[:-patched], made.shown])
            told |= {f"gain_w{bits}": gain for bits, gain in made.gain.items()}
        shown = shown.contiguous(memory_format=torch.channels_last)
        net.backward_noise = options.gir.backward_noise if options.gir.variant == "C" else 0.0
        losses = []
        for bits in widths:
            logits = net.train().select(bits)(shown)
            loss = mixed_loss(logits, batch.labels, patched=patched)
            losses.append(
                loss + taught(net, options.distill, shown=shown, bits=bits, logits=logits)
            )
            told |= told_accuracy(logits, batch.labels, patched=patched, bits=bits)
        net.backward_noise = 0.0
        total = torch.stack(losses).mean()
        if options.gir.variant == "A" and options.gir.weight:
            found = self._inconsistency(net, shown, batch, bits=anchor, patched=patched)
            total = total + options.gir.weight * self._ramp(batch) * found.penalty
            told["gradient_skipped"] = found.skipped
            if found.cosine is not None:
                told["gradient_cosine"] = found.cosine
        return Step(total, shown, told)

    def _inconsistency(
        self, net: QuantNet, shown: Tensor, batch: Batch, *, bits: int, patched: int
    ) -> Inconsistency:
        """GIR-A on the last of the ``patched`` images, or of all where none is."""
        options = self.options.gir
        count = min(options.images, patched or len(batch.labels))
        other = bits if options.pair == "same_bit" else other_width(
            net.widths, bits, seed=self.seed, step=batch.step, purpose="gir width"
        )  # fmt: skip
        region = None
        if options.region == "patch":
            clean = batch.images[-count:].float()
            region = (shown[-count:] != clean).any(dim=1, keepdim=True).to(shown.dtype)
        return gir.inconsistency(
            net, shown[-count:], labels=batch.labels[-count:], bits=(bits, other),
            sigma=options.sigma, region=region,
        )  # fmt: skip

    def _ramp(self, batch: Batch) -> float:
        """How much of GIR-A's weight counts so far, 0 to 1."""
        ramp = self.options.gir.ramp
        return min(1.0, batch.progress / ramp) if ramp else 1.0

    def perturb(self, net: QuantNet, batch: Batch) -> None:
        """GIR-B."""
        if self.options.gir.variant == "B":
            gir.shake(net, sigma=self.options.gir.training_noise, epoch=batch.epoch)

    def state(self) -> dict[str, Tensor]:
        """That of the pool."""
        return self.attack.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """That of the pool."""
        self.attack.restore(state)
