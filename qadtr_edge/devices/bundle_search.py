"""A search as a part of a bundle: named in the plan, made on the engine of the device itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .. import console, registry, replay, search
from ..attacks.queries import Search
from ..runs import width_name
from ..types import EngineFacts, Json, Pixels

KIND = "search"
POOL = "pool"
"""The option that takes pictures to begin with; they travel beside the plan."""


@dataclass(frozen=True)
class Sought:
    """One search on each image: its name in the registry, what it is built with, its seed.

    ``pooled``: it begins with other pictures, those of the bundle.
    """

    name: str
    options: Mapping[str, Json]
    seed: int
    pooled: bool

    def built(self, pool: Pixels | None) -> Search:
        """The search itself."""
        make = cast(Callable[..., Search], registry.resolve(KIND, self.name))
        given: dict[str, object] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.options.items()
        }
        return make(**given, **({POOL: pool} if self.pooled else {}))


def found(
    sought: Sought, subject: replay.Subject, *, facts: EngineFacts, pool: Pixels | None,
    folder: Path,
) -> replay.Unit:  # fmt: skip
    """What the search finds on this engine, to be replayed; what ``folder`` holds is read."""
    attack = sought.built(pool)
    images = subject.data.images
    total = len(images) * attack.budget((images.shape[2], images.shape[3]))
    width = width_name(facts.bits)
    label = f"Searching {facts.engine} {width} by {attack.name}"
    with console.Progress(label, total, unit="queries") as bar:
        return search.unit(
            attack, subject, victim=f"{facts.engine}-{width}", folder=folder, seed=sought.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )  # fmt: skip
