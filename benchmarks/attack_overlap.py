"""Measurement: what is gained by crafting on one core while the engine is searched on another.

    QADTR_DATA=DIR python benchmarks/attack_overlap.py --run RUN [--suite quick] [--images 200]

The verb as a user runs it, with one thread for each part, in a fresh copy of the run: once held to
one core, where both take turns, and once on two. What both find is compared row by row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import records

from qadtr_edge import console, timing

KEPT = ("checkpoint.safetensors", "manifest.json", "graphs", "engines")
"""What is copied of a run: nothing that was crafted or found before."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--suite", help="in place of --attack")
    parser.add_argument("--attack", default="pgd,patch_rs,label_search")
    parser.add_argument("--bits", default="8")
    parser.add_argument("--images", default="200")
    options = parser.parse_args()
    left_out = {"run", "suite" if options.suite is None else "attack"}
    asked = {name: value for name, value in vars(options).items() if name not in left_out}
    spent_s: dict[int, float] = {}
    answers: dict[int, object] = {}
    for cores in (1, 2):
        spent_s[cores], answers[cores] = _timed(options.run, cores, asked)
    if answers[1] != answers[2]:
        raise SystemExit("One core and two found different things.")
    row: dict[str, object] = {
        "one_core_s": round(spent_s[1], 1),
        "two_cores_s": round(spent_s[2], 1),
        "speedup": round(spent_s[1] / spent_s[2], 3),
        "load_average": timing.load_average(),
    }
    path = records.append("attack_overlap", options=asked, rows=[row])
    cells = [f"{spent_s[1]:.0f}", f"{spent_s[2]:.0f}", f"{spent_s[1] / spent_s[2]:.2f}x"]
    print(records.table(["one core, s", "two cores, s", "speed-up"], [cells]))
    console.say(f"Record: {path}")


def _timed(run: Path, cores: int, asked: dict[str, str]) -> tuple[float, object]:
    """Seconds of the attack on that many cores, and the rows it answers."""
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        copy.mkdir()
        for name in KEPT:
            source = run / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        begun_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "qadtr_edge", "attack", "--run", str(copy), *words, "--json"],
            check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=partial(os.sched_setaffinity, 0, allowed),
        )  # fmt: skip
        spent_s = time.perf_counter() - begun_s
    return spent_s, json.loads(done.stdout)["results"]


if __name__ == "__main__":
    main()
