"""What TensorRT would refuse, or read as something else, found in the ONNX file before any parser.

Each rule stands for a refusal or a silent misreading of NVIDIA's parser and builder: int8 at zero
point 0 is the only quantization of activations; a uint8 tensor at zero point 0 is taken for int8
with no more than a warning. A finding names its node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.errors import Unsupported

if TYPE_CHECKING:
    import onnx

MIN_OPSET = 13
"""Below it Q/DQ has no axis, and weights per channel are silently read as per tensor."""

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean"}
_READS_CODES = {"DequantizeLinear", "Clip"}
_GRID_SLACK = 2.0**-22
"""Twice the relative error of a product rounded to float32."""


@dataclass(frozen=True)
class Finding:
    """One reason why TensorRT cannot run a file as it is meant, and the node it is about."""

    node: str
    reason: str


def refuse_findings(model: onnx.ModelProto) -> None:
    """Raises ``Unsupported``, naming the first node and how many others there are."""
    found = findings(model)
    if not found:
        return
    first, others = found[0], len({finding.node for finding in found} - {found[0].node})
    more = f" {others} more nodes are concerned." if others else ""
    raise Unsupported(
        f"TensorRT cannot run this file as it is meant: {first.node!r} {first.reason}.{more}",
        "Lower the model to an integer graph and export that: qadtr-edge export --engine trt.",
    )


def findings(model: onnx.ModelProto) -> list[Finding]:
    """What is wrong with ``model``, in the order of its nodes; empty for a clean file."""
    file = _File(model)
    made = [
        Finding(node.op_type, f"belongs to opset {entry.version}, below {MIN_OPSET}")
        for entry in model.opset_import
        if not entry.domain and entry.version < MIN_OPSET
        for node in list(model.graph.node)[:1]
    ]
    for node in model.graph.node:
        name = node.name or node.output[0]
        made += [Finding(name, reason) for rule in _RULES for reason in rule(node, file)]
    return made


class _File:
    """Who writes and reads each value, the constants, and which values are 8-bit codes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import TensorProto, numpy_helper

        self.constants: dict[str, NDArray[np.generic]] = {
            value.name: numpy_helper.to_array(value) for value in model.graph.initializer
        }
        self.kinds = {x.name: TensorProto.DataType.Name(x.data_type)
                      for x in model.graph.initializer}  # fmt: skip
        for value in model.graph.input:
            kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            self.kinds.setdefault(value.name, kind)
        self.writers = {out: node for node in model.graph.node for out in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
            self._learn_kind(node, TensorProto)

    def _learn_kind(self, node: onnx.NodeProto, types: type[onnx.TensorProto]) -> None:
        if node.op_type == "QuantizeLinear":
            asked = [a.i for a in node.attribute if a.name == "output_dtype" and a.i]
            kind = types.DataType.Name(asked[0]) if asked else "UINT8"
            self.kinds[node.output[0]] = self.kinds.get(zero_point(node), kind)
        elif node.op_type != "DequantizeLinear" and node.input and node.input[0] in self.kinds:
            passed = self.kinds[node.input[0]]
            if "INT" in passed and node.op_type not in {"Cast", "Gather", "Shape", "Size"}:
                self.kinds[node.output[0]] = passed

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The constant called ``name``, seen through a QuantizeLinear that folds."""
        writer = self.writers.get(name)
        if writer is not None and writer.op_type == "QuantizeLinear":
            name = writer.input[0]
        return self.constants.get(name)

    def dequantize(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that writes ``name``."""
        writer = self.writers.get(name)
        return writer if writer is not None and writer.op_type == "DequantizeLinear" else None


def zero_point(node: onnx.NodeProto) -> str:
    """Name of the zero point of a Q or DQ node; empty where it has none."""
    return node.input[2] if len(node.input) > 2 else ""


def _domain(node: onnx.NodeProto, file: _File) -> Iterator[str]:
    if node.domain not in {"", "ai.onnx"}:
        yield f"is {node.op_type} of {node.domain}, which no NVIDIA parser knows"


def _codes(node: onnx.NodeProto, file: _File) -> Iterator[str]:
    """Q and DQ: int8, zero points 0."""
    if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
        return
    held = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    kind = file.kinds.get(held, "codes of an unknown type")
    if kind == "INT32":
        yield "dequantizes int32; a bias is given as float, on the grid of the products"
    elif kind == "UINT8":
        yield "quantizes to uint8, which TensorRT reads as int8 with no more than a warning"
    elif kind not in {"INT8", "INT4"}:
        yield f"quantizes to {kind.lower()}, which is not int8"
    zero = file.constants.get(zero_point(node))
    if zero_point(node) and zero is None:
        yield "has a zero point that is no constant"
    elif zero is not None and np.any(zero.astype(np.int64)):
        yield f"has zero point {int(zero.astype(np.int64).flat[0])}; only 0 is supported"
    if kind == "INT4" and any(reader.op_type == "Conv" for reader in _consumers(node, file)):
        yield "holds 4-bit codes of a Conv, which has no 4-bit kernel"


def _axis(node: onnx.NodeProto, file: _File) -> Iterator[str]:
    """Scales per channel: of weights, along the axis that the consumer sums over last."""
    if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
        return
    scale = file.constants.get(node.input[1])
    if scale is None:
        yield "has a scale that is no constant"
        return
    if scale.size == 1:
        return
    codes = file.constant(node.input[0])
    if codes is None:
        yield "quantizes activations per channel; only weights may be"
        return
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    for reader in _consumers(node, file):
        wanted = _channel_axis(reader, codes.ndim)
        if wanted is not None and axis % codes.ndim != wanted:
            yield f"quantizes the weights of {reader.name!r} along axis {axis}, not {wanted}"
        elif scale.size != codes.shape[axis % codes.ndim]:
            yield f"has {scale.size} scales for {codes.shape[axis % codes.ndim]} channels"


def _channel_axis(reader: onnx.NodeProto, rank: int) -> int | None:
    if reader.op_type == "Conv":
        return 0
    if reader.op_type == "ConvTranspose":
        return 1
    if reader.op_type == "MatMul":
        return rank - 1
    if reader.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in reader.attribute) else 1
    return None


