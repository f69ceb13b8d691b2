"""TensorRT and TensorRT-RTX: build the signed Q/DQ model, observe what it holds, and run it.

``model.onnx`` is what was asked for, ``model.engine`` what runs. TensorRT-RTX builds without a GPU;
what was built and never run says so, and its precision is unknown until a GPU has opened it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import files, provenance
from qadtr_edge.integer import graph_file
from qadtr_edge.integer.float_graph import FloatGraph
from qadtr_edge.integer.graph import AddRounding, IntegerGraph
from qadtr_edge.types import EngineFacts, Json, Parity, Pixels

from . import facts as facts_file
from . import parity, trt_build, trt_runtime
from .facts import Origin, Record
from .fp32 import float_origin, spell_float
from .lint import refuse_findings
from .onnx_file import save
from .parity import Revealed
from .trt_build import Plan
from .trt_engine import ENGINE, MODEL, TrtEngine, gpu_here
from .trt_form import spell_signed
from .trt_options import Options, again

if TYPE_CHECKING:
    import onnx

KEY = "build_key"
NEVER_RUN = "built, not executed"


def build(
    graph: IntegerGraph, folder: Path, *, threads: int = 1, options: Options | None = None
) -> EngineFacts:
    """Writes ``model.onnx``, ``model.engine`` and ``facts.json``; returns the facts.

    ``threads`` is of no use to a GPU, and only recorded. Raises ``Unsupported``, naming the node,
    for a graph that int8 at zero point 0 cannot hold, ``EngineFailed`` where TensorRT refuses.
    """
    digest = graph_file.digest(graph)
    model = spell_signed(graph, digest=digest)
    refuse_findings(model)
    origin = Origin(
        layers=tuple(node.name for node in graph.nodes), bits=graph.spec.bits, notes=graph.notes
    )
    more: dict[str, Json] = {"graph_digest": digest, "threads": threads}
    return _built(model, folder, origin=origin, options=options or Options(), more=more)


def build_float(
    graph: FloatGraph, folder: Path, *, threads: int = 1, options: Options | None = None
) -> EngineFacts:
    """Writes the float model, its engine and its ``facts.json``; returns the facts."""
    more: dict[str, Json] = {"threads": threads}
    model = spell_float(graph, product="Conv")
    origin = float_origin(graph)
    return _built(model, folder, origin=origin, options=options or Options(), more=more)


def _built(
    model: onnx.ModelProto, folder: Path, *, origin: Origin, options: Options,
    more: dict[str, Json],
) -> EngineFacts:  # fmt: skip
    """The facts of the engine in ``folder``, built anew unless it is of equal inputs."""
    trt = trt_runtime.runtime()
    content = model.SerializeToString(deterministic=True)
    asked = trt_build.key_material(trt, options, gpu=gpu_here())
    key = _digest({**asked, "model": hashlib.sha256(content).hexdigest()})
    held = facts_file.read(folder)
    own: dict[str, Json] = {KEY: key, "versions": dict(provenance.versions())}
    if held is not None and held.more.get(KEY) == key and _is_whole(folder, held.facts.digest):
        facts = held.facts
        if NEVER_RUN not in facts.notes:
            return facts
    else:
        with tempfile.TemporaryDirectory() as scratch:
            save(model, Path(scratch) / MODEL)
            plan = trt_build.plan_of(trt, Path(scratch) / MODEL, options=options)
        save(model, folder / MODEL)
        files.write_bytes(folder / ENGINE, plan.content)
        facts = EngineFacts(
            engine="trt", runtime=trt_runtime.version(trt), bits=origin.bits, precision="unknown",
            integer_kernels=0, float_layers=(), digest=files.digest(folder / ENGINE),
            options=asked["options"] if isinstance(asked["options"], dict) else {},
            device=dict(provenance.device()), notes=(*_told(plan), *origin.notes, NEVER_RUN),
        )  # fmt: skip
        facts_file.write(folder, Record(facts, origin, own | more))
    if not provenance.has_nvidia_driver():
        return facts
    with TrtEngine(folder / MODEL) as engine:  # what ran is read off the engine itself
        facts_file.write(folder, Record(engine.facts, origin, own | more))
        return engine.facts


def _told(plan: Plan) -> tuple[str, ...]:
    left = f"left to the GPU by the accelerator: {', '.join(plan.on_gpu)}"
    return (*plan.warnings, *((left,) if plan.on_gpu else ()))


def _is_whole(folder: Path, digest: str) -> bool:
    engine = folder / ENGINE
    return engine.is_file() and (folder / MODEL).is_file() and files.digest(engine) == digest


def _digest(material: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def compare(
    graph: IntegerGraph,
    engine: TrtEngine,
    *,
    images: Pixels,
    model: Path | None = None,
    add: AddRounding = "x86",
    trace: bool = False,
    on_batch: parity.OnBatch = parity.unheard,
) -> Parity:
    """Compares ``engine`` with the judge: see ``parity.compared``.

    Layers are traced in a second engine that has them as outputs, which may choose other kernels.
    """
    return parity.compared(
        graph, engine, images=images, model=model, add=add, trace=trace, on_batch=on_batch,
        reveal=_reveal,
    )  # fmt: skip


def _reveal(
    graph: IntegerGraph, model: Path, images: Pixels, options: Mapping[str, Json]
) -> Revealed:
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / MODEL
        save(showing(model, graph), shown)
        plan = trt_build.plan_of(trt_runtime.runtime(), shown, options=again(options))
        (Path(scratch) / ENGINE).write_bytes(plan.content)
        with TrtEngine(shown) as engine:
            tensors = engine.outputs(images)
    held = {name: _containers(value, name, graph) for name, value in tensors.items()}
    note = "layers were seen in a second engine, built to show them"
    return Revealed(held, "fused into the kernels behind them", (note,))


def showing(model: Path, graph: IntegerGraph) -> onnx.ModelProto:
    """The ONNX file with every tensor of ``graph`` it computes as one more int8 output."""
    import onnx

    loaded = onnx.load(str(model))
    computed = {name for node in loaded.graph.node for name in node.output}
    for tensor in graph.tensors.values():
        if tensor.name in computed:
            shape: list[str | int | None] = ["N", *tensor.shape]
            loaded.graph.output.append(
                onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.INT8, shape)
            )
    return loaded


def _containers(value: NDArray[np.generic], name: str, graph: IntegerGraph) -> NDArray[np.generic]:
    """int8 codes as the uint8 containers of the graph; anything else as it is."""
    if value.dtype != np.int8:
        return value
    return (value.astype(np.int16) + graph.tensors[name].zero_point).astype(np.uint8)
