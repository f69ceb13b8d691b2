"""Measurement: training with as many threads as cores, alone and beside busy neighbours, where
waiting threads spin (OpenMP's default) and where they sleep (``OMP_WAIT_POLICY=PASSIVE``).

    python benchmarks/training_neighbours.py [--threads 2] [--rounds 3]

Steps of plain 8-bit training of a ResNet-20, batch 128, in a process of its own for each cell,
since the policy is read once; one busy loop for each core is the neighbour. Cells are interleaved;
the median of all their steps is printed, and the ratio to the default in the same company.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from statistics import median

import records

from qadtr_edge import console, provenance, timing

SPIN, SLEEP = "default", "passive"
COMPANY = ("alone", "busy neighbours")
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=provenance.usable_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_steps(options.steps, threads=options.threads)))
        return
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for company, policy in product(COMPANY, (SPIN, SLEEP)):
            with _neighbours(options.threads if company != COMPANY[0] else 0):
                found[company, policy] += _asked(policy, options)
    rows: list[dict[str, object]] = [
        {"company": company, "policy": policy, "steps_s": [round(each, 4) for each in steps],
         "ratio": median(steps) / median(found[company, SPIN])}
        for (company, policy), steps in found.items()
    ]  # fmt: skip
    path = records.append(
        "training_neighbours",
        options={**vars(options), "load_average": timing.load_average()}, rows=rows,
    )  # fmt: skip
    print(records.table(
        ["company", "waiting threads", "ms a step", "against the default"],
        [[str(row["company"]), str(row["policy"]),
          f"{1000 * median(found[str(row['company']), str(row['policy'])]):.0f}",
          f"{row['ratio']:.2f}x"] for row in rows],
    ))  # fmt: skip
    console.say(f"Record: {path}")


def _asked(policy: str, options: argparse.Namespace) -> list[float]:
    """Seconds of each step in a new process."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    words = ["--child", "--threads", str(options.threads), "--steps", str(options.steps)]
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE,
        env={**kept, **({"OMP_WAIT_POLICY": "PASSIVE"} if policy == SLEEP else {})},
    )  # fmt: skip
    steps: list[float] = json.loads(done.stdout)
    return steps


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def _steps(count: int, *, threads: int) -> list[float]:
    import time

    import torch
    from training_speed import SUBJECTS, batch_of, ours

    torch.set_num_threads(threads)
    step = ours(*SUBJECTS["plain, 8 bits"], *batch_of(128))
    spent = []
    for at in range(WARM_UP + count):
        begun = time.perf_counter()
        step(at)
        spent.append(time.perf_counter() - begun)
    return spent[WARM_UP:]


if __name__ == "__main__":
    main()
