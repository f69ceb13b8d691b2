"""Claim: activation ranges calibrated on clean images hold back patches, which overflow them.

    QADTR_DATA=DIR python benchmarks/range_clipping.py --run RUN --weights FILE

Takes the universal patches that ``paper_table.py`` crafted on a float network (``RUN`` is its
``undefended`` run) and shows them to the same weights on onnxruntime's integer engine at 8 bits,
with the ranges of each calibration method, and at 8 bits beside the float engine. Nothing but the
ranges differs between the rows. ``beyond`` is the share of activation values that a range cuts off,
on clean images and on patched ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import records
import torch

from qadtr_edge import console, metrics, registry
from qadtr_edge.data import Dataset, load
from qadtr_edge.errors import BadInput
from qadtr_edge.integer.lower import lower
from qadtr_edge.models import checkpoint
from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.weights import load_weights, public_pixels
from qadtr_edge.patch import bank
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.quant.methods import METHODS
from qadtr_edge.results import Store
from qadtr_edge.types import FLOAT_BITS, Engine, EngineFacts, Labels, Patch, Pixels, QuantSpec

Row = dict[str, object]
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = load("cifar10", "test", limit=options.images)
    held = load("cifar10", "calibration")
    store = Store(options.run / "results.jsonl", options.run / "labels")
    crafted = {row.patch_digest for row in store.rows() if row.attack == "gap"}
    found = (_patch(path) for path in sorted((options.run / "patches").glob("*.npz")))
    patches = [patch for patch in found if patch is not None and bank.digest(patch) in crafted]
    module = checkpoint.build_model(options.model, classes=10, pixel_input=public_pixels())
    load_weights(module, options.weights)
    net = prepare(module, QuantSpec(), widths=(FLOAT_BITS, 8, 4), classes=10, image_px=32).eval()
    rows = [_float_row(net, test, patches)]
    for method in METHODS:
        calibrate(net, torch.from_numpy(held.images), method=method)
        rows += [_integer_row(net, test, patches, bits=bits, method=method) for bits in (8, 4)]
    path = records.append(
        "range_clipping",
        options={"model": options.model, "weights": options.weights.name, "images": len(test),
                 "patches": len(patches)},
        rows=rows,
    )  # fmt: skip
    columns = ["values", "ranges", "clean", *(f"ASR {name}" for name in cast(dict, rows[0]["asr"])),
               "beyond, clean", "beyond, patched"]  # fmt: skip
    print(records.table(columns, [_cells(row) for row in rows]))
    console.say(f"Rows: {path}")


def _patch(path: Path) -> Patch | None:
    """The patch in ``path``; ``None`` for patches that come with a place for each image."""
    try:
        return bank.load(path)
    except BadInput:
        return None


def _float_row(net: QuantNet, test: Dataset, patches: list[Patch]) -> Row:
    net.select(FLOAT_BITS)

    def answers(images: Pixels) -> Labels:
        with torch.no_grad():
            parts = [net(batch).argmax(1) for batch in torch.from_numpy(images).split(BATCH)]
        return torch.cat(parts).numpy()

    return {"values": "float", "ranges": "-", **_judged(answers, test, patches)}


def _integer_row(
    net: QuantNet, test: Dataset, patches: list[Patch], *, bits: int, method: str
) -> Row:
    build = cast(Callable[..., EngineFacts], registry.resolve("builder", "ort"))
    open_engine = cast(Callable[..., Engine], registry.resolve("engine", "ort"))
    with tempfile.TemporaryDirectory() as folder:
        build(lower(net, bits=bits), Path(folder))
        with open_engine(Path(folder) / "model.onnx", threads=1) as engine:

            def answers(images: Pixels) -> Labels:
                starts = range(0, len(images), BATCH)
                return np.concatenate(
                    [metrics.predicted(engine(images[at : at + BATCH])) for at in starts]
                )

            found = _judged(answers, test, patches)
    largest = max(patches, key=lambda patch: patch.mask.size)
    beyond = {
        "beyond_clean": _beyond(net, test.images[:200], bits=bits),
        "beyond_patched": _beyond(net, _shown(test, largest)[:200], bits=bits),
    }
    return {"values": f"{bits}-bit", "ranges": method, **found, **beyond}


def _judged(answers: Callable[[Pixels], Labels], test: Dataset, patches: list[Patch]) -> Row:
    """Clean accuracy, and the ASR of each kind of patch: counts pooled over its patches."""
    clean = answers(test.images)
    able = metrics.eligible(clean, test.labels)
    fooled: dict[str, list[int]] = {}
    for patch in patches:
        name = "x".join(map(str, patch.mask.shape)) + ("" if patch.mask.all() else " circle")
        won = metrics.succeeded(answers(_shown(test, patch)), test.labels)
        fooled.setdefault(name, []).append(int((able & won).sum()))
    eligible = int(able.sum())
    return {
        "clean": metrics.accuracy(clean, test.labels), "eligible": eligible, "fooled": fooled,
        "asr": {name: sum(each) / (len(each) * eligible) for name, each in sorted(fooled.items())},
    }  # fmt: skip


def _shown(test: Dataset, patch: Patch) -> Pixels:
    rows, columns = patch.mask.shape
    at = place(
        policy("plain", image_px=32), test.ids, seed=0, patch_px=(rows, columns), image_px=(32, 32)
    )
    return paste(test.images, patch.pixels, mask=patch.mask, placements=at)


@torch.no_grad()
def _beyond(net: QuantNet, images: Pixels, *, bits: int) -> float:
    """Share of the values of all quantization points that lie above their range, pooled."""
    net.select(bits)
    beyond = total = 0
    for name, value in net.run(torch.from_numpy(images), observe=True).items():
        site = net.plans[bits].sites.get(name)
        if site is None or site.fixed_scale is not None:
            continue
        beyond += int((value > net.scale(site, bits) * (site.codes.high + 0.5)).sum())
        total += value.numel()
    return beyond / total


def _cells(row: Row) -> list[str]:
    asr = cast(dict[str, float], row["asr"])
    beyond = [
        f"{100 * cast(float, row[name]):.3f} %" if name in row else "-"
        for name in ("beyond_clean", "beyond_patched")
    ]
    return [
        str(row["values"]), str(row["ranges"]), f"{100 * cast(float, row['clean']):.1f} %",
        *(f"{100 * rate:.1f} %" for rate in asr.values()), *beyond,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
