"""How analyses spell estimates and their intervals in tables."""

from __future__ import annotations

import numpy as np

from ..resampling import Estimate


def shown(value: float, *, digits: int = 2) -> str:
    """``value`` for a table; ``-`` for NaN."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def percent(found: Estimate) -> str:
    """``12.3 % [10.1, 14.9]`` of a rate."""
    if not np.isfinite(found.value):
        return "-"
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
