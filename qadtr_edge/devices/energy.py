"""What one inference costs in energy: what is drawn at work, what is drawn at rest, and both told.

Energy per image is one named total over whole seconds of work, and the same less what the machine
draws at rest. Neither is the energy of the network alone: the CPU that feeds it is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..types import Json, Pixels
from .power import Meter, Source

WINDOW_S = 2.0
"""Shortest window of work, and of rest, that energy is measured over."""

SETTLE_S = 0.5
"""Before each window, so that a sample of the one before does not reach into it."""


@dataclass(frozen=True)
class Energy:
    """``idle_w``, ``busy_w``: mean power at rest and at work; ``images``: in ``busy_s`` of work."""

    source: str
    idle_w: float
    busy_w: float
    busy_s: float
    images: int

    @property
    def mj_per_image(self) -> float:
        """Millijoules, everything the source covers."""
        return 1000 * self.busy_w * self.busy_s / self.images

    @property
    def mj_per_image_above_idle(self) -> float:
        """Millijoules beyond what would have been drawn at rest."""
        return 1000 * (self.busy_w - self.idle_w) * self.busy_s / self.images

    def as_json(self) -> dict[str, Json]:
        return {
            "source": self.source,
            "idle_w": round(self.idle_w, 4),
            "busy_w": round(self.busy_w, 4),
            "images": self.images,
            "mj_per_image": round(self.mj_per_image, 6),
            "mj_per_image_above_idle": round(self.mj_per_image_above_idle, 6),
        }


def of_engine(
    source: Source, engine: Callable[[Pixels], object], *, images: Pixels, window_s: float
) -> Energy | None:
    """The energy of the engine on this batch, over ``WINDOW_S`` at least; ``None`` untold."""
    if source.meter is None:
        return None

    def call() -> None:
        engine(images)

    window_s = max(WINDOW_S, window_s)
    return measure(source.meter, call, batch=len(images), window_s=window_s)


def measure(
    meter: Meter,
    call: Callable[[], None],
    *,
    batch: int,
    window_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """The energy of ``call``, which shows the engine ``batch`` images, over ``window_s`` seconds.

    As long at rest first.
    """
    sleep(SETTLE_S)
    begun_s, begun_j = clock(), meter.joules()
    sleep(window_s)
    idle_w = (meter.joules() - begun_j) / (clock() - begun_s)
    end_s = clock() + SETTLE_S
    while clock() < end_s:
        call()
    begun_s, begun_j, calls = clock(), meter.joules(), 0
    while clock() < begun_s + window_s:
        call()
        calls += 1
    busy_s = clock() - begun_s
    busy_w = (meter.joules() - begun_j) / busy_s
    return Energy(meter.name, idle_w, busy_w, busy_s, images=calls * batch)
