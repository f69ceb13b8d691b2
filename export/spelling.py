"""What the ONNX forms of an integer graph share: names, grids, and the nodes that never round.

A tensor keeps its name; where its range is narrower than the 8-bit container, the operator writes
``<tensor>/wide`` and an integer Clip makes the tensor from it. ONNX nodes carry the names of the
graph's nodes, the Clip ``<node>/clip``. The graph's input is called ``images``, its output
``logits``, whatever the graph calls them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import IntegerGraph, Node, Tensor, inputs_of

from .dialects import (
    Dialect,
    check,
    container_range,
    needs_clip,
    same_grid,
    weight_zero_point,
)
from .onnx_file import INPUT, PROPERTY_BITS, PROPERTY_GRAPH, Attribute, Writer

if TYPE_CHECKING:
    import onnx


class Spelling(ABC):
    """One node on its way into the writer. A form supplies ``rounding``."""

    def __init__(
        self, writer: Writer, graph: IntegerGraph, *, dialect: Dialect, node: Node
    ) -> None:
        self.writer, self.graph, self.dialect, self.node = writer, graph, dialect, node
        self.xs = [graph.tensors[name] for name in inputs_of(node)]
        self.x = self.xs[0]
        self.is_logits = node.y == graph.logits

    @property
    def y(self) -> Tensor:
        return self.graph.tensors[self.node.y]

    @abstractmethod
    def rounding(self) -> None:
        """Writes a node whose result is rounded to a grid, or is the logits."""

    def write(self) -> None:
        """Writes the node: codes that only move or are compared need no grid in any form."""
        node = self.node
        match node:
            case g.Rescale():
                self.passing("Identity")
            case g.Requantize() if same_grid(self.x, self.y):
                self.clip(self.value(self.x), name=node.name)
            case g.Concat() if all(same_grid(x, self.y) for x in self.xs):
                self.passing("Concat", attributes={"axis": 1})
            case g.MaxPool():
                self.passing("MaxPool", attributes=window(node))
            case g.Flatten():
                self.passing("Flatten", attributes={"axis": 1})
            case g.Subsample():
                ends = self.x.shape[1:]
                bounds = {"starts": [0, 0], "ends": ends, "axes": [2, 3], "steps": node.stride}
                self.passing(
                    "Slice", [self.constant(k, v, kind=np.int64) for k, v in bounds.items()]
                )
            case g.PixelTable():
                self.look_up(node)
            case g.PadChannels():
                pads = self.constant(
                    "pads", [0, node.before, 0, 0, 0, node.after, 0, 0], kind=np.int64
                )
                fill = self.constant("fill", self.x.zero_point, kind=np.uint8)
                self.passing("Pad", [pads, fill])
            case _:
                self.rounding()

    # -- the words of every form -------------------------------------------------------------------

    def value(self, tensor: Tensor) -> str:
        """Name of the ONNX value that holds the codes of ``tensor``."""
        return INPUT if tensor.name == self.graph.input else tensor.name

    def grid(self, tensor: Tensor) -> list[str]:
        """Scale and zero point of ``tensor``: 0-d, as the com.microsoft operators require."""
        return [
            self.writer.constant(f"{tensor.name}/scale", tensor.scale, kind=np.float32),
            self.writer.constant(f"{tensor.name}/zero_point", tensor.zero_point, kind=np.uint8),
        ]

    def weight(self, node: g.Conv | g.Linear, codes: g.Weight) -> list[str]:
        """``codes`` of the weights, in their container, with their grid per channel."""
        zero = weight_zero_point(node.weight)
        kind = np.int8 if zero is None else np.uint8
        return [
            self.constant("weight", codes + np.int16(zero or 0), kind=kind),
            self.constant("weight_scale", node.weight_scale, kind=np.float32),
            self.constant("weight_zero_point", np.full(len(node.weight), zero or 0), kind=kind),
        ]

    def look_up(self, node: g.PixelTable) -> None:
        """Each channel's bytes, 256 apart, index one flat table: integers, whoever runs it."""
        containers = node.table.astype(int) + self.y.zero_point
        table = self.constant("table", containers.reshape(-1), kind=np.uint8)
        first = self.constant("first", [[[0]], [[256]], [[512]]], kind=np.int32)
        wide, places = f"{node.name}/wide", f"{node.name}/places"
        int32 = 6  # of TensorProto.DataType
        self.writer.node(
            "Cast", [self.value(self.x)], output=wide, name=wide, attributes={"to": int32}
        )
        self.writer.node("Add", [wide, first], output=places, name=places)
        self.writer.node("Gather", [table, places], output=self.y.name, name=node.name)

    def constant(self, field: str, value: ArrayLike, *, kind: DTypeLike) -> str:
        """A constant of this node's own."""
        return self.writer.constant(f"{self.node.name}/{field}", value, kind=kind)

    def passing(
        self,
        kind: str,
        more: list[str] | None = None,
        *,
        attributes: dict[str, Attribute] | None = None,
    ) -> None:
        """An operator that moves or compares codes; clipped only where the range shrinks."""
        inside = all(self.y.low <= x.low and x.high <= self.y.high for x in self.xs)
        self.writer.node(
            kind, [*(self.value(x) for x in self.xs), *(more or [])],
            output=self.output(clipped=not inside), name=self.node.name, attributes=attributes,
        )  # fmt: skip
        if not inside:
            self.clip(self.output(clipped=True))

    @property
    def clipped(self) -> bool:
        """Whether a rounded result must be limited to a range narrower than its container."""
        return needs_clip(self.y, self.dialect)

    def output(self, *, clipped: bool) -> str:
        """Name of the value the operator writes: the tensor, or what its Clip will read."""
        return f"{self.y.name}/wide" if clipped else self.y.name

    def clip(self, value: str, *, name: str | None = None) -> None:
        """The integer Clip that makes the tensor from ``value``."""
        low, high = (
            self.writer.constant(f"u8/{bound}", bound, kind=np.uint8)
            for bound in container_range(self.y)
        )
        self.writer.node(
            "Clip", [value, low, high], output=self.y.name, name=name or f"{self.node.name}/clip"
        )


def window(node: g.MaxPool | g.AveragePool) -> dict[str, Attribute]:
    """The ONNX attributes of a pooling window."""
    made: dict[str, Attribute] = {
        "kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding,
    }  # fmt: skip
    if isinstance(node, g.AveragePool):
        made["count_include_pad"] = int(node.count_include_pad)
    return made


def spell(
    graph: IntegerGraph, form: type[Spelling], *, dialect: Dialect, digest: str
) -> onnx.ModelProto:
    """``graph`` in one form of one dialect; the model's properties hold the graph's ``digest``."""
    check(graph, dialect)
    writer = Writer()
    for node in graph.nodes:
        form(writer, graph, dialect=dialect, node=node).write()
    return writer.model(
        size=graph.tensors[graph.input].shape[1:], classes=graph.classes, opset=dialect.opset,
        properties={PROPERTY_GRAPH: digest, PROPERTY_BITS: str(graph.spec.bits)},
    )  # fmt: skip
