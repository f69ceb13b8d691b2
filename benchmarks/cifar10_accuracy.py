"""Claim: public CIFAR-10 ResNet-20 weights keep their accuracy on the int8 engine, and a short
fine-tune carries them to 4 and 2 bits; tied residual scales cost nothing that can be measured.

    QADTR_DATA=DIR python benchmarks/cifar10_accuracy.py --weights FILE [--run RUN ...]

Measures, on every test image: the float weights as published and with their normalisation folded
in; post-training quantization at every width under each scale profile; and the checkpoints of the
runs given, made by ``qadtr-edge train --init FILE`` (``log.jsonl`` there says what that cost). All
accuracies are onnxruntime's, on the exported file; the simulation's stands beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import records
import torch

from qadtr_edge import console, metrics, registry, runs
from qadtr_edge.data import Dataset, load
from qadtr_edge.integer.lower import lower
from qadtr_edge.models import checkpoint
from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.weights import load_weights, public_pixels
from qadtr_edge.types import FLOAT_BITS, Engine, EngineFacts, QuantSpec

PROFILES = ("free", "tied", "strict")
WIDTHS = (8, 6, 4, 3, 2)
Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--only-runs", action="store_true", help="leave the rest out")
    parser.add_argument("--images", type=int)
    parser.add_argument("--data-root", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = load("cifar10", "test", root=options.data_root, limit=options.images)
    held = load("cifar10", "calibration", root=options.data_root)
    rows: list[Row] = []
    if not options.only_runs:
        rows += _float_rows(options, test)
        for profile in PROFILES:
            net = _prepared(options, QuantSpec(scales=profile))
            calibrate(net, torch.from_numpy(held.images))
            rows += [_engine_row(net, bits, test, made="post-training") for bits in WIDTHS]
    for folder in options.run:
        run = runs.open_run(folder)
        net, facts = checkpoint.load(run.checkpoint)
        cost = [json.loads(line) for line in run.log.read_text().splitlines()]
        for bits in facts.widths:
            if bits != FLOAT_BITS:
                row = _engine_row(net, bits, test, made="fine-tuned")
                rows.append({**row, "made_by": dict(facts.made_by), "cost": _cost(cost)})
    path = records.append(
        "cifar10_accuracy",
        options={"model": options.model, "weights": options.weights.name, "images": len(test)},
        rows=rows,
    )
    columns = ["made by", "scales", "values", "engine top-1", "95 %", "simulated", "disagree"]
    print(records.table(columns, [_cells(row) for row in rows]))
    console.say(f"Rows: {path}")


def _prepared(options: argparse.Namespace, spec: QuantSpec) -> QuantNet:
    module = checkpoint.build_model(options.model, classes=10, pixel_input=public_pixels())
    load_weights(module, options.weights)
    widths = (FLOAT_BITS, *WIDTHS)
    return prepare(module, spec, widths=widths, classes=10, image_px=32).eval()


def _float_rows(options: argparse.Namespace, test: Dataset) -> list[Row]:
    module = checkpoint.build_model(options.model, classes=10, pixel_input=public_pixels())
    load_weights(module, options.weights)
    folded = _prepared(options, QuantSpec()).select(FLOAT_BITS)
    found = []
    for made, victim in (("float, as published", module.eval()), ("float, raw pixels", folded)):
        with torch.no_grad():
            parts = [victim(batch) for batch in torch.from_numpy(test.images).split(500)]
        right = int((torch.cat(parts).argmax(1).numpy() == test.labels).sum())
        found.append(_row(made, "-", FLOAT_BITS, right, test, simulated=right / len(test)))
    return found


def _engine_row(net: QuantNet, bits: int, test: Dataset, *, made: str) -> Row:
    build = cast(Callable[..., EngineFacts], registry.resolve("builder", "ort"))
    open_engine = cast(Callable[..., Engine], registry.resolve("engine", "ort"))
    graph = lower(net, bits=bits)
    with tempfile.TemporaryDirectory() as folder:
        facts = build(graph, Path(folder))
        with open_engine(Path(folder) / "model.onnx", threads=1) as engine:
            batches = range(0, len(test), 250)
            predicted = [metrics.predicted(engine(test.images[i : i + 250])) for i in batches]
    labels = torch.cat([torch.from_numpy(part) for part in predicted]).numpy()
    images = torch.from_numpy(test.images)
    net.select(bits).eval()
    with torch.no_grad():
        simulated = torch.cat([net(batch).argmax(1) for batch in images.split(500)]).numpy()
    right = int((labels == test.labels).sum())
    row = _row(
        made, net.spec.scales, bits, right, test,
        simulated=float((simulated == test.labels).mean()),
    )  # fmt: skip
    disagree = int((labels != simulated).sum())
    return {**row, "precision": facts.precision, "disagree": disagree}


def _row(made: str, scales: str, bits: int, right: int, test: Dataset, *, simulated: float) -> Row:
    interval = metrics.wilson(right, len(test))
    return {
        "made": made, "scales": scales, "bits": bits, "n": len(test), "right": right,
        "accuracy": right / len(test), "low": interval.low, "high": interval.high,
        "simulated": simulated, "data_digest": test.digest,
    }  # fmt: skip


def _cost(log: list[dict[str, object]]) -> Row:
    """Images seen and seconds spent, summed over the phases of a training log."""
    last = {line["phase"]: line for line in log}.values()
    return {
        "images": sum(cast(int, line["images"]) for line in last),
        "seconds": sum(cast(float, line["seconds"]) for line in last),
    }


def _cells(row: Row) -> list[str]:
    names = ("accuracy", "low", "high", "simulated")
    share = {name: 100 * cast(float, row[name]) for name in names}
    made = str(row["made"])
    if isinstance(cost := row.get("cost"), dict):
        made += f" ({cost['images']:,} images, {cost['seconds']:.0f} s)"
    return [
        made, str(row["scales"]), runs.width_name(cast(int, row["bits"])),
        f"{share['accuracy']:.2f} %", f"{share['low']:.1f}-{share['high']:.1f}",
        f"{share['simulated']:.2f} %", str(row.get("disagree", "-")),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