def _consumers(node: onnx.NodeProto, file: _File) -> list[onnx.NodeProto]:
    """Who reads what ``node`` quantizes, behind the DequantizeLinear."""
    ends = [node]
    if node.op_type == "QuantizeLinear":
        ends = [n for n in file.readers.get(node.output[0], []) if n.op_type == "DequantizeLinear"]
    return [reader for end in ends for reader in file.readers.get(end.output[0], [])]


def _operands(node: onnx.NodeProto, file: _File) -> Iterator[str]:
    """What leaves a layer in float, and constants that TensorRT cannot place."""
    if node.op_type in _WEIGHTED:
        for name, word in zip(node.input[:2], ("input", "weight"), strict=False):
            if file.dequantize(name) is None:
                yield f"has no DequantizeLinear before its {word}, and would run in float"
    if node.op_type in _ELEMENTWISE:
        sources = [file.dequantize(name) for name in node.input]
        if any(source is not None and file.constant(source.input[0]) is not None
               for source in sources):  # fmt: skip
            yield "has a quantized constant as operand; give it as float"
        elif node.op_type == "Add" and any(
            source is None and name not in file.constants
            for source, name in zip(sources, node.input, strict=True)
        ):
            yield "adds a value that is not quantized, and would run in float"
    for name in node.input[:1] if node.op_type not in _ELEMENTWISE else node.input:
        if file.kinds.get(name) in {"INT8", "UINT8"} and (
            node.op_type not in {*_READS_CODES, "QuantizeLinear"}
        ):
            yield f"is an integer {node.op_type}, which builds no engine; dequantize its input"
            return


def _bias(node: onnx.NodeProto, file: _File) -> Iterator[str]:
    """Float, constant, and a whole number of steps of the product's grid."""
    if node.op_type not in {"Conv", "ConvTranspose", "Gemm"} or len(node.input) < 3:
        return
    bias = file.constants.get(node.input[2])
    if bias is None:
        if file.dequantize(node.input[2]) is None:  # else its DequantizeLinear is named
            yield "has a bias that is no constant"
        return
    if bias.dtype != np.float32:
        yield f"has a bias of {bias.dtype}; it is given as float32"
        return
    sources = [file.dequantize(name) for name in node.input[:2]]
    scales = [None if source is None else file.constants.get(source.input[1]) for source in sources]
    if scales[0] is None or scales[1] is None:
        return  # said by another rule, as is a wrong count of scales
    grid = (scales[0].astype(np.float64) * scales[1].astype(np.float64)).reshape(-1)
    if grid.size not in {1, bias.size}:
        return
    steps = bias.astype(np.float64) / grid
    if np.any(np.abs(steps - np.rint(steps)) > _GRID_SLACK * np.abs(steps)):
        yield "has a bias off the grid of its products, which integers cannot hold"


_RULES: tuple[Callable[[onnx.NodeProto, _File], Iterator[str]], ...] = (
    _domain, _codes, _axis, _operands, _bias,
)  # fmt: skip
