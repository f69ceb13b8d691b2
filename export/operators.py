"""The operator form: each integer node becomes one integer operator, so nothing is left to a fuser.

A tensor keeps its name; where its range is narrower than the 8-bit container, the operator writes
``<tensor>/wide`` and an integer Clip makes the tensor from it. ONNX nodes carry the names of the
graph's nodes, the Clip ``<node>/clip``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.integer.arithmetic import constant_tensor
from qadtr_edge.integer.graph import (
    Add, AddConstant, AveragePool, Concat, Conv, Flatten, GlobalAveragePool, IntegerGraph, Linear,
    MaxPool, Mul, Node, PadChannels, Requantize, Rescale, Sigmoid, Subsample, Tensor, inputs_of,
)  # fmt: skip

from .dialects import Dialect, check, container_range, needs_clip
from .onnx_file import INPUT, MICROSOFT, OUTPUT, Attribute, Writer

if TYPE_CHECKING:
    import onnx


def model(graph: IntegerGraph, dialect: Dialect, *, digest: str) -> onnx.ModelProto:
    """``graph`` as integer operators; ``digest`` of the graph goes into the model's properties."""
    check(graph, dialect)
    writer = Writer()
    for node in graph.nodes:
        _Spelling(writer, graph, dialect, node).write()
    height, width = graph.tensors[graph.input].shape[1:]
    return writer.model(
        size=(height, width), classes=graph.classes, opset=dialect.opset,
        properties={"qadtr-edge.graph": digest, "qadtr-edge.bits": str(graph.spec.bits)},
    )  # fmt: skip


