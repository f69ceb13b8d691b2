"""Claim: this project's protocol and MLPerf LoadGen's SingleStream agree within 5 % on the median
latency at batch 1, for the 8-bit and the float engine, and the measuring loop costs below 10 us.

Both drive the same opened engine from this process, in turns, so that a drift of the machine hits
both alike; compared are the medians over the turns. A null engine through both tells what each
harness adds by itself.

    python benchmarks/loadgen_agreement.py                    # an untrained ResNet-20
    python benchmarks/loadgen_agreement.py --run runs/latest  # a run of yours

Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import records
from engine_speed import untrained

from qadtr_edge import console, loadgen, runs, streams, timing
from qadtr_edge.engines import open_engine
from qadtr_edge.types import FLOAT_BITS, Engine

MAX_APART = 0.05
MAX_LOOP_US = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="a run with float and 8-bit engines")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn of each harness")
    options = parser.parse_args()
    images = streams.generator(0, "loadgen").integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = runs.open_run(options.run) if options.run else untrained(Path(folder))
        engines = {
            runs.width_name(bits): stack.enter_context(open_engine(run, "ort", bits=bits))
            for bits in (FLOAT_BITS, 8)
        }
        rows: list[dict[str, object]] = [
            _compared(name, engine, images, options=options) for name, engine in engines.items()
        ]
        rows.append(_compared("null", Null(timing.null_subject(10)), images, options=options))
    path = records.append(
        "loadgen_agreement",
        options={"turns": options.turns, "seconds": options.seconds},
        rows=rows,
    )
    columns = ["engine", "ours, p50 us", "LoadGen, p50 us", "LoadGen / ours"]
    print(records.table(columns, [
        [str(row["engine"]), f"{row['ours_us']:.1f}", f"{row['loadgen_us']:.1f}",
         f"{row['ratio']:.3f}"] for row in rows
    ]))  # fmt: skip
    console.say(f"Samples: {path}")
    agree = all(abs(float(str(row["ratio"])) - 1) <= MAX_APART for row in rows[:-1])
    sys.exit(0 if agree and float(str(rows[-1]["ours_us"])) < MAX_LOOP_US else 1)


class Null:
    """An engine that does no work, with the face of one."""

    def __init__(self, call: Callable[[np.ndarray], np.ndarray]) -> None:
        self._call = call

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._call(images)


def _compared(
    name: str, engine: Engine | Null, images: np.ndarray, *, options: argparse.Namespace
) -> dict[str, object]:
    """Medians over the turns of both harnesses' medians, in microseconds."""
    plan = timing.Plan("turn", windows=1, window_s=options.seconds, warmup_s=1.0)
    ours, theirs = [], []
    for _ in range(options.turns):
        timed = timing.measure({"it": engine}, images[:1], plan=plan)["it"]
        ours.append(1000 * timed.percentile_ms(50))
        driven = loadgen.run(engine, images, scenario="SingleStream", duration_s=options.seconds)
        theirs.append(1000 * float(str(driven["p50_ms"])))
    mine, other = float(np.median(ours)), float(np.median(theirs))
    return {"engine": name, "ours_us": mine, "loadgen_us": other, "ratio": other / mine,
            "ours_each_us": ours, "loadgen_each_us": theirs}  # fmt: skip


if __name__ == "__main__":
    main()
