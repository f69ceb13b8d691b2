"""Measurement: the ten patches of ImageNet-Patch on integer engines, the float models beside them.

Protocol of the paper (arXiv 2203.04412): every patch on every image, translated and rotated at
random, here by this project's placement for large images (rotation within 22.5 degrees, scale 0.9
to 1.1, fully inside). Printed are clean accuracy, robust accuracy (right in spite of the patch,
over all images) and the rate at which the target is named; means over patches, and the worst patch.

    python benchmarks/imagenet_patch.py --patches FILE.npz --run RUN [--run RUN ...] \\
        --data imagenet --data-root DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import records

from qadtr_edge import console, data, replay, runs
from qadtr_edge.attacks.imagenet_patch import NAME, load
from qadtr_edge.engines import open_engine
from qadtr_edge.patch.placement import policy
from qadtr_edge.types import FLOAT_BITS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--patches", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--data", default="imagenet")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=500)
    options = parser.parse_args()
    patches = load(options.patches)
    held = data.load(options.data, "test", root=options.data_root, limit=options.images)
    how = policy("random", image_px=min(held.images.shape[2:]))
    said = replay.Attacked(NAME, knowledge="surrogate", victim="published", tier="T1", threat="T-A")
    rows: list[dict[str, object]] = []
    for folder in options.run:
        run = runs.open_run(folder)
        for bits in (FLOAT_BITS, 8):
            with open_engine(run, "ort", bits=bits) as engine:
                digest = replay.engine_digest(engine.facts)
                subject = replay.Subject(engine, digest, held, 16)
                for number, patch in enumerate(patches):
                    unit = replay.Unit(said, patch, how, 0)
                    counts = replay.replay(unit, engine.facts, subject=subject)[0].counts
                    rows.append(
                        {"model": folder.name, "bits": bits, "precision": engine.facts.precision,
                         "patch": number, "target": patch.target, "n": counts.n,
                         "clean": counts.clean_correct / counts.n,
                         "robust": counts.patched_correct / counts.n,
                         "target_rate": (counts.target_hits or 0) / counts.n}
                    )  # fmt: skip
                    console.say(
                        f"{folder.name} {runs.width_name(bits)}, patch {number}: {rows[-1]}"
                    )
    path = records.append(
        "imagenet_patch", options={"data": options.data, "images": len(held)}, rows=rows
    )
    print(_table(rows))
    console.say(f"Record: {path}")


def _table(rows: list[dict[str, object]]) -> str:
    lines = []
    for model, bits in dict.fromkeys((row["model"], row["bits"]) for row in rows):
        own = [row for row in rows if (row["model"], row["bits"]) == (model, bits)]
        robust, hits = (
            [float(str(row[name])) for row in own] for name in ("robust", "target_rate")
        )
        lines.append(
            [f"{model}, {own[0]['precision']}", f"{own[0]['clean']:.1%}", f"{np.mean(robust):.1%}",
             f"{min(robust):.1%}", f"{np.mean(hits):.1%}", f"{max(hits):.1%}"]
        )  # fmt: skip
    return records.table(
        ["model", "clean", "robust, mean", "worst", "target named, mean", "worst"], lines
    )


if __name__ == "__main__":
    main()