class _Spelling:
    """One node on its way into the writer."""

    def __init__(
        self, writer: Writer, graph: IntegerGraph, dialect: Dialect, node: Node
    ) -> None:
        self.writer, self.graph, self.dialect, self.node = writer, graph, dialect, node
        self.xs = [graph.tensors[name] for name in inputs_of(node)]
        self.x = self.xs[0]

    def write(self) -> None:
        node = self.node
        match node:
            case Conv() | Linear():
                self.weighted(node)
            case Add() | Mul():
                a, b = self.xs
                self.operator(f"QLinear{type(node).__name__}", [*self.grid(a), *self.grid(b)])
            case AddConstant():
                self.add_constant(node)
            case Sigmoid():
                self.operator("QLinearSigmoid", self.grid(self.x))
            case Requantize():
                self.requantize()
            case Rescale():
                self.plain("Identity", [])
            case Concat():
                self.concat()
            case MaxPool():
                self.plain("MaxPool", [], _window(node))
            case AveragePool():
                count: dict[str, Attribute] = {"count_include_pad": int(node.count_include_pad)}
                self.operator("QLinearAveragePool", self.grid(self.x), _window(node) | count)
            case GlobalAveragePool():
                self.operator("QLinearGlobalAveragePool", self.grid(self.x), {"channels_last": 0})
            case Subsample():
                self.subsample(node)
            case PadChannels():
                self.pad_channels(node)
            case Flatten():
                self.plain("Flatten", [], {"axis": 1})

    # -- what every spelling is made of ------------------------------------------------------------

    def value(self, tensor: Tensor) -> str:
        return INPUT if tensor.name == self.graph.input else tensor.name

    def scale_and_zero(self, tensor: Tensor) -> list[str]:
        """Scale and zero point of ``tensor``: 0-d, as the com.microsoft operators require."""
        return [
            self.writer.constant(f"{tensor.name}/scale", tensor.scale, np.float32),
            self.writer.constant(f"{tensor.name}/zero_point", tensor.zero_point, np.uint8),
        ]

    def grid(self, tensor: Tensor) -> list[str]:
        return [self.value(tensor), *self.scale_and_zero(tensor)]

    def constant(self, field: str, array: np.typing.ArrayLike, kind: np.typing.DTypeLike) -> str:
        return self.writer.constant(f"{self.node.name}/{field}", array, kind)

    def operator(
        self, kind: str, inputs: list[str], attributes: dict[str, Attribute] | None = None
    ) -> None:
        """A com.microsoft operator that requantizes to ``y``, and its Clip."""
        y = self.graph.tensors[self.node.y]
        self.emit(kind, [*inputs, *self.scale_and_zero(y)], MICROSOFT, attributes)

    def plain(
        self, kind: str, inputs: list[str], attributes: dict[str, Attribute] | None = None
    ) -> None:
        """An operator that only moves or compares codes; clipped only if the range shrinks."""
        self.emit(kind, [self.value(self.x), *inputs], "", attributes)

    def emit(
        self, kind: str, inputs: list[str], domain: str, attributes: dict[str, Attribute] | None
    ) -> None:
        node, y = self.node, self.graph.tensors[self.node.y]
        kept = domain == "" and kind != "QLinearConv" and all(
            y.low <= x.low and x.high <= y.high for x in self.xs
        )
        clipped = needs_clip(y, self.dialect) and not kept
        output = f"{y.name}/wide" if clipped else y.name
        self.writer.node(
            kind, inputs, output, name=node.name, domain=domain, attributes=attributes
        )
        if clipped:
            self.clip(output, f"{node.name}/clip")

    def clip(self, value: str, name: str) -> None:
        y = self.graph.tensors[self.node.y]
        low, high = container_range(y)
        bounds = [self.writer.constant(f"u8/{bound}", bound, np.uint8) for bound in (low, high)]
        self.writer.node("Clip", [value, *bounds], y.name, name=name)

    # -- spellings with a decision in them ---------------------------------------------------------

    def weighted(self, node: Conv | Linear) -> None:
        is_conv = isinstance(node, Conv)
        weight = node.weight if is_conv else np.ascontiguousarray(node.weight.T)
        weights = [
            self.constant("weight", weight, np.int8),
            self.constant("weight_scale", node.weight_scale, np.float32),
            self.constant("weight_zero_point", np.zeros(len(node.weight)), np.int8),
        ]
        bias = self.constant("bias", node.bias, np.int32)
        inputs = [*self.grid(self.x), *weights]
        if isinstance(node, Conv):
            attributes: dict[str, Attribute] = {
                "kernel_shape": node.weight.shape[2:], "strides": node.stride,
                "pads": node.padding, "dilations": node.dilation, "group": node.groups,
            }  # fmt: skip
            target = self.scale_and_zero(self.graph.tensors[node.y])
            self.emit("QLinearConv", [*inputs, *target, bias], "", attributes)
        elif node.y == self.graph.logits:
            # Without an output scale QGemm leaves the accumulator in float: the logits.
            self.writer.node(
                "QGemm", [*inputs, bias], OUTPUT, name=node.name, domain=MICROSOFT
            )
        else:
            self.operator("QGemm", [*inputs, bias])

    def add_constant(self, node: AddConstant) -> None:
        made = constant_tensor(node.code, node.scale)
        constant = [
            self.constant("code", node.code + made.zero_point, np.uint8),
            self.constant("scale", node.scale, np.float32),
            self.constant("zero_point", made.zero_point, np.uint8),
        ]
        self.operator("QLinearAdd", [*self.grid(self.x), *constant])

    def requantize(self) -> None:
        """A slope of 1 makes QLinearLeakyRelu a table of 256 codes; on one grid, Clip is enough."""
        y = self.graph.tensors[self.node.y]
        if (self.x.scale, self.x.zero_point) == (y.scale, y.zero_point):
            self.clip(self.value(self.x), self.node.name)
        else:
            self.operator("QLinearLeakyRelu", self.grid(self.x), {"alpha": 1.0})

    def concat(self) -> None:
        y = self.graph.tensors[self.node.y]
        if all((x.scale, x.zero_point) == (y.scale, y.zero_point) for x in self.xs):
            self.emit("Concat", [self.value(x) for x in self.xs], "", {"axis": 1})
            return
        inputs = [part for x in self.xs for part in self.grid(x)]
        self.emit("QLinearConcat", [*self.scale_and_zero(y), *inputs], MICROSOFT, {"axis": 1})

    def subsample(self, node: Subsample) -> None:
        bounds = {"starts": [0, 0], "ends": self.x.shape[1:], "axes": [2, 3], "steps": node.stride}
        names = [self.constant(field, values, np.int64) for field, values in bounds.items()]
        self.plain("Slice", names)

    def pad_channels(self, node: PadChannels) -> None:
        pads = [0, node.before, 0, 0, 0, node.after, 0, 0]
        names = [
            self.constant("pads", pads, np.int64),
            self.constant("fill", self.x.zero_point, np.uint8),
        ]
        self.plain("Pad", names)


def _window(node: MaxPool | AveragePool) -> dict[str, Attribute]:
    return {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding}
