"""Claim: the report of 200 rows (5 widths, 4 engines, 10 attacks, 1,000 images each) takes less
than 10 s of one core and less than 1 GB of memory, and its page is smaller than 5 MB.

The folder is made up: labels drawn at random, counts that follow from them, patches, latencies,
under the names of the four runtimes there are adapters for; none of them is run. The whole command
is timed in a process of its own, imports, figures and gallery included.
It runs on one thread: on a quiet machine its wall time, told beside, is its time of one core.

    python benchmarks/report_speed.py

Exit code 1 when the claim does not hold.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import records

from qadtr_edge import console, timing

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the made-up run of the tests
import reported

MAX_CPU_S, MAX_MEMORY_BYTES, MAX_PAGE_BYTES = 10.0, 1_000_000_000, 5_000_000
WIDTHS = (8, 6, 5, 4, 2)
ENGINES = ("ort", "openvino", "litert", "trt")
ATTACKS = ("gap", "lavan", "dpr", "mpa", "pgd", "patch_rs", "sweep", "grey", "noise", "crop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = reported.folder(
            Path(folder) / "run", engines=ENGINES, widths=WIDTHS, attacks=ATTACKS, n=options.images
        )
        for engine in ENGINES:
            for bits in WIDTHS:
                reported.timed(run, engine, bits=bits, p50_ms=0.1 * bits)
        rows = len(run.results.read_text().splitlines())
        command = [sys.executable, "-m", "qadtr_edge", "report", str(run.folder)]
        begun_s = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        spent_s = time.perf_counter() - begun_s
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        memory, cpu_s = 1024 * used.ru_maxrss, used.ru_utime + used.ru_stime  # KiB on Linux
        size = run.report.with_suffix(".html").stat().st_size
        row: dict[str, object] = {
            "rows": rows,
            "engines": len(ENGINES),
            "widths": len(WIDTHS),
            "images": options.images,
            "wall_s": round(spent_s, 3),
            "cpu_s": round(cpu_s, 3),
            "memory_bytes": memory,
            "page_bytes": size,
            "load_average": timing.load_average(),
        }
    path = records.append("report_speed", options={"images": options.images}, rows=[row])
    cells = [rows, f"{spent_s:.1f}", f"{cpu_s:.1f}", f"{memory / 1e6:.0f}", f"{size / 1e6:.2f}"]
    print(records.table(["rows", "wall, s", "one core, s", "memory, MB", "page, MB"],
                        [[str(cell) for cell in cells]]))  # fmt: skip
    console.say(f"Samples: {path}")
    holds = cpu_s < MAX_CPU_S and memory < MAX_MEMORY_BYTES and size < MAX_PAGE_BYTES
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
