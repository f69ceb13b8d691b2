"""The meter ``bench`` reads energy from, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..devices import power
from ..errors import Unsupported


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
