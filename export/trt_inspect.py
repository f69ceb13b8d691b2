"""Which kernels an engine holds, read off TensorRT's inspector, in the JSON of both generations.

10.x describes a tensor by one text, ``"Format/Datatype": "Row major Int8 format"``; 11.x splits it
into ``Format`` and ``DataType``. What is asked of each layer is which types it reads and writes: a
matrix product runs on integers when its activations are int8, whatever it accumulates into; any
other layer when it leaves no float behind. One opaque node over many layers shows nothing, and the
precision is then unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from qadtr_edge.errors import EngineFailed

from . import gate
from .gate import Kernel

NOTE = "TensorRT scales, adds and rounds in float32 registers between 8-bit tensors"

_TYPES = {
    "int8": "int8", "uint8": "uint8", "int32": "int32", "int64": "int64", "bool": "bool",
    "fp32": "float", "float": "float", "float32": "float", "fp16": "float16", "half": "float16",
    "float16": "float16", "bf16": "bfloat16", "bfloat16": "bfloat16", "fp8": "fp8", "int4": "int4",
    "fp4": "fp4",
}  # fmt: skip
_CONVOLUTION = re.compile(r"conv(?!ert)|correlation|deconv", re.IGNORECASE)
_PRODUCT = re.compile(r"gemm|matmul|matrix_?multiply|fully_?connected", re.IGNORECASE)
_MOVES = re.compile(r"reformat|reorder|copy|shuffle|noop|cast|signal|wait|shape", re.IGNORECASE)
_GENERIC = {"", "kgen", "Myelin"}
"""Types that say nothing of the work; there the name of the tactic does."""
_OPAQUE = re.compile(r"ForeignNode\[|^\{?ForeignNode")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")

Json = dict[str, object]


@dataclass(frozen=True)
class Seen:
    """What an inspector showed: kernels in execution order, or the nodes it would not open."""

    kernels: tuple[Kernel, ...]
    opaque: tuple[str, ...]


@dataclass(frozen=True)
class Weighed:
    """As ``EngineFacts``: ``unknown`` where the inspector shows too little to say."""

    precision: Literal["integer", "mixed", "float", "unknown"]
    integer_kernels: int
    float_layers: tuple[str, ...]
    notes: tuple[str, ...]


def seen(information: str, *, layers: Sequence[str]) -> Seen:
    """The kernels in the inspector's JSON of an engine; names become those of ``layers``.

    An engine that was built to show names only is opaque altogether. Raises ``EngineFailed`` for
    anything that is no inspector's JSON.
    """
    try:
        document = json.loads(information)
        rows = document["Layers"]
        if all(isinstance(row, str) for row in rows):
            return Seen((), tuple(rows) or ("the engine",))
        opaque = tuple(str(row["Name"]) for row in rows if _is_opaque(row))
        return Seen(tuple(_kernel(row, layers) for row in rows if not _is_opaque(row)), opaque)
    except (ValueError, KeyError, TypeError) as error:
        raise EngineFailed(
            f"The inspector does not say which kernels this engine holds ({error}).",
            "Build it again: qadtr-edge export --engine trt.",
        ) from error


def weigh(shown: Seen, *, layers: Sequence[str]) -> Weighed:
    """The verdict over what an inspector showed."""
    if shown.opaque:
        note = f"the inspector does not open {len(shown.opaque)} nodes, so no kernel is known"
        return Weighed("unknown", 0, (), (note, NOTE))
    verdict = gate.weigh(shown.kernels, layers=layers)
    notes = (*verdict.notes, NOTE)
    return Weighed(verdict.precision, verdict.integer_kernels, verdict.float_layers, notes)


def _is_opaque(row: Json) -> bool:
    return _OPAQUE.search(str(row["Name"])) is not None


def _kernel(row: Json, layers: Sequence[str]) -> Kernel:
    kind, tactic = str(row.get("LayerType", "")), str(row.get("TacticName", ""))
    reads, writes = (
        tuple(_type_of(tensor) for tensor in cast(list[Json], row.get(side) or []))
        for side in ("Inputs", "Outputs")
    )
    operator = _operator(kind, tactic)
    return Kernel(
        name=str(row["Name"]), operator=operator, reads=reads, writes=writes,
        runs_in=_arithmetic(operator, reads, writes), layers=_layers(row, layers),
    )  # fmt: skip


def _operator(kind: str, tactic: str) -> str:
    """``Conv`` and ``Gemm`` as the gate knows them; any other layer keeps its type."""
    if _MOVES.search(kind):
        return kind
    for text in (kind, tactic if kind in _GENERIC else ""):
        if _CONVOLUTION.search(text):
            return "Conv"
        if _PRODUCT.search(text):
            return "Gemm"
    return kind


def _arithmetic(
    operator: str, reads: tuple[str, ...], writes: tuple[str, ...]
) -> Literal["integer", "float", "nothing"]:
    """The kind of arithmetic a layer stands for, by what it reads and leaves behind."""
    if operator in {"Conv", "Gemm"}:
        return "integer" if reads[:1] == ("int8",) else "float"
    if _MOVES.search(operator):
        return "nothing"
    if gate.FLOAT_TYPES & set(writes):
        return "float"
    return "integer" if "int8" in reads and "int8" in writes else "nothing"


def _type_of(tensor: Json) -> str:
    """The element type of a described tensor, in the gate's words.

    Raises ``KeyError`` for one that neither generation would write.
    """
    text = str(tensor.get("DataType") or tensor.get("Datatype") or tensor["Format/Datatype"])
    for word in re.findall(r"[A-Za-z]+\d*", text):
        if word.lower() in _TYPES:
            return _TYPES[word.lower()]
    raise KeyError(f"no known type in {text!r}")


def _layers(row: Json, layers: Sequence[str]) -> tuple[str, ...]:
    """The network's layers computed in one engine layer: by its metadata, else by its name."""
    named = _ONNX_LAYER.findall(str(row.get("Metadata", "")))
    known = set(layers)
    found = [gate.layer_of(name, layers) for name in named or str(row["Name"]).split(" + ")]
    return tuple(dict.fromkeys(name for name in found if name in known))
