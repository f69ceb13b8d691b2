"""How reports spell numbers: fractions as percent, and "not run" for what is absent."""

from __future__ import annotations

from .. import metrics
from ..types import FLOAT_BITS
from ..verdict.worst import Worst
from .engine import EngineEvidence
from .reading import Object
from .rows import Row

NOT_RUN = "not run"


def ran_as(engine: EngineEvidence) -> str:
    """Values and kernels apart: a narrow width is never passed off as a narrow kernel."""
    if engine.bits == FLOAT_BITS:
        return "float32"
    if engine.precision is None:
        return "not observed"
    whole = engine.precision == "integer"
    return f"values {engine.bits}-bit, kernel int8" if whole else engine.precision.upper()


def parity(engine: EngineEvidence) -> str:
    """Mismatching logits out of those compared with the integer graph."""
    if engine.bits == FLOAT_BITS:
        return "-"
    if engine.parity is None:
        return NOT_RUN
    found = engine.parity
    return f"{found.get('logit_mismatches')} of {found.get('logits_compared')} logits differ"


def attack(row: Row) -> str:
    """The attack of a row, whether it is a control, and the lead its patches were kept at."""
    kappa = row.result.kappa
    name = row.result.attack if kappa is None else f"{row.result.attack}, first by {kappa:g}"
    return f"{name} (control)" if row.is_control else name


def rate(found: Row | Worst) -> str:
    """An attack success rate and its interval."""
    return spread(found.asr, found.interval.low, high=found.interval.high)


def share(held: int, of: int) -> str:
    """``held`` among ``of`` as a rate, and its interval."""
    interval = metrics.wilson(held, of)
    return spread(metrics.rate(held, of), interval.low, high=interval.high)


def spread(value: float, low: float, *, high: float) -> str:
    """``30.5 % [27.7, 33.5]`` of fractions."""
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def paired(row: Row | None) -> str:
    """Images only the simulation, and only the engine, loses to the patch."""
    if row is None or row.p_mcnemar is None:
        return NOT_RUN
    counts = row.result.counts
    return f"{counts.sim_only} / {counts.engine_only} (p = {row.p_mcnemar:.2g})"


def percent(fraction: float | None) -> str:
    return NOT_RUN if fraction is None else f"{100 * fraction:.1f} %"


def points(fraction: float | None) -> str:
    return NOT_RUN if fraction is None else f"{100 * fraction:+.1f} points"


def goal(row: Row) -> str:
    target = row.result.target
    return row.result.goal if target is None else f"to class {target}"


def milliseconds(timed: Object | None) -> str:
    """``p50 / p90 / p99`` of a latency row, marked when it was not stable."""
    if timed is None:
        return NOT_RUN
    values = (timed.get(key) for key in ("p50_ms", "p90_ms", "p99_ms"))
    text = " / ".join(f"{value:.3f}" for value in values if isinstance(value, float | int))
    return text if timed.get("stable") is True else f"{text} UNSTABLE"


def energy(timed: Object | None) -> str:
    """Millijoules an image, and those above the idle machine."""
    found = None if timed is None else timed.get("energy")
    if not isinstance(found, dict):
        return NOT_RUN
    whole, above = found.get("mj_per_image"), found.get("mj_per_image_above_idle")
    if not isinstance(whole, float | int) or not isinstance(above, float | int):
        return NOT_RUN
    return f"{whole:.3f} mJ/image ({above:.3f} above idle, {found.get('source')})"


def number(timed: Object | None, key: str, *, shape: str) -> str:
    """One number of a latency row in a format such as ``{:.2f}``."""
    value = None if timed is None else timed.get(key)
    return shape.format(value) if isinstance(value, float | int) else NOT_RUN
