"""What onnxruntime really executes: one profiled run of a model file, and the facts it gives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import files, provenance
from qadtr_edge.types import FLOAT_BITS, EngineFacts, Json

from . import gate, isa
from .facts import Origin
from .gate import Kernel
from .onnx_file import INPUT
from .session import X64_QUANT_PRECISION, explained, open_session, version

if TYPE_CHECKING:
    import onnx

Event = dict[str, object]

_SUFFIX = "_kernel_time"
_BLOCKED = "_nchwc"
"""onnxruntime calls a float convolution in its blocked layout after the value it writes."""


def kernels(
    path: Path,
    images: NDArray[np.generic],
    *,
    options: Mapping[str, Json],
    content: bytes | None = None,
    feed: str = INPUT,
) -> list[Kernel]:
    """The kernels that one call on ``images`` runs under ``options``, in execution order.

    ``content``: the bytes to run in place of those in ``path``; ``feed``: the input's name.
    """
    model = path.read_bytes() if content is None else content
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, options, path=path, profile=Path(folder) / "profile")
        with explained(path):
            session.run(None, {feed: images})
        events: list[Event] = json.loads(Path(session.end_profiling()).read_text())
    ran = [event for event in events if event.get("cat") == "Node"]
    ran = [event for event in ran if str(event["name"]).endswith(_SUFFIX)]
    made = [_kernel(event) for event in sorted(ran, key=_started)]
    if any(kernel.name.endswith(_BLOCKED) for kernel in made):
        writers = _writers(model)
        made = [replace(kernel, name=_named(kernel, writers)) for kernel in made]
    return made


def facts(
    path: Path, ran: list[Kernel], *, options: Mapping[str, Json], origin: Origin
) -> EngineFacts:
    """The facts of the model at ``path``, which ``ran`` these kernels here under ``options``."""
    verdict = gate.weigh(ran, layers=origin.layers)
    notes = [*verdict.notes, *origin.notes]
    exact = options[X64_QUANT_PRECISION] == "1"
    if origin.may_saturate and not exact and isa.may_saturate_here():
        notes.append(
            f"this CPU has no VNNI; products may saturate in {', '.join(origin.may_saturate)}; "
            "x64_quant_precision=True makes them exact at half the speed"
        )
    return EngineFacts(
        engine="ort",
        runtime=version(),
        bits=origin.bits,
        precision=verdict.precision,
        integer_kernels=verdict.integer_kernels,
        float_layers=verdict.float_layers,
        digest=files.digest(path),
        options=options,
        device=dict(provenance.device()),
        notes=tuple(notes),
    )


def by_layer(ran: list[Kernel], *, origin: Origin, floats: tuple[str, ...]) -> list[Json]:
    """What was asked of each layer and what ran for it, in the network's order."""
    owned = [(name, kernel) for kernel in ran for name in gate.layers_of(kernel, origin.layers)]
    rows: list[Json] = []
    for layer in origin.layers:
        own = [kernel for name, kernel in owned if name == layer]
        row: dict[str, Json] = {
            "name": layer,
            "requested": "float" if origin.bits == FLOAT_BITS else "integer",
            "observed": "float" if layer in floats else "integer" if own else "folded away",
            "kernels": [f"{kernel.operator} -> {', '.join(kernel.writes)}" for kernel in own],
        }
        rows.append(row)
    return rows


def _writers(model: bytes) -> dict[str, onnx.NodeProto]:
    """The node that writes each value; empty where the onnx package is not installed."""
    try:
        import onnx
    except ImportError:
        return {}
    nodes = onnx.load_model_from_string(model).graph.node
    return {output: node for node in nodes for output in node.output}


def _named(kernel: Kernel, writers: dict[str, onnx.NodeProto]) -> str:
    """Name of the file's node that ``kernel`` computes, behind activations fused into it."""
    node = writers.get(kernel.name.removesuffix(_BLOCKED))
    if node is None or not kernel.name.endswith(_BLOCKED):
        return kernel.name
    while node.op_type != kernel.operator and node.input[0] in writers:
        node = writers[node.input[0]]
    return str(node.name)


def _started(event: Event) -> int:
    return cast(int, event["ts"])


def _kernel(event: Event) -> Kernel:
    args = cast(dict[str, object], event["args"])
    return Kernel(
        name=str(event["name"]).removesuffix(_SUFFIX),
        operator=str(args["op_name"]),
        reads=_types(args.get("input_type_shape")),
        writes=_types(args.get("output_type_shape")),
    )


def _types(described: object) -> tuple[str, ...]:
    """Element types of ``[{"uint8": [1, 3, 32, 32]}, {"float": []}]``."""
    tensors = cast(list[dict[str, list[int]]], described or [])
    return tuple(next(iter(tensor), "") for tensor in tensors)
