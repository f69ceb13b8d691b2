"""Claim: on an NVIDIA GPU TensorRT runs our exported integers as INT8, with the judge's labels,
and a patch that the GPU pastes gives the logits of the bytes that the host pastes.

For each width: the engine is built several times (do rebuilds differ, and by how much), loaded,
its kernels inspected, its logits compared with the judge's on real images, a patch replayed on it,
and its calls timed from uint8 images to logits, at batch 1 and 64, as one CUDA graph and launched
one by one. The replay is done both ways, pasted by the kernel on the GPU and by the host, and timed
beside the engine alone on images that are pasted already.

    python benchmarks/gpu.py --data-root DIR [--run RUN] [--patch FILE] [--builds 5]

Where there is no GPU, TensorRT-RTX builds what a GPU would run, and every other cell says
*not run*: no number is inferred. Exit code 1 when the claim does not hold or could not be tested.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import records
from qadtr_edge.export import trt
from qadtr_edge.export.trt_engine import ENGINE, MODEL, TrtEngine

from qadtr_edge import console, data, provenance, replay, runs, streams, timing
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.integer.graph import IntegerGraph
from qadtr_edge.integer.lower import lower
from qadtr_edge.models import checkpoint
from qadtr_edge.patch import bank
from qadtr_edge.patch.placement import policy
from qadtr_edge.types import Patch

WIDTHS = (8, 4, 2)
ZOO = "plain-resnet20"
BATCHES = (1, 64)
ROUNDS = 15
NOT_RUN = "*not run*"
COLUMNS = ["values", "builds", "MB", "ran as", "int8 kernels", "float layers", "images",
           "logits that differ", "classes that differ", "clean", "ASR", "p50 ms, batch 1",
           "p50 ms, batch 64", "without CUDA graph", "p50 over builds",
           "replay by kernel / bare loop", "replay by host / bare loop"]  # fmt: skip


def main() -> None:
    options = _options()
    images = data.load("cifar10", "test", root=options.data_root, limit=options.images)
    with tempfile.TemporaryDirectory() as folder:
        run = runs.open_run(options.run) if options.run else runs.packaged_run(ZOO, Path(folder))
        net, _ = checkpoint.load(run.checkpoint)
        rows = [
            _row(lower(net, bits=bits), Path(folder) / str(bits), images, options)
            for bits in options.bits
        ]
    chosen = {name: str(value) for name, value in vars(options).items() if name != "data_root"}
    path = records.append("gpu", options=chosen, rows=rows)
    print(records.table(COLUMNS, [cells(row) for row in rows]))
    console.say(f"Rows: {path}")
    sys.exit(0 if all(holds(row) for row in rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--patch", type=Path)
    parser.add_argument("--bits", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--images", type=int)
    parser.add_argument("--builds", type=int, default=5)
    return parser.parse_args()


def _row(
    graph: IntegerGraph, folder: Path, images: Dataset, options: argparse.Namespace
) -> dict[str, object]:
    """Everything of one width; without a GPU, the builds and nothing else."""
    folders = [folder / str(number) for number in range(options.builds)]
    built = [_built(graph, each) for each in folders]
    row: dict[str, object] = {"bits": graph.spec.bits, "builds": built}
    if not provenance.has_nvidia_driver():
        return {**row, "not_run": "there is no NVIDIA driver on this machine"}
    with TrtEngine(folders[0] / MODEL) as engine:
        facts = engine.facts
        parity = trt.compare(graph, engine, images=images.images, model=folders[0] / MODEL)
        subject = replay.Subject(engine, facts.digest, images)
        unit = _unit(options.patch, size_px=images.images.shape[2])
        counts = replay.replay(unit, facts, subject=subject)[0].counts
        replayed = _replayed(engine, unit, images)
        timed = {str(size): _timed(engine, images, size) for size in BATCHES}
        notes = engine.facts.notes  # a refused CUDA graph is known once it was tried
    with TrtEngine(folders[0] / MODEL, launch="one by one") as engine:
        single = {str(size): _timed(engine, images, size) for size in BATCHES}
    medians = [timed["1"]["p50_ms"], *(_median_ms(each, images) for each in folders[1:])]
    return {
        **row, "runtime": facts.runtime, "device": dict(facts.device),
        "precision": facts.precision, "integer_kernels": facts.integer_kernels,
        "float_layers": list(facts.float_layers), "notes": list(notes),
        "images": parity.images, "logits_compared": parity.logits_compared,
        "logit_mismatches": parity.logit_mismatches, "max_abs_diff": parity.max_abs_diff,
        "argmax_mismatches": parity.argmax_mismatches,
        "first_divergent_layer": parity.first_divergent_layer,
        "attack": unit.attacked.name, "n": counts.n, "clean_correct": counts.clean_correct,
        "eligible": counts.eligible, "fooled": counts.fooled, "latency": timed,
        "latency_one_by_one": single, "replay": replayed,
        "p50_ms_by_build": medians, "state": timing.environment(),
    }  # fmt: skip


def _built(graph: IntegerGraph, folder: Path) -> dict[str, object]:
    started = time.perf_counter()
    facts = trt.build(graph, folder)
    return {
        "digest": facts.digest,
        "size_bytes": (folder / ENGINE).stat().st_size,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _unit(file: Path | None, *, size_px: int) -> replay.Unit:
    """The patch of ``file``; without one, a square of noise, which is a control and no attack."""
    if file is not None:
        patch, name = bank.load(file), "patch"
    else:
        side = max(size_px // 5, 1)
        noise = streams.generator(0, "gpu").integers(0, 256, (3, side, side), dtype=np.uint8)
        patch, name = Patch(noise, np.ones((side, side), np.bool_), None), "noise"
    attacked = replay.Attacked(name, knowledge="none", victim="none", tier="T0", threat="T-A")
    return replay.Unit(attacked, patch, policy("random", image_px=size_px), seed=0)


def _replayed(engine: TrtEngine, unit: replay.Unit, images: Dataset) -> dict[str, object]:
    """Logits of the kernel's bytes against those of the host's, and seconds of each way.

    ``kernel_logit_mismatches`` is ``None`` where the kernel was not used: the notes say why.
    """
    places = replay.places_of(unit, images)
    shown = replay.pasted(unit, images, places=places, part=slice(None))
    assert isinstance(unit.patch, Patch)
    pixels, mask = unit.patch.pixels, unit.patch.mask
    own = engine.pasted(images.images, lambda part: pixels, mask=mask, placements=places)
    facts = engine.facts
    by_kernel = replay.Subject(engine, facts.digest, images)
    by_host = replay.Subject(lambda batch: engine(batch), facts.digest, images)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: engine(shown),
        "kernel": lambda: replay.replay(unit, facts, subject=by_kernel),
        "host": lambda: replay.replay(unit, facts, subject=by_host),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, ROUNDS):  # the first round warms up and is dropped
        for offset in range(len(ways)):
            name = [*ways][(number + offset) % len(ways)]
            begun = time.perf_counter()
            ways[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - begun)
    kernel, host = (np.array(seconds[name]) / seconds["bare"] for name in ("kernel", "host"))
    return {
        "kernel_logit_mismatches": None if own is None else int((own != engine(shown)).sum()),
        "kernel_ratio": float(np.median(kernel)), "host_ratio": float(np.median(host)),
        "seconds": seconds,
    }  # fmt: skip


def _timed(engine: TrtEngine, images: Dataset, size: int) -> dict[str, object]:
    batch = np.ascontiguousarray(images.images[:size])
    found = timing.measure(
        {"trt": engine, "null": timing.null_subject(10)}, batch, plan=timing.FULL
    )
    return {**found["trt"].summary(), "null_p50_ms": found["null"].percentile_ms(50)}


def _median_ms(folder: Path, images: Dataset) -> float:
    with TrtEngine(folder / MODEL) as engine:
        batch = np.ascontiguousarray(images.images[:1])
        return timing.measure({"trt": engine}, batch, plan=timing.QUICK)["trt"].percentile_ms(50)


def holds(row: dict[str, object]) -> bool:
    """Whether the claim was shown at this width: not when nothing ran."""
    replayed = row.get("replay")
    return (
        row.get("precision") == "integer" and row.get("argmax_mismatches") == 0
        and isinstance(replayed, dict) and not replayed["kernel_logit_mismatches"]
    )  # fmt: skip


def cells(row: dict[str, object]) -> list[str]:
    """A line of the table; what was not measured says so."""
    built = row["builds"]
    assert isinstance(built, list)
    distinct = len({each["digest"] for each in built})
    megabytes = max(each["size_bytes"] for each in built) / 1e6
    first = [f"w{row['bits']}a{row['bits']}", f"{len(built)} ({distinct} distinct)",
             f"{megabytes:.1f}"]  # fmt: skip
    if "not_run" in row:
        return [*first, *[NOT_RUN] * (len(COLUMNS) - len(first))]
    timed, medians = row["latency"], row["p50_ms_by_build"]
    single = row["latency_one_by_one"]
    assert isinstance(timed, dict)
    assert isinstance(single, dict)
    assert isinstance(medians, list)
    floats = row["float_layers"]
    assert isinstance(floats, list)
    return [
        *first, str(row["precision"]), str(row["integer_kernels"]),
        ", ".join(floats) or "none", str(row["images"]),
        f"{row['logit_mismatches']} of {row['logits_compared']}", str(row["argmax_mismatches"]),
        f"{row['clean_correct']}/{row['n']}", f"{row['attack']} {row['fooled']}/{row['eligible']}",
        *(f"{timed[str(size)]['p50_ms']:.4f}" for size in BATCHES),
        " and ".join(f"{single[str(size)]['p50_ms']:.4f}" for size in BATCHES),
        f"{min(medians):.4f} to {max(medians):.4f}", *_ratios(row),
    ]  # fmt: skip


def _ratios(row: dict[str, object]) -> list[str]:
    replayed = row["replay"]
    assert isinstance(replayed, dict)
    is_used = replayed["kernel_logit_mismatches"] is not None
    by_kernel = f"{replayed['kernel_ratio']:.3f}" if is_used else "*not used*"
    return [by_kernel, f"{replayed['host_ratio']:.3f}"]


if __name__ == "__main__":
    main()
