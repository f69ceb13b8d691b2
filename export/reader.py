"""Models made elsewhere: a quantized ONNX classifier becomes the integer graph.

Read are Q/DQ and QCDQ files, as Brevitas, onnxruntime's ``quantize_static``, NVIDIA Model
Optimizer, PyTorch's PT2E and converters of TFLite write them: float operators between
DequantizeLinear and QuantizeLinear, weights with a scale for each output channel or one for all,
any zero points, narrow values through an integer Clip. ONNX nodes become nodes of the graph where
a result meets its QuantizeLinear; what lies between folds into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.data.preprocess import Preprocess
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.files import digest
from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import Float32, IntegerGraph
from qadtr_edge.types import QuantSpec

from . import reader_file
from .reader_build import Build
from .reader_end import finished
from .reader_file import Source, named
from .reader_fused import FUSED, unfused
from .reader_head import head_of
from .reader_input import Contract, contract
from .reader_operators import read as read_node
from .reader_state import Reading
from .reader_values import Codes, Constant, Image, Unknown, Unreadable, Value
from .symmetric import asymmetry

if TYPE_CHECKING:
    import onnx

_NAMED = 8
"""How many unreadable nodes a message names before it only counts."""


@dataclass(frozen=True)
class Place:
    """The ONNX value that holds a tensor's containers; ``shift`` makes those unsigned bytes."""

    value: str
    shift: int


@dataclass(frozen=True, eq=False)
class Lowered:
    """What a file became.

    - ``logits``: the ONNX value whose float values are the graph's logits, the ``class_offset``
      leading ones that are no class left out.
    - ``unfused``: the node that writes ``logits``, where the file has it inside another one only.
    - ``pixels``: ``(3, 256) float32``, what the network reads of each byte before it rounds that.
    - ``places``: where the file holds the tensors of the graph. ``nodes``: how many nodes of the
      file were read.
    """

    graph: IntegerGraph
    logits: str
    class_offset: int
    pixels: Float32
    places: dict[str, Place]
    nodes: int
    unfused: tuple[onnx.NodeProto, ...] = ()


def lower(path: Path, *, preprocess: Preprocess | None = None, data: str | None = None) -> Lowered:
    """The integer graph of the file at ``path``; ``data`` is the data set it is for.

    ``preprocess``: without it, integer inputs take raw pixels. Raises ``BadInput`` for a file that
    is damaged or whose input is unclear, ``Unsupported`` naming every node that has no place in
    an integer graph.
    """
    source = reader_file.load(path)
    agreed = contract(source.form, preprocess)
    told = agreed.preprocess
    ordered = told.values if told.channels == "RGB" else told.values[::-1]
    values: dict[str, Value] = {k: Constant(array) for k, array in source.constants.items()}
    values[source.input] = Image(ordered, told.layout, agreed.is_integer)
    reading = Reading(
        build=Build((3, *agreed.size)),
        values=values,
        readers=_readers(source),
        bgr=told.channels == "BGR",
        opset=source.opset,
        head=head_of(source),
    )
    reasons = _read_all(reading, source)
    if reasons:
        raise _unsupported(source, reading, reasons)
    try:
        logits, name = finished(reading, source.output)
    except Unreadable as error:
        raise Unsupported(f"{path} {error}.", "Quantize its last layer too.") from error
    origin = {"model": path.name, "artefact": digest(path)} | ({"data": data} if data else {})
    graph, offset = _graph(reading.build, logits, agreed=agreed, origin=origin, path=path)
    assert reading.build.pixels is not None, "a network reads its image"
    pixels = np.ascontiguousarray(reading.build.pixels)
    places = _places(reading, graph)
    written = {output for node in source.nodes for output in node.output}
    unfused = () if name in written else (reading.parts[name],)
    return Lowered(graph, name, offset, pixels, places, len(source.nodes), unfused)


def _places(reading: Reading, graph: IntegerGraph) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for name, value in reading.values.items():
        if isinstance(value, Codes) and not value.channels_last and value.tensor in graph.tensors:
            found.setdefault(value.tensor, Place(name, value.shift))
    return found


def _readers(source: Source) -> dict[str, int]:
    counts: dict[str, int] = {source.output: 1}
    for node in source.nodes:
        for name in node.input:
            counts[name] = counts.get(name, 0) + 1
    return counts


