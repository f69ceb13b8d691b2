"""The phases of a training: what each trains, for how many steps, at which rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .defences.defence import Defence
from .defences.plain import FloatOnly
from .models.quantnet import QuantNet

if TYPE_CHECKING:
    from .train import TrainOptions


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of training with one cosine: ``float`` before the widths exist, or ``quantized``.

    ``label`` names it in the log and in the random streams; ``lr`` is its peak rate.
    """

    label: str
    kind: str
    steps: int
    lr: float
    defence: Defence

    def rate(self, step: int) -> float:
        """The rate of ``step``: a linear warm-up over the first 5 %, then a cosine to zero."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.lr * (step + 1) / warm
        past = (step - warm) / max(1, self.steps - warm)
        return self.lr * 0.5 * (1 + math.cos(math.pi * past))


def phases_of(
    net: QuantNet, defence: Defence, *, options: TrainOptions, per_epoch: int
) -> tuple[Phase, ...]:
    """Plain float epochs, the float part of the defence where it has one, the quantized rest.

    A network of width 32 alone has no quantized rest: the whole defence is its float part. After
    float epochs the peak rate is ``options.later_lr``. Strict scales train with batch norm folded
    and frozen, where nothing renormalises a step that is too long: ResNet-20 diverges at 0.02 and
    trains at 0.003, so a tenth of the others' rate.
    """

    def steps(epochs: float) -> int:
        return max(1, round(epochs * per_epoch)) if epochs else 0

    lr = options.lr
    if options.float_epochs:
        lr = options.lr / 5 if options.later_lr is None else options.later_lr
    quantized_lr = lr / 10 if net.spec.scales == "strict" else lr
    share, epochs = defence.float_share if net.plans else 1.0, options.epochs
    return (
        Phase("float", "float", steps(options.float_epochs), options.lr, FloatOnly()),
        Phase("defended float", "float", steps(share * epochs), lr, defence),
        Phase("quantized", "quantized", steps((1 - share) * epochs), quantized_lr, defence),
    )
