"""The float model as ONNX: what the integer engines' accuracy and speed are measured against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from qadtr_edge.integer import float_graph as f
from qadtr_edge.integer import graph as g
from qadtr_edge.types import FLOAT_BITS, EngineFacts

from .dialects import ORT
from .facts import Origin
from .onnx_file import INPUT, OUTPUT, PROPERTY_BITS, Attribute, Writer, save
from .ort import MODEL, record
from .spelling import window

if TYPE_CHECKING:
    import onnx


def build_float(graph: f.FloatGraph, folder: Path, *, threads: int = 1) -> EngineFacts:
    """Writes the float ``model.onnx`` and its ``facts.json``; returns the facts of a run."""
    save(spell_float(graph), folder / MODEL)
    return record(folder, float_origin(graph), threads=threads, image=graph.image, more={})


def float_origin(graph: f.FloatGraph) -> Origin:
    """What only the builder knows of the float model."""
    names = tuple(node.name for node in graph.nodes)
    return Origin(layers=names, bits=FLOAT_BITS, notes=graph.notes)


def spell_float(
    graph: f.FloatGraph, *, product: Literal["Gemm", "Conv"] = "Gemm"
) -> onnx.ModelProto:
    """``graph`` as ONNX, for any runtime; a matrix ``product`` can be a 1x1 convolution."""
    writer = Writer()
    _write_input(writer, graph)
    for node in graph.nodes:
        if isinstance(node, f.FloatLinear) and product == "Conv":
            _write_as_convolution(writer, node, graph)
        else:
            _write(writer, node, graph)
    return writer.model(
        size=graph.image[1:],
        classes=graph.classes,
        opset=ORT.opset,
        properties={PROPERTY_BITS: str(FLOAT_BITS)},
    )


def _write_input(writer: Writer, graph: f.FloatGraph) -> None:
    """``(pixel - zero) * scale`` in float32, for all channels or for each."""
    zero = writer.constant(f"{INPUT}/zero_point", _per_channel(graph.input_zero), kind=np.float32)
    scale = writer.constant(f"{INPUT}/scale", _per_channel(graph.input_scale), kind=np.float32)
    cast, centred = f"{INPUT}/cast", f"{INPUT}/centred"
    writer.node("Cast", [INPUT], output=cast, name=cast, attributes={"to": 1})
    writer.node("Sub", [cast, zero], output=centred, name=centred)
    writer.node("Mul", [centred, scale], output=f"{INPUT}/real", name=f"{INPUT}/real")


def _per_channel(value: float | g.Float32) -> g.Float32:
    """What broadcasts against (N, 3, H, W)."""
    array = np.asarray(value, np.float32)
    return array.reshape(-1, 1, 1) if array.ndim else array


def _write(writer: Writer, node: f.FloatNode, graph: f.FloatGraph) -> None:
    kind, constants, attributes = _spelled(writer, node)
    inputs = [f"{INPUT}/real" if name == graph.input else name for name in _inputs(node)]
    output = OUTPUT if node.y == graph.logits else node.y
    writer.node(kind, [*inputs, *constants], output=output, name=node.name, attributes=attributes)


def _write_as_convolution(writer: Writer, node: f.FloatLinear, graph: f.FloatGraph) -> None:
    own = _Constants(writer, node.name)
    shape = own("shape", np.array([0, -1, 1, 1]))
    columns, made = f"{node.name}/columns", f"{node.name}/product"
    writer.node("Reshape", [*_inputs(node), shape], output=columns, name=columns)
    constants = [own("weight", node.weight[:, :, None, None]), own("bias", node.bias)]
    writer.node("Conv", [columns, *constants], output=made, name=node.name,
                attributes={"kernel_shape": [1, 1]})  # fmt: skip
    output = OUTPUT if node.y == graph.logits else node.y
    writer.node("Flatten", [made], output=output, name=f"{node.name}/flatten",
                attributes={"axis": 1})  # fmt: skip


def _inputs(node: f.FloatNode) -> tuple[str, ...]:
    if isinstance(node, f.FloatConv | f.FloatLinear | f.Clip | f.Shift | f.Multiply):
        return (node.x,)
    return g.inputs_of(node)


def _spelled(writer: Writer, node: f.FloatNode) -> tuple[str, list[str], dict[str, Attribute]]:
    """Operator, constant inputs behind the activations, attributes."""
    own = _Constants(writer, node.name)
    match node:
        case f.FloatConv():
            attributes: dict[str, Attribute] = {
                "kernel_shape": node.weight.shape[2:],
                "strides": node.stride,
                "pads": node.padding,
                "dilations": node.dilation,
                "group": node.groups,
            }
            return "Conv", [own("weight", node.weight), own("bias", node.bias)], attributes
        case f.FloatLinear():
            constants = [own("weight", node.weight), own("bias", node.bias)]
            return "Gemm", constants, {"transB": 1}
        case f.Clip(low=0.0, high=None):
            return "Relu", [], {}
        case f.Clip():
            high = np.inf if node.high is None else node.high
            return "Clip", [own("low", np.float32(node.low)), own("high", np.float32(high))], {}
        case g.MaxPool() | g.AveragePool():
            return type(node).__name__, [], window(node)
        case g.Concat() | g.Flatten():
            return type(node).__name__, [], {"axis": 1}
        case g.Subsample():
            far = np.iinfo(np.int64).max
            bounds = {"starts": (0, 0), "ends": (far, far), "axes": (2, 3), "steps": node.stride}
            return "Slice", [own(k, np.array(v, np.int64)) for k, v in bounds.items()], {}
        case g.PadChannels():
            around = np.array([0, node.before, 0, 0, 0, node.after, 0, 0], np.int64)
            return "Pad", [own("pads", around)], {}
        case f.Shift():
            return "Add", [own("offset", np.float32(node.offset))], {}
        case f.Multiply():
            return "Mul", [own("factor", np.float32(node.factor))], {}
        case g.Add() | g.Mul() | g.Sigmoid() | g.GlobalAveragePool():
            return type(node).__name__, [], {}


class _Constants:
    """Names a node's constants as they are written."""

    def __init__(self, writer: Writer, node: str) -> None:
        self.writer, self.node = writer, node

    def __call__(self, field: str, value: np.typing.NDArray[np.generic] | np.float32) -> str:
        return self.writer.constant(f"{self.node}/{field}", value, kind=value.dtype)
