"""How sure a rate is: images and patches are drawn anew, and all networks share the draws.

So the difference of two networks has the spread of a paired comparison, and a rate over five
patches that of other patches too (Owen's pigeonhole bootstrap).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import streams

RESAMPLES = 2000

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def rates(won: Flags, able: Flags, *, patches: str) -> Floats:
    """Fooled over eligible in each draw, ``(RESAMPLES,)``, of outcomes ``(P, N)``.

    ``patches`` names the P patches: cells of one name share the draws of them.
    """
    count, n = won.shape
    images = _times(n, "images")
    shown = _times(count, patches)
    fooled, eligible = (((shown @ side) * images).sum(1) for side in (won, able))
    found: Floats = fooled / np.maximum(1, eligible)
    return found


def middle(samples: Floats) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=64)
def _times(count: int, name: str) -> Floats:
    """How often each of ``count`` things is drawn, ``(RESAMPLES, count)``."""
    chance = streams.generator(0, "paper table", name)
    return chance.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES).astype(np.float64)
