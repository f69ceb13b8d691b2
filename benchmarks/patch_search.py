"""Claim: searching adds at most 10 us a query to what the engine takes, and a sweep of 784 places
on 1,000 CIFAR-sized images takes at most 5 minutes on one thread.

One process, one thread, an 8-bit ResNet-20 on onnxruntime. Each search runs once a round beside a
bare loop that only calls the engine on batches of the same sizes; the difference, divided by the
queries, is the bookkeeping, and bare loop over search is how busy the engine is. The order within a
round rotates. In "all stay" no image leaves, so every batch is full; in "fooled leave" the batches
shrink as they do in an attack.

    python benchmarks/patch_search.py                 # an untrained ResNet-20, made in seconds
    python benchmarks/patch_search.py --run runs/latest --data cifar10

Exit code 1 when the claim does not hold.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import records
from engine_speed import untrained

from qadtr_edge import console, data, metrics, runs, streams
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.queries import BATCH, Logits, Search
from qadtr_edge.attacks.sweep import Sweep
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.engines import open_engine
from qadtr_edge.types import Engine, Patch, Pixels

MOST_US = 10.0
MOST_SWEEP_S = 300.0
WHOLE_SWEEP = 784 * 1000
NEVER = 1e9
"""A margin no logit reaches: no image leaves."""

FAILED = "DOES NOT HOLD"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        run = runs.open_run(options.run) if options.run else untrained(Path(folder))
        with open_engine(run, "ort", bits=options.bits) as engine:
            console.say(f"{engine.facts.precision}, {engine.facts.integer_kernels} integer kernels")
            images = data.load(options.data, "test", limit=options.images)
            rows = [_measured(case, options) for case in _cases(engine, images, options)]
    path = records.append("patch_search", options=_as_json(options), rows=rows)
    print(_table(rows))
    console.say(f"Samples: {path}")
    sys.exit(0 if all(_verdict(row) != FAILED for row in rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--data", default="signs")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--stride", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _as_json(options: argparse.Namespace) -> dict[str, object]:
    return {**vars(options), "run": None if options.run is None else str(options.run)}


@dataclass(eq=False)
class Noted:
    """An engine that notes the sizes of the batches it is shown."""

    engine: Engine
    sizes: list[int] = field(default_factory=list)

    def __call__(self, images: Pixels) -> Logits:
        self.sizes.append(len(images))
        return self.engine(images)


@dataclass(frozen=True, eq=False)
class Case:
    """One search of these images; ``clean``: what the engine says of them."""

    name: str
    search: Search
    engine: Engine
    images: Dataset
    clean: Logits

    def run(self, engine: Callable[[Pixels], Logits], *, batch: int) -> None:
        self.search.search(
            engine, self.images, clean=self.clean, seed=0, batch=batch,
            told=lambda count, note: None,
        )  # fmt: skip


def _cases(engine: Engine, images: Dataset, options: argparse.Namespace) -> list[Case]:
    clean = np.concatenate(
        [engine(images.images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
    )
    able = replace(images, labels=metrics.predicted(clean))
    pixels = streams.generator(0, "patch").integers(0, 256, (3, 5, 5), dtype=np.uint8)
    patch = Patch(pixels, np.ones((5, 5), bool), target=None)
    searches: dict[str, Search] = {
        "patch_rs, all stay": PatchRs(queries=options.queries, kappa=NEVER),
        "patch_rs, fooled leave": PatchRs(queries=options.queries),
        f"sweep, stride {options.stride}": Sweep(patch, stride=options.stride),
    }
    return [Case(name, search, engine, able, clean) for name, search in searches.items()]


def _measured(case: Case, options: argparse.Namespace) -> dict[str, object]:
    """Medians over the rounds of one case, and the samples."""
    noted = Noted(case.engine)
    case.run(noted, batch=options.batch)  # warms up, and gives the sizes of the batches
    queries = sum(noted.sizes)

    def bare() -> None:
        for size in noted.sizes:
            case.engine(case.images.images[:size])

    def searching() -> None:
        case.run(case.engine, batch=options.batch)

    kinds = {"bare": bare, "search": searching}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name in sorted(kinds, reverse=bool(number % 2)):
            begun = time.perf_counter()
            kinds[name]()
            taken[name].append(time.perf_counter() - begun)
    alone, whole = np.array(taken["bare"]), np.array(taken["search"])
    per_query = float(np.median(whole)) / queries
    return {
        "search": case.name,
        "queries": queries,
        "images": len(case.images),
        "bare_us_per_query": float(np.median(alone)) / queries * 1e6,
        "added_us_per_query": float(np.median(whole - alone)) / queries * 1e6,
        "ratio": float(np.median(whole / alone)),
        "busy": float(np.median(alone / whole)),
        "whole_sweep_s": per_query * WHOLE_SWEEP if case.name.startswith("sweep") else None,
        "seconds": [round(value, 6) for value in taken["search"]],
        "bare_seconds": [round(value, 6) for value in taken["bare"]],
    }


def _verdict(row: dict[str, object]) -> str:
    whole = cast("float | None", row["whole_sweep_s"]) or -math.inf
    holds = cast(float, row["added_us_per_query"]) <= MOST_US and whole <= MOST_SWEEP_S
    return "holds" if holds else FAILED


def _table(rows: list[dict[str, object]]) -> str:
    columns = [
        "search", "queries", "bare loop us/query", "added us/query", "ratio", "engine busy",
        "784 places x 1,000 images", f"at most {MOST_US:g} us, {MOST_SWEEP_S:g} s",
    ]  # fmt: skip
    return records.table(
        columns,
        [
            [
                str(row["search"]),
                f"{row['queries']:,}",
                f"{row['bare_us_per_query']:.1f}",
                f"{row['added_us_per_query']:.2f}",
                f"{row['ratio']:.4f}",
                f"{cast(float, row['busy']):.1%}",
                "" if row["whole_sweep_s"] is None else f"{row['whole_sweep_s']:.0f} s",
                _verdict(row),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
