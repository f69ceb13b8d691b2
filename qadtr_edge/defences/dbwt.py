"""DBWT, bit-width cycling: which widths a training step runs at.

The abstract of arXiv 2503.07058 names the component and its purpose, against overfitting to one
quantization setting; the rules and the default are this project's definition. ``random`` is the
random precision training of Double-Win Quant (ICML 2021), ``cosine`` the cyclic precision schedule
of Fu et al. (ICLR 2021), ``joint`` any-precision training (arXiv 1911.07346).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .. import streams
from ..types import FLOAT_BITS
from .options import bounded


@dataclass(frozen=True)
class DbwtOptions:
    """- ``order``: ``cycle`` takes every width once per cycle, shuffled anew; ``random`` draws one
      at each step; ``epoch`` holds one for an epoch, widest first; ``cosine`` climbs from the
      narrowest to the widest by half a cosine wave and starts again at the narrowest, float left
      out; ``joint`` runs all widths at each step.
    - ``periods``: how many times ``cosine`` climbs in the whole training.
    """

    order: Literal["cycle", "random", "epoch", "cosine", "joint"] = "cycle"
    periods: int = bounded(8, 1, high=10_000)


def widths_at(
    options: DbwtOptions, widths: Sequence[int], *, seed: int, step: int, steps: int, epoch: int
) -> tuple[int, ...]:
    """The widths of step ``step`` (from 0) of ``steps``: one, or all of them under ``joint``.

    A pure function of its arguments.
    """
    match options.order:
        case "cycle":
            cycle, place = divmod(step, len(widths))
            order = streams.generator(seed, "width cycle", cycle).permutation(len(widths))
            return (widths[int(order[place])],)
        case "random":
            return (widths[int(streams.generator(seed, "width", step).integers(len(widths)))],)
        case "epoch":
            return (sorted(widths, reverse=True)[epoch % len(widths)],)
        case "cosine":
            held = sorted(width for width in widths if width != FLOAT_BITS) or [FLOAT_BITS]
            climbed = options.periods * step % steps / steps  # (t mod T) / T, T = steps / periods
            wanted = held[0] + (held[-1] - held[0]) * (1 - math.cos(math.pi * climbed)) / 2
            return (min(held, key=lambda width: abs(width - wanted)),)
        case "joint":
            return tuple(sorted(widths, reverse=True))


def other_width(widths: Sequence[int], width: int, *, seed: int, step: int, purpose: str) -> int:
    """A width of ``widths`` other than ``width``, uniform; ``width`` itself when there is none."""
    others = [each for each in widths if each != width]
    if not others:
        return width
    return others[int(streams.generator(seed, purpose, step).integers(len(others)))]
