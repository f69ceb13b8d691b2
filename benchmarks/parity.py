"""Claim: onnxruntime computes the judge's integers, bit for bit, at every width from 2 to 8 bits:
no logit of any test image differs, and no layer runs in float.

    python benchmarks/parity.py --run runs/a --run runs/b [--images 1000] [--untrained vgg11 ...]

Prints one row for every engine of the runs, and at 8 and 4 bits for each untrained network: random
weights under the batch-norm statistics of real images, so that logits depend on the image, which
is all that parity asks of a network. Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import records
import torch

from qadtr_edge import console, data, registry, runs
from qadtr_edge.engines import artefact_of, open_engine
from qadtr_edge.integer import graph_file
from qadtr_edge.integer.lower import lower
from qadtr_edge.models import checkpoint
from qadtr_edge.models.calibrate import calibrate, reestimate_norms
from qadtr_edge.models.prepare import prepare
from qadtr_edge.types import FLOAT_BITS, EngineFacts, Parity, QuantSpec

Compare = Callable[..., Parity]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--untrained", action="append", default=[], metavar="MODEL")
    parser.add_argument("--engine", default="ort")
    parser.add_argument("--images", type=int)
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = [_untrained(name, Path(folder), options) for name in options.untrained]
        rows = [
            _compared(run, bits, options)
            for run in (*map(runs.open_run, options.run), *made)
            for bits in run.widths(options.engine)
            if bits != FLOAT_BITS
        ]
    chosen = {
        "runs": [str(run) for run in options.run], "untrained": options.untrained,
        "images": options.images,
    }  # fmt: skip
    path = records.append("parity", options=chosen, rows=rows)
    columns = ["model", "values", "scales", "ran as", "integer kernels", "float layers", "images",
               "logits that differ", "classes that differ", "first in"]  # fmt: skip
    print(records.table(columns, [[str(cell) for cell in _cells(row)] for row in rows]))
    console.say(f"Rows: {path}")
    sys.exit(0 if all(_holds(row) for row in rows) else 1)


def _untrained(model: str, root: Path, options: argparse.Namespace) -> runs.Run:
    """A run of random weights, exported at 8 and 4 bits."""
    torch.manual_seed(0)
    images = torch.from_numpy(
        data.load("cifar10", "calibration", root=options.data_root, limit=200).images
    )
    module = checkpoint.build_model(model, classes=10).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over the batches below
    with torch.no_grad():
        for batch in images.split(100):
            module(batch)
    widths = (FLOAT_BITS, 8, 4)
    net = prepare(module, QuantSpec(), widths=widths, classes=10, image_px=32).eval()
    calibrate(net, images)
    reestimate_norms(net, images)
    run = runs.Run(root / f"untrained-{model}")
    facts = checkpoint.CheckpointFacts(
        model=model, data="cifar10", classes=10, image_px=32, widths=widths, spec=net.spec
    )
    checkpoint.save(net, run.checkpoint, facts=facts)
    build = cast(Callable[..., EngineFacts], registry.resolve("builder", options.engine))
    for bits in (8, 4):
        source = {"model": f"{model} (untrained)", "data": "cifar10"}
        graph = lower(net, bits=bits, source=source)
        graph_file.save(graph, run.graph(bits))
        build(graph, run.engine(options.engine, bits))
    return run


def _compared(run: runs.Run, bits: int, options: argparse.Namespace) -> dict[str, object]:
    graph = graph_file.load(run.graph(bits))
    side_px = graph.tensors[graph.input].shape[1]
    held = data.load(
        graph.source["data"], "test", root=options.data_root, limit=options.images,
        image_size=side_px,
    )  # fmt: skip
    compare = cast(Compare, registry.resolve("parity", options.engine))
    begun = time.perf_counter()
    with (
        open_engine(run, options.engine, bits=bits) as engine,
        console.Progress(f"{run.name} {runs.width_name(bits)}", len(held), unit="images") as bar,
    ):
        found = compare(
            graph, engine, images=held.images, on_batch=bar.advance,
            model=artefact_of(run, options.engine, bits=bits),
        )  # fmt: skip
        facts = engine.facts
    return {
        "run": run.name, "model": graph.source["model"], "data": held.name, "bits": bits,
        "scales": graph.spec.scales, "data_digest": held.digest, "engine_digest": facts.digest,
        "precision": facts.precision, "integer_kernels": facts.integer_kernels,
        "float_layers": list(facts.float_layers), "images": found.images,
        "logits_compared": found.logits_compared, "logit_mismatches": found.logit_mismatches,
        "max_abs_diff": found.max_abs_diff, "argmax_mismatches": found.argmax_mismatches,
        "first_divergent_layer": found.first_divergent_layer,
        "images_per_s": round(len(held) / (time.perf_counter() - begun), 1),
    }  # fmt: skip


def _holds(row: dict[str, object]) -> bool:
    return row["precision"] == "integer" and row["logit_mismatches"] == 0


def _cells(row: dict[str, object]) -> list[object]:
    return [
        row["model"], runs.width_name(cast(int, row["bits"])), row["scales"], row["precision"],
        row["integer_kernels"], ", ".join(cast(list[str], row["float_layers"])) or "none",
        f"{row['images']:,}", f"{row['logit_mismatches']:,} of {row['logits_compared']:,}",
        f"{row['argmax_mismatches']:,}", row["first_divergent_layer"] or "-",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
