"""Claim: what arXiv 2503.07058 says of QADT-R, checked one by one, on fake quantization and on the
real integer engine.

    QADTR_DATA=DIR python benchmarks/paper_table.py --scale NAME [--weights FILE]

``NAME`` is smoke, cpu, cpu-whole (the same on all training images) or full.

Trains every network of the scale with the command line a user has, exports it, crafts patches on
the undefended networks and on the network itself, shows them to onnxruntime's engine and to the
simulation, sweeps one over the places, searches on the engine, and prints the table and the claims
(``results/paper_table_SCALE.md``). ``--weights``: public float weights to start from; without them
networks start fresh.

Everything is kept under ``--root``; run again, it goes on where it stopped. ``--only NAME`` does
one network and no table (two of these can run side by side), ``--table`` only the table. A scale is
named in every row and never mixed with another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import paper_cells
import paper_claims
import paper_page
import paper_rows
import records
from paper_scales import SCALES, Entry, Scale

from qadtr_edge import console
from qadtr_edge.runs import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scale", choices=SCALES, default="smoke")
    parser.add_argument("--weights", type=Path, help="public float weights to start from")
    parser.add_argument("--root", type=Path, help="default: runs/paper-SCALE")
    parser.add_argument("--only", help="one network, by name; no table")
    parser.add_argument("--train", action="store_true", help="with --only: train it, judge nothing")
    parser.add_argument("--table", action="store_true", help="only the table, from what is there")
    parser.add_argument("--jobs", type=int, default=2, help="networks trained and judged at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    options = parser.parse_args()
    scale: Scale = SCALES[options.scale]
    root: Path = options.root or Path("runs") / f"paper-{scale.name}"
    if options.only:
        entry = next(each for each in scale.entries if each.name == options.only)
        for seed in scale.seeds:
            _do(entry, scale, root, seed=seed, options=options)
        return
    if not options.table:
        _all(scale, options)
    rows = paper_rows.rows(scale, root)
    rows = [*paper_rows.stored(rows), *paper_claims.claims(scale, rows)]
    path = records.append(
        "paper_table",
        options={"scale": asdict(scale), "weights": _name(options.weights)},
        rows=rows,
    )
    page = paper_page.page(scale, rows)
    (records.RESULTS / f"paper_table_{scale.name}.md").write_text(page + "\n")
    print(page)
    console.say(f"Rows: {path}")


def _all(scale: Scale, options: argparse.Namespace) -> None:
    """Undefended networks first, since patches come from them; then the others side by side."""
    first, second, *others = scale.entries
    _alone(first, options)
    _alone(second, options)
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(_alone, entry, options) for entry in others]:
            done.result()


def _alone(entry: Entry, options: argparse.Namespace) -> None:
    """One network in a process of its own."""
    words = ["--scale", options.scale, "--threads", str(options.threads), "--only", entry.name]
    for name, path in (("--weights", options.weights), ("--root", options.root)):
        words += [name, str(path)] if path else []
    if subprocess.run([sys.executable, __file__, *words], check=False).returncode:
        raise SystemExit(f"{entry.name} failed; run it alone: --only {entry.name!r}")


def _undefended(scale: Scale, run: Run, options: argparse.Namespace) -> None:
    """The float network that transferred patches come from, made without its like in training."""
    if options.weights:
        _cli(["quantize", "--model", scale.model, "--weights", str(options.weights), "--data",
              scale.data, "--bits", "32,8", "--run", str(run.folder)])  # fmt: skip
    else:
        _train(Entry("undefended", "plain"), scale, run, seed=100, bits=(32, 8), options=options)


def _do(entry: Entry, scale: Scale, root: Path, *, seed: int, options: argparse.Namespace) -> None:
    """Train, export and judge one network."""
    import torch

    torch.set_num_threads(options.threads)
    table = paper_cells.Table.load(scale, root)
    run = table.run(entry.name if seed == scale.seeds[0] else f"{entry.name} seed {seed}")
    if not run.checkpoint.is_file():
        if entry.recipe == "none":
            _undefended(scale, run, options)
        else:
            _train(entry, scale, run, seed=seed, bits=entry.bits or scale.widths, options=options)
    if not run.widths("ort"):
        _cli(["export", "--run", str(run.folder), "--engine", "ort"])
    if not options.train:
        paper_cells.judge(table, entry, run)


def _train(
    entry: Entry, scale: Scale, run: Run, *, seed: int, bits: tuple[int, ...],
    options: argparse.Namespace,
) -> None:  # fmt: skip
    words = [
        "train", "--recipe", entry.recipe, "--data", scale.data, "--model", scale.model,
        "--bits", ",".join(map(str, bits)), "--epochs", str(scale.epochs * entry.epochs),
        "--seed", str(seed), "--run", str(run.folder), "--threads", str(options.threads),
        "--attack-precision", "bfloat16",
    ]  # fmt: skip
    for setting in entry.settings:
        words += ["--set", setting]
    if scale.limit:
        words += ["--limit", str(scale.limit)]
    if options.weights:
        words += ["--init", str(options.weights)]
    else:
        words += ["--float-epochs", str(scale.float_epochs)]
    _cli(words)


def _cli(words: list[str]) -> None:
    """A command as a user types it."""
    done = subprocess.run([sys.executable, "-m", "qadtr_edge", *words], check=False, stdout=2)
    if done.returncode:
        raise SystemExit(f"qadtr-edge {' '.join(words)} ended with {done.returncode}")


def _name(path: Path | None) -> str | None:
    return path.name if path else None


if __name__ == "__main__":
    main()
