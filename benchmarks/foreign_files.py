"""Claims, for quantized files that others made and nobody in this project touched:

- they keep the accuracy their data was checked at, within 0.3 points, on LiteRT as they ship;
- onnxruntime runs them as integers, and the exact judge of the graph that is read from them gives
  the same class on at least 99.5 % of the images;
- lowered to integer operators they keep the gate ``integer``, with the judge's logits bit for bit.

What ``--requantize symmetric``, which TensorRT needs, leaves of the accuracy is printed beside.

    QADTR_DATA=DIR python benchmarks/foreign_files.py [--images 1000]

MLPerf Tiny files see the CIFAR-10 test images, Coral ones 500 ImageNet training samples, cropped as
their figures were measured. Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import records
from numpy.typing import NDArray
from qadtr_edge.export import artefact_parity, litert, ort, parity, reader, symmetric

from qadtr_edge import console, data
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.engines import open_artefact

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the samples as the tests crop them
import samples

ACCURACY_WITHIN = 0.003
MIN_SAME_CLASS = 0.995


@dataclass(frozen=True)
class Shipped:
    """A file, without its ending, and the accuracy its publication here was checked at."""

    folder: str
    name: str
    accuracy: float
    size_px: int

    def tflite(self, root: Path) -> Path:
        return root / self.folder / f"{self.name}.tflite"

    def onnx(self, root: Path) -> Path:
        return root / self.folder / "converted_onnx" / f"{self.name}.onnx"


FILES = (
    Shipped("mlperf_tiny", "pretrainedResnet_quant", 0.8732, 32),
    Shipped("mlperf_tiny", "pretrainedResnet_large_int8", 0.9158, 32),
    Shipped("imagenet_int8", "mobilenet_v1_0.25_128_quant", 0.462, 128),
    Shipped("imagenet_int8", "mobilenet_v1_0.5_160_quant", 0.676, 160),
    Shipped("imagenet_int8", "tf2_mobilenet_v2_1.0_224_ptq", 0.888, 224),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=500, help="that the judge computes")
    options = parser.parse_args()
    root = Path(os.environ["QADTR_DATA"])
    rows = []
    for file in FILES:
        console.say(file.name)
        rows.append(_measured(file, root, judged=options.images))
    path = records.append("foreign_files", options={"images": options.images}, rows=rows)
    columns = ["file", "images", "checked at", "LiteRT", "onnxruntime", "lowered", "requantized",
               "ran as",
               "judge gives the file's class", "logits of ours that differ", "claim"]  # fmt: skip
    print(records.table(columns, [_cells(row) for row in rows]))
    console.say(f"Rows: {path}")
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


def _measured(file: Shipped, root: Path, *, judged: int) -> dict[str, object]:
    images, labels = _data(file, root)
    told = agreed(file.onnx(root), None)
    with litert.LiteRtEngine(file.tflite(root)) as engine:
        lite = float((engine(images).argmax(1) == labels).mean())
    with open_artefact(file.onnx(root), "ort") as engine:
        shipped = float((engine(images).argmax(1) == labels).mean())
        gate = engine.facts.precision
    few = images[:judged]
    own = artefact_parity.compare(file.onnx(root), images=few, preprocess=told)
    read = reader.lower(file.onnx(root), preprocess=told)
    graph = read.graph
    with tempfile.TemporaryDirectory() as folder:
        ort.build(symmetric.symmetric(graph, pixels=read.pixels), Path(folder) / "symmetric")
        with ort.OrtEngine(Path(folder) / "symmetric" / ort.MODEL) as engine:
            moved = float((engine(images).argmax(1) == labels).mean())
        ort.build(graph, Path(folder))
        with ort.OrtEngine(Path(folder) / ort.MODEL) as engine:
            lowered = float((engine(images).argmax(1) == labels).mean())
            ours = parity.compare(graph, engine, images=few, model=Path(folder) / ort.MODEL)
            precision = engine.facts.precision
    same = 1.0 - own.argmax_mismatches / own.images
    return {
        "file": file.name, "images": len(images), "checked_at": file.accuracy, "litert": lite,
        "onnxruntime": shipped, "lowered": lowered, "requantized": moved, "shipped_precision": gate,
        "lowered_precision": precision, "judged": own.images, "same_class": same,
        "logits": ours.logits_compared, "mismatches": ours.logit_mismatches,
        "holds": abs(lite - file.accuracy) <= ACCURACY_WITHIN and same >= MIN_SAME_CLASS
        and precision == "integer" and ours.logit_mismatches == 0,
    }  # fmt: skip


def _data(file: Shipped, root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if file.folder == "mlperf_tiny":
        test = data.load("cifar10", "test", root=root)
        return test.images, test.labels
    return samples.imagenet(root / "imagenet_samples", file.size_px)


def _cells(row: dict[str, object]) -> list[str]:
    shares = [f"{float(str(row[name])):.2%}" for name in
              ("checked_at", "litert", "onnxruntime", "lowered", "requantized")]  # fmt: skip
    return [
        str(row["file"]), str(row["images"]), *shares,
        f"{row['shipped_precision']}, lowered {row['lowered_precision']}",
        f"{float(str(row['same_class'])):.2%} of {row['judged']}",
        f"{row['mismatches']} of {row['logits']}", "holds" if row["holds"] else "DOES NOT HOLD",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
