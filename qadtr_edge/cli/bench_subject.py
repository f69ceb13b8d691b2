"""What ``bench`` measures: an opened engine, and the meter where there is one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..devices import power
from ..engines import open_engine
from ..errors import Unsupported
from ..runs import Run, width_name
from ..types import Engine


@dataclass(frozen=True, eq=False)
class Subject:
    """An engine, and what opening it took: ``memory_bytes`` is how much the process grew."""

    engine: Engine
    load_ms: float
    memory_bytes: int | None

    @property
    def key(self) -> str:
        return f"{self.engine.facts.engine}-{width_name(self.engine.facts.bits)}"


@contextmanager
def open_subject(run: Run, name: str, *, bits: int, threads: int) -> Iterator[Subject]:
    before, begun = _resident_bytes(), time.perf_counter()
    with open_engine(run, name, bits=bits, threads=threads) as engine:
        load_ms = 1000 * (time.perf_counter() - begun)
        after = _resident_bytes()
        grown = None if before is None or after is None else after - before
        yield Subject(engine, load_ms, grown)


def _resident_bytes() -> int | None:
    """Memory this process holds; ``None`` where the system does not tell."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024 * int(line.split()[1])


@dataclass(frozen=True, eq=False)
class Source:
    """The meter, or in ``said`` why there is none."""

    meter: power.Meter | None
    said: str


@contextmanager
def meter(asked: bool) -> Iterator[Source]:
    if not asked:
        yield Source(None, "Not asked for: --energy.")
        return
    try:
        with power.meter() as found:
            yield Source(found, found.name)
    except Unsupported as error:
        yield Source(None, str(error))
