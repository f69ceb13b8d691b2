"""Energy from power: a source that tells watts now and then, added up over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds from any origin, never going back."""


class Integral:
    """Joules since the first sample, each sample holding until the next; safe between threads.

    ``close`` is what the source needs to end.
    """

    def __init__(self, name: str, *, clock: Clock = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._watts: float | None = None
        self._since_s = 0.0
        self._joules = 0.0
        self._closers: list[Callable[[], None]] = []

    def told(self, watts: float) -> None:
        """A sample, taken now."""
        with self._lock:
            self._advance()
            self._watts = watts

    def joules(self) -> float:
        with self._lock:
            self._advance()
            return self._joules

    @property
    def started(self) -> bool:
        """Whether a sample has come."""
        return self._watts is not None

    def on_close(self, end: Callable[[], None]) -> None:
        self._closers.append(end)

    def close(self) -> None:
        while self._closers:
            self._closers.pop()()

    def _advance(self) -> None:
        now_s = self._clock()
        if self._watts is not None:
            self._joules += self._watts * (now_s - self._since_s)
        self._since_s = now_s


def sampled(name: str, watts: Callable[[], float], *, period_s: float) -> Integral:
    """An integral fed by a thread that asks ``watts`` every ``period_s`` seconds."""
    found = Integral(name)
    found.told(watts())  # a source that fails does so here, where the caller sees it
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(period_s):
            found.told(watts())

    asking = threading.Thread(target=ask, name=name, daemon=True)
    asking.start()
    found.on_close(asking.join)
    found.on_close(ended.set)  # closers run last first
    return found
