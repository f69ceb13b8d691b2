"""Claim: on one thread, the 8-bit engine is at least 2.0 times as fast as the float engine, at
batch 1 and at batch 64, and the 4-bit and 2-bit engines take at most 1.15 times its time.

One network, one run: the float model and the integer engines of one checkpoint, through the same
calls from uint8 images to logits. Windows of all subjects are interleaved; ratios are taken window
by window. Beside them: onnxruntime's own way with the 4-bit Q/DQ file (it fuses what it can), and a
null engine, which is the cost of the measuring loop.

    python benchmarks/engine_speed.py                    # an untrained ResNet-20, made in seconds
    python benchmarks/engine_speed.py --run runs/latest  # a run of yours, exported at 8, 4, 2 bits

Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np
import records

from qadtr_edge import console, data, registry, runs, streams, timing
from qadtr_edge.engines import open_engine
from qadtr_edge.types import FLOAT_BITS, Engine, QuantSpec

MIN_SPEEDUP = 2.0
MAX_OVER_INT8 = 1.15
WIDTHS = (FLOAT_BITS, 8, 4, 2)
PORTABLE = "4-bit Q/DQ, onnxruntime's own fusion"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = runs.open_run(options.run) if options.run else untrained(Path(folder))
        subjects: dict[str, Engine] = {
            runs.width_name(bits): stack.enter_context(open_engine(run, "ort", bits=bits))
            for bits in WIDTHS
        }
        make = cast(Callable[..., Engine], registry.resolve("engine", "ort"))
        portable = run.engine("ort", 4) / "model.qdq.onnx"
        subjects[PORTABLE] = stack.enter_context(make(portable, threads=1))
        for name, subject in subjects.items():
            console.say(f"{name}: {subject.facts.precision}, {subject.facts.integer_kernels} "
                        f"integer kernels")  # fmt: skip
        rows = [row for size in options.batch for row in _measured(subjects, size, options)]
    path = records.append("engine_speed", options=_as_json(options), rows=rows)
    print(_table(rows))
    console.say(f"Samples: {path}")
    sys.exit(0 if _holds(rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--window-s", type=float, default=0.3)
    return parser.parse_args()


def _as_json(options: argparse.Namespace) -> dict[str, object]:
    return {**vars(options), "run": None if options.run is None else str(options.run)}


def untrained(folder: Path) -> runs.Run:
    """A run with engines of a ResNet-20 whose weights are random: its speed is a trained one's."""
    import torch

    from qadtr_edge.cli.export import export
    from qadtr_edge.models import checkpoint
    from qadtr_edge.models.calibrate import calibrate
    from qadtr_edge.models.prepare import prepare

    torch.manual_seed(0)
    held = data.load("signs", "calibration", limit=64)
    classes = len(held.class_names)
    module = checkpoint.build_model("resnet20", classes=classes)
    module.train()(torch.from_numpy(held.images))  # batch-norm statistics of these images
    net = prepare(module, QuantSpec(), widths=WIDTHS, classes=classes, image_px=32).eval()
    calibrate(net, torch.from_numpy(held.images), method="minmax", seed=0)
    facts = checkpoint.CheckpointFacts("resnet20", "signs", classes, 32, WIDTHS, net.spec)
    run = runs.new_run(folder)
    checkpoint.save(net, run.checkpoint, facts=facts)
    export(run=run.folder)
    return run


def _measured(
    subjects: dict[str, Engine], size: int, options: argparse.Namespace
) -> list[dict[str, object]]:
    """One row a subject at one batch size, the null engine last."""
    plan = timing.Plan("benchmark", options.windows, options.window_s, warmup_s=5.0)
    shape = (size, 3, 32, 32)
    images = streams.generator(0, "speed", size).integers(0, 256, shape, dtype=np.uint8)
    null = timing.null_subject(10)
    found = timing.measure({**subjects, "null": null}, images, plan=plan)
    fp32, int8 = found["fp32"], found["w8a8"]
    return [
        {
            "subject": name,
            **measured.summary(),
            "speedup_vs_fp32": timing.speedup(fp32, measured),
            "time_vs_int8": 1 / timing.speedup(int8, measured),
            "window_medians_ms": [round(ms, 6) for ms in measured.window_medians_ms.tolist()],
        }
        for name, measured in found.items()
    ]


def _verdict(row: dict[str, object]) -> str:
    if row["subject"] == "w8a8":
        return "holds" if cast(float, row["speedup_vs_fp32"]) >= MIN_SPEEDUP else "DOES NOT HOLD"
    if row["subject"] in {"w4a4", "w2a2"}:
        return "holds" if cast(float, row["time_vs_int8"]) <= MAX_OVER_INT8 else "DOES NOT HOLD"
    return "-"


def _holds(rows: list[dict[str, object]]) -> bool:
    return all(_verdict(row) != "DOES NOT HOLD" for row in rows)


def _table(rows: list[dict[str, object]]) -> str:
    columns = ["engine", "batch", "p50 ms", "speed against fp32", "time against int8", "stable",
               "claim"]  # fmt: skip
    return records.table(
        columns,
        [
            [
                str(row["subject"]),
                str(row["batch"]),
                f"{row['p50_ms']:.4f}",
                f"{row['speedup_vs_fp32']:.2f}x",
                f"{row['time_vs_int8']:.2f}x",
                "yes" if row["stable"] else "UNSTABLE",
                _verdict(row),
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
