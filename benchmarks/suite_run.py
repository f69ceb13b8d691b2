"""Measurement: every tier of an attack suite on one engine, the union, the queries, the verdict.

    QADTR_DATA=DIR python benchmarks/suite_run.py --run RUN [--suite quick] [--patch-size 5]

Runs the verb as a user does and keeps what it answers. A run that was attacked before is not
attacked again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import records

from qadtr_edge import console

TIERS = ("T1", "T2", "T3", "T4", "T5", "T6")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--bits", default="8")
    parser.add_argument("--patch-size")
    parser.add_argument("--images", default="1000")
    parser.add_argument("--differential", action="store_true", help="T7 too")
    parser.add_argument("--certificate", action="store_true", help="T8 too")
    options = parser.parse_args()
    words = ["attack", "--run", str(options.run), "--suite", options.suite, "--bits", options.bits]
    words += ["--images", options.images]
    words += [f"--{name}" for name in ("differential", "certificate") if getattr(options, name)]
    if options.patch_size is not None:
        words += ["--patch-size", options.patch_size]
    done = subprocess.run(
        [sys.executable, "-m", "qadtr_edge", *words, "--json"], check=True, stdout=subprocess.PIPE
    )
    answer = json.loads(done.stdout)
    rows: list[dict[str, object]] = [
        {
            **width,
            "verdict": answer["verdict"],
            "verdict_reason": answer["verdict_reason"],
            "checks": [check for check in answer["checks"] if check["bits"] == width["bits"]],
            "differential": {
                row["attack"]: row["differential"]
                for row in answer["results"]
                if row["bits"] == width["bits"] and row["differential"] is not None
            },
            "queries_median": {
                row["attack"]: row["queries_median"]
                for row in answer["results"]
                if row["bits"] == width["bits"] and row["queries_median"] is not None
            },
        }
        for width in answer["by_width"]
    ]
    asked = {name: value for name, value in vars(options).items() if name != "run"}
    path = records.append("suite_run", options=asked, rows=rows)
    lines = [
        [f"{row['engine']} {row['bits']} bits", *(_rate(row["by_tier"][tier]) for tier in TIERS),
         f"{row['worst_case_asr']:.1%}", f"{row['occlusion_asr']:.1%}"]
        for row in rows
    ]  # fmt: skip
    print(records.table(["engine", *TIERS, "union", "square without attack"], lines))
    print(f"Verdict: {answer['verdict']}: {answer['verdict_reason']}")
    console.say(f"Record: {path}")


def _rate(union: dict[str, float] | None) -> str:
    return "not run" if union is None else f"{union['asr']:.1%}"


if __name__ == "__main__":
    main()
