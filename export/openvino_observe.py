"""What OpenVINO really executes: the kernels of its runtime model, and the facts they give.

The precision OpenVINO reports of a kernel is that of the data it works on; sums and products
inside one kernel's registers, its epilogue among them, may be float32, as in every engine here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qadtr_edge import files, provenance
from qadtr_edge.types import EngineFacts, Json

from . import gate, isa
from .facts import Origin
from .gate import Kernel
from .onnx_file import OUTPUT
from .openvino_runtime import version

if TYPE_CHECKING:
    import openvino

_TYPES = {
    "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64",
    "f32": "float", "f16": "float16", "bf16": "bfloat16", "f64": "double",
}  # fmt: skip
_MOVES = {
    "Reorder", "Convert", "Reshape", "Transpose", "StridedSlice", "Pad", "Concatenation", "Split",
    "Gather", "Broadcast", "Output",
}  # fmt: skip
"""They compute nothing, in whatever type."""
_ELEMENTWISE = {"Eltwise", "Subgraph"}
"""Reading codes and writing float, they dequantize; the layer that then reads float is named."""


def kernels(compiled: openvino.CompiledModel, layers: Sequence[str]) -> list[Kernel]:
    """The kernels between the images and the logits, in execution order.

    A kernel's ``layers`` are those of ``layers`` that were fused into it; a kernel that OpenVINO
    invented belongs to the layer of the kernel that reads it.
    """
    nodes = _after_images(compiled.get_runtime_model().get_ordered_ops())
    names = {node.get_name() for node in nodes}
    owners: dict[str, tuple[str, ...]] = {}
    made: list[Kernel] = []
    for node in reversed(nodes):
        held = _held(_told(node, "originalLayersNames"), layers)
        owned = held or owners.get(node.get_name(), ())
        sources = [value.get_node() for value in node.input_values()]
        for source in sources:
            owners[source.get_name()] = owned
        read = [s for s in sources if s.get_name() in names or _told(s, "layerType") == "Input"]
        made.append(_kernel(node, reads=read, layers=owned))
    return made[::-1]


def written(ran: Sequence[Kernel], layers: Sequence[str]) -> tuple[str, ...]:
    """Those of ``layers`` whose outputs stand in memory: the last of each kernel, in its order."""
    last = {max(kernel.layers, key=layers.index) for kernel in ran if kernel.layers}
    return tuple(layer for layer in layers if layer in last)


def facts(
    path: Path, ran: Sequence[Kernel], *, options: Mapping[str, Json], origin: Origin
) -> EngineFacts:
    """The facts of the model at ``path``, which runs these kernels here under ``options``."""
    verdict = gate.weigh(ran, layers=origin.layers)
    notes = [*verdict.notes, *origin.notes]
    if origin.may_saturate and isa.may_saturate_here():
        notes.append(
            f"this CPU has no VNNI; products may saturate in {', '.join(origin.may_saturate)}"
        )
    return EngineFacts(
        engine="openvino",
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


def _after_images(ordered: Sequence[openvino.Node]) -> list[openvino.Node]:
    """What depends on the images: constants are prepared once, before any image is seen."""
    reached: set[str] = set()
    found: list[openvino.Node] = []
    for node in ordered:
        if _told(node, "layerType") == "Input":
            reached.add(node.get_name())
        elif any(value.get_node().get_name() in reached for value in node.input_values()):
            reached.add(node.get_name())
            found.append(node)
    return found


def _held(originals: str, layers: Sequence[str]) -> tuple[str, ...]:
    """The layers whose own operator or quantization is among the names of a fused kernel.

    Where OpenVINO split the last layer, it calls the last part after the model's output.
    """
    names = [name for name in originals.split(",") if not name.endswith("/dequantize")]
    found = {gate.layer_of(name, layers) for name in names}
    if OUTPUT in names:
        found.update(layers[-1:])
    return tuple(layer for layer in layers if layer in found)


def _kernel(
    node: openvino.Node, *, reads: Sequence[openvino.Node], layers: tuple[str, ...]
) -> Kernel:
    operator, precision = _told(node, "layerType"), _type(_told(node, "runtimePrecision"))
    writes = _type(_told(node, "outputPrecisions"))
    kind: Literal["integer", "float", "nothing"] = "integer"
    if operator in _MOVES:
        kind = "nothing"
    elif precision in gate.FLOAT_TYPES:
        kind = "float"
    elif operator in _ELEMENTWISE and writes in gate.FLOAT_TYPES:
        kind = "nothing"
    return Kernel(
        name=str(node.get_friendly_name()),
        operator=operator,
        reads=tuple(_type(_told(source, "outputPrecisions")) for source in reads),
        writes=(writes,),
        runs_in=kind,
        layers=layers,
    )


def _type(told: str) -> str:
    """Of a kernel's outputs, the type of the first."""
    first = told.split(",")[0]
    return _TYPES.get(first, first)


def _told(node: openvino.Node, name: str) -> str:
    """One field of what OpenVINO says of a node of its runtime model."""
    info = node.get_rt_info()
    return str(info[name].value) if name in info else ""
