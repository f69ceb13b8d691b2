"""Building a TensorRT engine where it will run, from the ONNX file that was exported elsewhere.

An engine holds for one version of TensorRT and one GPU, so a device gets the ONNX file and builds
from it. TensorRT reads that file itself: the onnx package is not needed here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qadtr_edge import files, provenance
from qadtr_edge.errors import BadInput
from qadtr_edge.types import Json

from . import facts as facts_file
from . import trt_build, trt_runtime
from .trt_engine import ENGINE, MODEL, gpu_here
from .trt_options import again

MADE_HERE = "made_here"
"""What the engine beside the file was built from: model, TensorRT, options, GPU."""


def build_here(folder: Path) -> None:
    """Writes ``model.engine`` beside ``model.onnx``, unless it is of this file and this machine.

    It is built as the export was asked to, and ``facts.json`` speaks of it then. Raises
    ``BadInput`` where no facts came with the file, ``EngineFailed`` where TensorRT refuses.
    """
    record = facts_file.read(folder)
    if record is None:
        raise BadInput(
            f"{folder} holds no facts of its ONNX file.",
            "Export it again: qadtr-edge export --engine trt; then make the bundle again.",
        )
    trt, options = trt_runtime.runtime(), again(record.facts.options)
    made_of: dict[str, Json] = {
        **trt_build.key_material(trt, options, gpu=gpu_here()),
        "model": files.digest(folder / MODEL),
    }
    engine = folder / ENGINE
    is_whole = engine.is_file() and files.digest(engine) == record.facts.digest
    if is_whole and record.more.get(MADE_HERE) == made_of:
        return
    plan = trt_build.plan_of(trt, folder / MODEL, options=options)
    files.write_bytes(engine, plan.content)
    facts = replace(
        record.facts,
        runtime=trt_runtime.version(trt),
        precision="unknown",  # until the engine is opened, which reads it off the kernels
        integer_kernels=0,
        float_layers=(),
        digest=files.digest(engine),
        options=options.as_json(),
        device=dict(provenance.device()),
    )
    facts_file.write(folder, replace(record, facts=facts, more={**record.more, MADE_HERE: made_of}))
