"""The attack suites: which attacks, on which victims, how often, at what budget. Data only.

Budgets are this project's choice, from published recipes where there are some (100 steps and 10 or
30 restarts: PBAT; 1,000 to 10,000 queries: Sparse-RS). A suite may show that a network falls; it
never shows that one holds. The size of the patch is the threat, not the effort, and alone left to
choose: 6 px on small images and 50 px from 96 px on, unless ``--patch-size`` says another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .types import Json

SELECTED_ON = 200
"""Crafting images on the engine by which the best patches are chosen; none of them is scored."""


@dataclass(frozen=True)
class Line:
    """One attack of a suite.

    - ``attack``: its name, in whichever table of the registry. ``options``: of its constructor.
    - ``victims``: what it is crafted on, in the words of ``--victim``; none for searches.
    - ``seeds``: how often it is made or searched anew. ``places``: how often a patch made for all
      images is replayed, each time at other places.
    - ``targets``: classes it pushes to, evenly spaced among all; 0: untargeted.
    - ``best``: of the patches of T1, how many it takes up; ``None``: all. ``grid``: places along a
      side of the image at which it shows them.
    """

    tier: str
    attack: str
    victims: tuple[str, ...] = ()
    seeds: int = 1
    places: int = 1
    targets: int = 0
    best: int | None = None
    grid: int = 0
    options: Mapping[str, Json] = field(default_factory=dict)


CONTROL_PLACES = {"quick": 5, "default": 20, "full": 20}
"""T0: how often grey, noise, crop and the shuffled patch are replayed; as T1."""

MARGINS = {"quick": (0.0,), "default": (0.0, 1.0, 3.0), "full": (0.0, 1.0, 3.0)}
"""T3: leads in logits; the first patch that led by each is replayed beside the best."""

OWN = ("twin",)
ALL = ("twin", "simulation", "other", "widths")

DIFFERENTIAL: dict[str, tuple[Line, ...]] = {
    "quick": (Line("T7", "differential", OWN, options={"steps": 40, "restarts": 2}),),
    "default": (Line("T7", "differential", OWN, options={"steps": 100, "restarts": 10}),),
    "full": (
        Line("T7", "differential", OWN, options={"steps": 100, "restarts": 30}),
        Line("T7", "patch_rs_differential", seeds=3, options={"queries": 1000}),
    ),
}
"""T7, an option of every suite: what T3 spends, on two networks, and in ``full`` a search."""

SUITES: dict[str, tuple[Line, ...]] = {
    "quick": (
        Line("T1", "gap", ("twin", "other"), places=5),
        Line("T1", "gap", ("widths",), places=5, options={"steps": 60}),
        Line("T1", "gap", OWN, places=5, targets=1),
        Line("T1", "lavan", OWN, places=5),
        Line("T1", "dpr", OWN, places=5),
        Line("T2", "sweep", best=1, grid=8),
        Line("T3", "pgd", OWN, options={"steps": 40, "restarts": 2}),
        Line("T4", "patch_rs", options={"queries": 1000}),
        Line("T6", "label_search", options={"queries": 200}),
    ),
    "default": (
        Line("T1", "gap", ("twin", "other", "widths"), seeds=5, places=20),
        Line("T1", "gap", OWN, seeds=5, places=20, targets=1),
        Line("T1", "lavan", OWN, seeds=5, places=20),
        Line("T1", "dpr", OWN, seeds=5, places=20),
        Line("T2", "sweep", grid=8),
        Line("T2", "sweep", best=3, grid=32),
        Line("T3", "pgd", OWN, options={"steps": 100, "restarts": 10}),
        Line("T3", "loap", OWN, options={"steps": 100, "attempts": 10}),
        Line("T3", "adaptive", ("twin", "widths"), options={"steps": 100, "restarts": 10}),
        Line("T4", "patch_rs", seeds=3, options={"queries": 1000}),
        Line("T4", "mpa", options={"queries": 1000}),
        Line("T5", "patch_rs_universal", seeds=3, options={"queries": 10_000}),
        Line("T6", "label_search", options={"queries": 1000}),
    ),
    "full": (
        Line("T1", "gap", ALL, seeds=5, places=20),
        Line("T1", "gap", ALL, seeds=5, places=20, targets=3),
        Line("T1", "lavan", ALL, seeds=5, places=20),
        Line("T1", "dpr", ALL, seeds=5, places=20),
        Line("T2", "sweep", best=30, grid=16),
        Line("T2", "sweep", best=10, grid=32),
        Line("T3", "pgd", OWN, options={"steps": 100, "restarts": 30, "moves": "full"}),
        Line("T3", "loap", OWN, options={"steps": 100, "attempts": 30, "moves": "full"}),
        Line("T3", "adaptive", ("twin", "widths"), options={"steps": 100, "restarts": 30}),
        Line("T4", "patch_rs", seeds=3, options={"queries": 10_000}),
        Line("T4", "mpa", options={"queries": 10_000}),
        Line("T5", "patch_rs_universal", seeds=5, options={"queries": 100_000}),
        Line("T6", "label_search", options={"queries": 10_000}),
    ),
}
