"""Claim: a 4-bit QCDQ file runs at least 3.0 times as fast once it is lowered to integer operators.

One file, one run: onnxruntime on the file as Brevitas wrote it, and on the engine that
``export --onnx`` makes of it, on one thread, windows interleaved and ratios taken window by window.
onnxruntime runs the file in float: a Clip stands behind each Quantize, a batch norm before it. Its
input is normalised beforehand, which is not timed; the engine is timed from uint8 pixels on.

    python benchmarks/reader_speed.py                    # as Brevitas writes it now, 64 channels
    python benchmarks/reader_speed.py --file tests/golden/qcdq-4.onnx  # any file with its sidecar

A network of a few microseconds is bound by the cost of a call, which is the same for both.

Exit code 1 when the claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import records
from numpy.typing import NDArray

from qadtr_edge import console, runs, streams, timing
from qadtr_edge.cli.export import export
from qadtr_edge.data import preprocess
from qadtr_edge.engines import open_artefact, open_engine
from qadtr_edge.types import FLOAT_BITS, Engine, Pixels

MIN_SPEEDUP = 3.0
GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
ORIGINAL, LOWERED = "the file as written", "lowered"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or _written(Path(folder), options.channels)
        export(onnx=file, runs=Path(folder) / "runs")
        run = cast(runs.Run, runs.newest_run(Path(folder) / "runs"))
        bits = next(width for width in run.widths("ort") if width != FLOAT_BITS)
        with open_artefact(file) as original, open_engine(run, "ort", bits=bits) as engine:
            for name, facts in ((ORIGINAL, original.facts), (LOWERED, engine.facts)):
                console.say(f"{name}: {facts.precision}, {facts.integer_kernels} integer kernels")
            rows = [
                row
                for size in options.batch
                for row in _measured(file, original.image, engine, size=size, options=options)
            ]
    shown = {**vars(options), "file": file.name}
    path = records.append("reader_speed", options=shown, rows=rows)
    print(_table(rows))
    console.say(f"Samples: {path}")
    sys.exit(0 if all(_holds(row) for row in rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--file", type=Path)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--window-s", type=float, default=0.3)
    return parser.parse_args()


def _written(folder: Path, channels: int) -> Path:
    """A 4-bit file of the tests' network with so many channels."""
    sys.path.insert(0, str(GOLDEN))
    import make_brevitas

    make_brevitas.write(
        folder, 4, shown=make_brevitas.images(1, seed=0)[0], channels=channels, steps=2
    )
    return folder / "qcdq-4.onnx"


def _measured(
    file: Path, image: tuple[int, int, int], engine: Engine, *, size: int,
    options: argparse.Namespace,
) -> list[dict[str, object]]:  # fmt: skip
    """One row a subject at one batch size, the null engine last."""
    plan = timing.Plan("benchmark", options.windows, options.window_s, warmup_s=5.0)
    images = streams.generator(0, "speed", size).integers(0, 256, (size, *image), dtype=np.uint8)
    subjects: dict[str, timing.Subject] = {
        ORIGINAL: _session(file, images), LOWERED: engine, "null": timing.null_subject(10),
    }  # fmt: skip
    found = timing.measure(subjects, images, plan=plan)
    return [
        {
            "subject": name,
            **measured.summary(),
            "speedup": timing.speedup(found[ORIGINAL], measured),
            "window_medians_ms": [round(ms, 6) for ms in measured.window_medians_ms.tolist()],
        }
        for name, measured in found.items()
    ]


def _session(file: Path, images: Pixels) -> timing.Subject:
    """onnxruntime alone on the file, its input prepared."""
    import onnxruntime as ort

    told = preprocess.agreed(file, None)
    assert told is not None, "the file has a sidecar"
    fed = told(images)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = cast(Callable[..., list[NDArray[np.float32]]], session.run)
    return lambda _: run(None, {name: fed})[0]


def _holds(row: dict[str, object]) -> bool:
    return row["subject"] != LOWERED or cast(float, row["speedup"]) >= MIN_SPEEDUP


def _table(rows: list[dict[str, object]]) -> str:
    columns = ["subject", "batch", "p50 ms", "speed against the file", "stable", "claim"]
    return records.table(
        columns,
        [
            [
                str(row["subject"]),
                str(row["batch"]),
                f"{row['p50_ms']:.4f}",
                f"{row['speedup']:.2f}x",
                "yes" if row["stable"] else "UNSTABLE",
                "-" if row["subject"] != LOWERED else "holds" if _holds(row) else "DOES NOT HOLD",
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