def _read_all(reading: Reading, source: Source) -> list[str]:
    """Reads every node; the reasons, node by node, why some could not be."""
    reasons: list[str] = []
    for node in source.nodes:
        try:
            constant = None
            if node.op_type == "Constant":
                constant = reader_file.constant_of(node, source.path)
            value = _read(reading, node) if constant is None else Constant(constant)
        except Unreadable as error:
            reasons.append(f"{named(node)} {error}")
            value = Unknown()
        for name in node.output:
            reading.values[name] = Unknown()
        if node.output:
            reading.values[node.output[0]] = value
    return reasons


def _read(reading: Reading, node: onnx.NodeProto) -> Value:
    if node.op_type not in FUSED:
        return read_node(reading, node)
    value: Value = Unknown()
    for part in unfused(reading, node):
        value = read_node(reading, part)
        reading.values[part.output[0]] = value
        reading.parts[part.output[0]] = part
    return value


def _unsupported(source: Source, reading: Reading, reasons: list[str]) -> Unsupported:
    lost = sum(
        isinstance(reading.values[node.output[0]], Unknown) for node in source.nodes if node.output
    )
    told = "; ".join(reasons[:_NAMED])
    more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    behind = lost - len(reasons)
    waiting = f", and {behind} behind them wait for those" if behind else ""
    total = len(source.nodes)
    return Unsupported(
        f"{len(reasons)} of the {total} nodes of {source.path} cannot be read, {total - lost} "
        f"can{waiting}: {told}{more}.",
        "Quantize those layers too, or run the file as it is with --artefact.",
    )


def _graph(
    build: Build, logits: str, *, agreed: Contract, origin: dict[str, str], path: Path
) -> tuple[IntegerGraph, int]:
    """The graph, and how many outputs that are no class were left out."""
    last = build.nodes[-1]
    x = build.tensors[g.inputs_of(last)[0]]
    classes = len(last.weight) if isinstance(last, g.Linear) else x.shape[0]
    offset = agreed.class_offset(classes)
    if classes <= offset + 1:
        raise BadInput(f"{path} has {classes} outputs, which is no classifier.", "Check it.")
    if offset:
        _drop_leading(build, offset, path=path)
        build.notes[f"outputs that are no class are left out: {offset} of {classes}"] = None
    used = {tensor for node in build.nodes for tensor in (*g.inputs_of(node), node.y)}
    bits = _bits(build)
    graph = IntegerGraph(
        nodes=tuple(build.nodes),
        tensors={key: tensor for key, tensor in build.tensors.items() if key in used},
        input=next(iter(build.tensors)),
        logits=logits,
        classes=classes - offset,
        spec=QuantSpec(bits, "unsigned", "free", residual_bits=None, avx2_safe=False),
        source=origin,
        notes=tuple(build.notes),
    )
    if asymmetry(graph) is None:
        graph = replace(graph, spec=replace(graph.spec, activations="signed"))
    return graph, offset


def _drop_leading(build: Build, offset: int, *, path: Path) -> None:
    """Takes the first outputs off the last product, and off what carries them on."""
    kept = slice(offset, None)
    index = len(build.nodes) - 1
    while not isinstance(node := build.nodes[index], g.Conv | g.Linear):
        x = g.inputs_of(node)[0]
        if not isinstance(node, g.Dequantize | g.Flatten | g.Requantize) or (
            build.nodes[index - 1].y != x or build.tensors[x].shape[1:] not in ((), (1, 1))
        ):
            raise Unsupported(
                f"{path} has outputs that are no class, and does not end in the product that "
                "makes them.",
                "Run it as it is with --artefact.",
            )
        tensor = build.tensors[x]
        build.tensors[x] = replace(tensor, shape=(tensor.shape[0] - offset, *tensor.shape[1:]))
        index -= 1
    build.nodes[index] = replace(
        node, weight=node.weight[kept], weight_scale=node.weight_scale[kept], bias=node.bias[kept]
    )


def _bits(build: Build) -> int:
    """The width of weights and of what they multiply, between the first and the last product."""
    products = [node for node in build.nodes if isinstance(node, g.Conv | g.Linear)]
    widths = []
    for node in products[1:-1] or products:
        x = build.tensors[node.x]
        codes = node.weight.astype(np.int64)
        codes //= max(int(np.gcd.reduce(codes, axis=None)), 1)  # reader_bias.py may multiply them
        low, high = int(codes.min()), int(codes.max())
        widths += [max((-low - 1).bit_length(), high.bit_length()) + 1]
        widths += [max(x.high - x.low, 1).bit_length()]
    return min(max(widths, default=8), 8)
