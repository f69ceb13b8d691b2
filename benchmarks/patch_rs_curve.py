"""Measurement: how fast Patch-RS wins on an integer ImageNet engine, beside the published shape.

Published (Sparse-RS, table in its repository: 20x20 pixels at 224, untargeted, 10,000 queries, five
seeds): VGG16-BN 87.8 % with a median of 429 queries, ResNet-50 79.5 % with 438. Compared is the
shape of the curve, not the rate: other networks, other images, an integer engine, fewer queries.

    python benchmarks/patch_rs_curve.py --run RUN --data imagenet --data-root DIR

``--run``: an exported 8-bit network for 224-pixel images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import records

from qadtr_edge import console, data, metrics, runs
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.engines import open_engine

MARKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
PUBLISHED = {"VGG16-BN": (87.8, 429), "ResNet-50": (79.5, 438)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", default="imagenet")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=100, help="all of them, right or wrong")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--patch-px", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    held = data.load(options.data, "test", root=options.data_root, limit=options.images)
    attack = PatchRs(patch_px=(options.patch_px, options.patch_px), queries=options.queries)
    with open_engine(runs.open_run(options.run), "ort", bits=8) as engine:
        facts = engine.facts
        starts = range(0, len(held), 32)
        clean = np.concatenate([engine(held.images[at : at + 32]) for at in starts])
        total = len(held) * options.queries
        with console.Progress("Patch-RS", total, unit="queries") as bar:
            found = attack.search(
                engine, held, clean=clean, seed=options.seed, batch=32,
                told=lambda count, note: bar.advance(count, note=note),
            )  # fmt: skip
    assert found.queries is not None
    able = metrics.eligible(metrics.predicted(clean), held.labels)
    won = found.queries[able]
    fooled = won < options.queries
    curve = {mark: float((won <= mark).mean()) for mark in MARKS if mark < options.queries}
    curve[options.queries] = float(fooled.mean())
    rows: list[dict[str, object]] = [
        {"engine": facts.engine, "precision": facts.precision, "eligible": int(able.sum()),
         "fooled": int(fooled.sum()), "median_queries_censored": float(np.median(won)),
         "median_queries_of_won": float(np.median(won[fooled])) if fooled.any() else None,
         "curve": {str(mark): rate for mark, rate in curve.items()}}
    ]  # fmt: skip
    path = records.append(
        "patch_rs_curve",
        options={"images": options.images, "queries": options.queries, "seed": options.seed,
                 "patch_px": options.patch_px, "data": options.data},
        rows=rows,
    )  # fmt: skip
    print(records.table(
        ["queries", *map(str, curve)], [["fooled", *(f"{rate:.1%}" for rate in curve.values())]]
    ))  # fmt: skip
    print(f"{int(fooled.sum())} of {int(able.sum())} eligible images; median of those won: "
          f"{rows[0]['median_queries_of_won']}")  # fmt: skip
    for name, (rate, median) in PUBLISHED.items():
        print(f"Published, {name}: {rate} % within 10,000 queries, median {median} of those won")
    console.say(f"Record: {path}")


if __name__ == "__main__":
    main()
