"""Claim: on one thread OpenVINO runs the same integer graph with the same predictions (at least
99.9 % of images) and, compiled for its batch size, in at most 1.1 times onnxruntime's time at
batch 1 and in less at batch 64.

The packaged ResNet-20 at 8, 4 and 2 bits, the same calls from uint8 images to logits, windows of
all subjects interleaved. OpenVINO is also timed as the verbs open it, which leaves the batch open.
Labels and logits are compared on CIFAR-10 test images, never in the timed loop.

    python benchmarks/openvino_speed.py --data-root DIR

Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np
import records
from qadtr_edge.export.openvino import OpenVinoEngine

from qadtr_edge import console, data, runs, streams, timing
from qadtr_edge.cli.export import export
from qadtr_edge.engines import artefact_of, open_engine
from qadtr_edge.types import Engine, Pixels

WIDTHS = (8, 4, 2)
ZOO = "plain-resnet20"
MAX_OVER_ORT = {1: 1.1, 64: 1.0}
FIXED = "compiled for the batch"
MIN_SAME_LABELS = 0.999


def main() -> None:
    options = _options()
    images = data.load("cifar10", "test", root=options.data_root, limit=options.images).images
    with tempfile.TemporaryDirectory() as folder:
        run = runs.packaged_run(ZOO, Path(folder))
        export(run=run.folder, engine="ort,openvino", bits=",".join(map(str, WIDTHS)))
        agreement = [_agreement(run, images, bits=bits) for bits in WIDTHS]
        speed = [row for size in options.batch for row in _timed(run, size, options)]
    chosen = {name: value for name, value in vars(options).items() if name != "data_root"}
    rows = [*agreement, *speed]
    path = records.append("openvino_speed", options=chosen, rows=rows)
    print(_agreement_table(agreement))
    print()
    print(_speed_table(speed))
    console.say(f"Samples: {path}")
    sys.exit(0 if all(row["holds"] for row in rows if "holds" in row) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch", type=int, nargs="+", default=list(MAX_OVER_ORT))
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--window-s", type=float, default=0.3)
    return parser.parse_args()


def _agreement(run: runs.Run, images: Pixels, *, bits: int) -> dict[str, object]:
    """How far both engines' answers to the same bytes are apart."""
    with (
        open_engine(run, "ort", bits=bits) as ort,
        open_engine(run, "openvino", bits=bits) as other,
    ):
        parts = [slice(start, start + 64) for start in range(0, len(images), 64)]
        ours = np.concatenate([ort(np.ascontiguousarray(images[part])) for part in parts])
        theirs = np.concatenate([other(np.ascontiguousarray(images[part])) for part in parts])
        same = float((ours.argmax(1) == theirs.argmax(1)).mean())
        return {
            "bits": bits,
            "images": len(images),
            "ort_precision": ort.facts.precision,
            "openvino_precision": other.facts.precision,
            "openvino_float_layers": list(other.facts.float_layers),
            "images_with_another_logit": int((ours != theirs).any(1).sum()),
            "largest_difference": float(np.abs(ours - theirs).max()),
            "same_labels": same,
            "holds": same >= MIN_SAME_LABELS,
        }


def _timed(run: runs.Run, size: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """One row a subject at one batch size, the null engine last."""
    plan = timing.Plan("benchmark", options.windows, options.window_s, warmup_s=2.0)
    images = streams.generator(0, "speed", size).integers(0, 256, (size, 3, 32, 32), dtype=np.uint8)
    with ExitStack() as stack:
        subjects: dict[str, Engine] = {}
        for bits in WIDTHS:
            width = runs.width_name(bits)
            for name in ("ort", "openvino"):
                subjects[f"{name} {width}"] = stack.enter_context(open_engine(run, name, bits=bits))
            path = artefact_of(run, "openvino", bits=bits)
            fixed = stack.enter_context(OpenVinoEngine(path, batch=size))
            subjects[f"openvino {width}, {FIXED}"] = fixed
        found = timing.measure({**subjects, "null": timing.null_subject(10)}, images, plan=plan)
    rows: list[dict[str, object]] = []
    for name, measured in found.items():
        row: dict[str, object] = {
            "subject": name,
            **measured.summary(),
            "window_medians_ms": [round(ms, 6) for ms in measured.window_medians_ms.tolist()],
        }
        if name != "null":
            width = name.split(",")[0].split()[1]
            row["time_vs_ort"] = 1 / timing.speedup(found[f"ort {width}"], measured)
            row["precision"] = subjects[name].facts.precision
        if name.endswith(FIXED) and size in MAX_OVER_ORT:
            row["holds"] = cast(float, row["time_vs_ort"]) <= MAX_OVER_ORT[size]
        rows.append(row)
    return rows


def _agreement_table(rows: list[dict[str, object]]) -> str:
    columns = ["values", "both ran as", "images", "same label", "images with another logit",
               "largest difference", "claim"]  # fmt: skip
    return records.table(
        columns,
        [
            [
                f"{row['bits']}-bit",
                f"{row['ort_precision']}, {row['openvino_precision']}",
                f"{row['images']:,}",
                f"{row['same_labels']:.3%}",
                f"{row['images_with_another_logit']:,}",
                f"{row['largest_difference']:.2g}",
                _claim(row),
            ]
            for row in rows
        ],
    )


def _speed_table(rows: list[dict[str, object]]) -> str:
    return records.table(
        ["engine", "batch", "p50 ms", "time against onnxruntime", "stable", "claim"],
        [
            [
                str(row["subject"]),
                str(row["batch"]),
                f"{row['p50_ms']:.4f}",
                f"{row['time_vs_ort']:.2f}x" if "time_vs_ort" in row else "-",
                "yes" if row["stable"] else "UNSTABLE",
                _claim(row),
            ]
            for row in rows
        ],
    )


def _claim(row: dict[str, object]) -> str:
    return {None: "-", True: "holds", False: "DOES NOT HOLD"}[cast("bool | None", row.get("holds"))]


if __name__ == "__main__":
    main()
