"""A small bundle, made without training: two widths of a small network, some patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

import handmade
from qadtr_edge import registry, replay, runs, timing
from qadtr_edge.attacks import controls
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.devices import bundle as bundles
from qadtr_edge.devices.bundle import Clock, Job
from qadtr_edge.engines import open_engine
from qadtr_edge.integer import graph_file
from qadtr_edge.patch.placement import policy
from qadtr_edge.replay import Attacked, Unit
from qadtr_edge.results import Outcomes
from qadtr_edge.types import EngineFacts, Patch, Result

CLOCK = Clock(timing.Plan("quick", windows=2, window_s=0.001, warmup_s=0.001), (1, 3))
WIDTHS = (8, 4)


def run(root: Path) -> runs.Run:
    made = runs.new_run(root)
    build = cast(Callable[..., EngineFacts], registry.resolve("builder", "ort"))
    for bits in WIDTHS:
        graph = handmade.residual(bits=bits)
        graph_file.save(graph, made.graph(bits))
        build(graph, made.engine("ort", bits))
    return made


def data(made: runs.Run, *, images: int = 24) -> Dataset:
    """Noise, labelled with what the wider engine says to it."""
    pixels = handmade.images(images)
    with open_engine(made, "ort", bits=8) as engine:
        labels = engine(pixels).argmax(axis=1).astype(np.int64)
    return Dataset(
        "noise", "test", pixels, labels, np.arange(100, 100 + images)[::-1].copy(),
        tuple("abcdefghij"), flip_allowed=False,
    )  # fmt: skip


def units(pool: Dataset, *, patches: int = 2) -> tuple[Unit, ...]:
    """Random patches, rotated and upright, one per image among them, one pushing to a class."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(patches):
        mask = np.ones((4, 3), bool)
        mask[0, 0] = number % 2 == 0
        pixels = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        patch = Patch(pixels, mask, target=None, origin={"attack": "gap", "seed": number})
        how = policy(("random", "plain")[number % 2], image_px=8)
        said = Attacked("gap", "surrogate", "twin-w8a8", "T1", "T-A")
        found.append(Unit(said, patch, how, number))
    noise = controls.noise(patch, seed=5)
    found.append(Unit(Attacked("noise", "none", "none", "T0", "T-A"), noise, how, 5))
    crop = controls.crop(patch, pool=pool, seed=5)
    found.append(Unit(Attacked("crop", "none", "none", "T0", "T-A"), crop, how, 5))
    return tuple(found)


def bundle(path: Path, made: runs.Run, *, images: int = 24, patches: int = 2) -> str:
    """Writes the bundle; the digest of its plan."""
    shown = data(made, images=images)
    jobs = [Job("ort", bits, units(shown, patches=patches)) for bits in WIDTHS]
    return bundles.write(path, jobs, run=made, data=shown, classes=10, clock=CLOCK)


def replayed(made: runs.Run, *, images: int = 24) -> list[tuple[Result, Outcomes]]:
    """The rows of the bundle's units as replay gives them in this process."""
    shown = data(made, images=images)
    found = []
    for bits in WIDTHS:
        with open_engine(made, "ort", bits=bits) as engine:
            subject = replay.Subject(engine, replay.engine_digest(engine.facts), shown)
            found += [replay.replay(unit, engine.facts, subject=subject) for unit in units(shown)]
    return found
