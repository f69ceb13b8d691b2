"""Claim: replaying a patch takes at most 1.05 times as long as a bare loop that only calls the
engine on the same batches.

One process, one thread, an 8-bit ResNet-20 on onnxruntime. Each round runs the bare loop and every
kind of replay once, in an order that rotates; ratios are taken within a round, and their median is
the claim. A replay is all of it: placing, pasting, calling, labels, margins, counts. Clean answers
are shared, as in ``attack``. The row named "stored" adds what a unit costs once, however many
images it has: its labels file and its line, flushed to the disk; the claim is not about the disk.

    python benchmarks/replay_overhead.py                 # an untrained ResNet-20, made in seconds
    python benchmarks/replay_overhead.py --run runs/latest --bits 4

Exit code 1 when the claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import records
from engine_speed import untrained

from qadtr_edge import console, data, metrics, replay, runs, streams
from qadtr_edge.attacks import controls
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.engines import open_engine
from qadtr_edge.patch.placement import policy
from qadtr_edge.results import Store
from qadtr_edge.types import Engine, Patch

MOST = 1.05
BARE = "bare loop"
FAILED = "DOES NOT HOLD"
STORED = "patch, random, stored"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        run = runs.open_run(options.run) if options.run else untrained(Path(folder))
        with open_engine(run, "ort", bits=options.bits) as engine:
            console.say(f"{engine.facts.precision}, {engine.facts.integer_kernels} integer kernels")
            kinds = _kinds(engine, options, folder=Path(folder))
            rows = _measured(kinds, rounds=options.rounds, images=options.images)
    path = records.append("replay_overhead", options=_as_json(options), rows=rows)
    print(_table(rows))
    console.say(f"Samples: {path}")
    sys.exit(0 if all(_verdict(row) != FAILED for row in rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=replay.BATCH)
    parser.add_argument("--patch-size", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def _as_json(options: argparse.Namespace) -> dict[str, object]:
    return {**vars(options), "run": None if options.run is None else str(options.run)}


def _kinds(
    engine: Engine, options: argparse.Namespace, *, folder: Path
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    subject = replay.Subject(
        engine,
        replay.engine_digest(engine.facts),
        _scored_on(engine, data.load("signs", "test", limit=options.images)),
        options.batch,
    )
    side = options.patch_size
    pixels = streams.generator(0, "patch").integers(0, 256, (3, side, side), dtype=np.uint8)
    patch = Patch(pixels, np.ones((side, side), bool), target=None)
    attacked = replay.Attacked("gap", "simulation", "none", tier="T1", threat="T-A")
    units = {
        f"{what}, {place}": replay.Unit(attacked, kind, policy(place, image_px=32), seed=0)
        for place in ("random", "plain")
        for what, kind in (("patch", patch), ("noise control", controls.noise(patch, seed=0)))
    }
    store = Store(folder / "results.jsonl", folder / "labels")

    def bare() -> None:
        images = subject.data.images
        for start in range(0, len(images), options.batch):
            engine(images[start : start + options.batch])

    def stored() -> None:
        row, outcomes = replay.replay(units["patch, random"], engine.facts, subject=subject)
        store.append(row, outcomes)

    def replayed(unit: replay.Unit) -> Callable[[], object]:
        return lambda: replay.replay(unit, engine.facts, subject=subject)

    assert len(subject.clean) == len(subject.data)  # asked for before any clock runs
    replays = {name: replayed(unit) for name, unit in units.items()}
    return {BARE: bare, **replays, STORED: stored}


def _scored_on(engine: Engine, images: Dataset) -> Dataset:
    """The images under the labels this engine gives them, so that an untrained one has eligible."""
    return replace(images, labels=metrics.predicted(engine(images.images)))


def _measured(
    kinds: dict[str, Callable[[], object]], *, rounds: int, images: int
) -> list[dict[str, object]]:
    """One row a kind of replay: median ratio to the bare loop of its round, and the samples."""
    names = list(kinds)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):  # the first round warms up and is dropped
        for offset in range(len(names)):
            name = names[(number + offset) % len(names)]
            begun = time.perf_counter()
            kinds[name]()
            if number >= 0:
                taken[name].append(time.perf_counter() - begun)
    bare = np.array(taken[BARE])
    return [
        {
            "kind": name,
            "ratio": float(np.median(np.array(taken[name]) / bare)),
            "added_us_per_image": float(np.median(np.array(taken[name]) - bare)) / images * 1e6,
            "bare_us_per_image": float(np.median(bare)) / images * 1e6,
            "seconds": [round(value, 6) for value in taken[name]],
            "bare_seconds": [round(value, 6) for value in taken[BARE]],
        }
        for name in names
        if name != BARE
    ]


def _verdict(row: dict[str, object]) -> str:
    if row["kind"] == STORED:
        return "-"
    return "holds" if cast(float, row["ratio"]) <= MOST else FAILED


def _table(rows: list[dict[str, object]]) -> str:
    columns = ["replay of", "bare loop us/image", "added us/image", "ratio", f"at most {MOST}"]
    return records.table(
        columns,
        [
            [
                str(row["kind"]),
                f"{row['bare_us_per_image']:.1f}",
                f"{row['added_us_per_image']:.1f}",
                f"{row['ratio']:.4f}",
                _verdict(row),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
