"""The signed form: Q/DQ as TensorRT reads it, every activation in int8 at zero point 0.

A code is its own container here. The input is ``images`` int8, the byte less 128. Nodes that only
move codes stand between DequantizeLinear and QuantizeLinear like all others, because a strongly
typed network has float operators only; the round trip changes no code. Narrow ranges are integer
Clips behind QuantizeLinear; the bias is float, already on the grid of the products.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import IntegerGraph, Node, Tensor

from .dialects import TENSORRT, container_range, same_grid, weight_zero_point
from .onnx_file import Attribute
from .qdq import PortableForm
from .spelling import spell, window

if TYPE_CHECKING:
    import onnx

INPUT_ZERO_POINT = 128
"""The byte whose code is 0: the host (or the paste kernel) flips the sign bit, and no more."""


def spell_signed(graph: IntegerGraph, *, digest: str) -> onnx.ModelProto:
    """``graph`` as a strongly typed Q/DQ model: ``images`` int8 in, ``logits`` float32 out.

    Raises ``Unsupported``, naming the node, for codes beyond int8 and for what has no signed form.
    """
    for node in graph.nodes:
        _check(node, graph)
    recentred = {name: replace(x, zero_point=0) for name, x in graph.tensors.items()}
    model = spell(
        replace(graph, tensors=recentred), SignedForm, dialect=TENSORRT, digest=digest
    )  # fmt: skip
    from onnx import TensorProto

    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    return model


def _check(node: Node, graph: IntegerGraph) -> None:
    if graph.spec.activations == "unsigned":
        raise Unsupported(
            'This graph was made with activations="unsigned", whose codes reach 255; TensorRT has '
            "no unsigned 8-bit quantization.",
            'Train or quantize with activations="signed", the default.',
        )
    if graph.tensors[graph.input].zero_point != INPUT_ZERO_POINT:
        raise Unsupported(
            f"The input {graph.input!r} has zero point {graph.tensors[graph.input].zero_point}; "
            "TensorRT takes the byte less 128.",
            "Requantize the model symmetrically.",
        )
    if isinstance(node, g.PixelTable):
        raise Unsupported(
            f"{node.name!r} rounds the input by a table of bytes, which TensorRT has no integer "
            "form of.",
            "Use one normalisation for all channels.",
        )
    if isinstance(node, g.Conv | g.Linear) and weight_zero_point(node.weight) is not None:
        raise Unsupported(
            f"The weights of {node.name!r} need a zero point; TensorRT quantizes symmetrically.",
            "Requantize the model symmetrically.",
        )


class SignedForm(PortableForm):
    """One node as a float operator with its int8 quantization around it."""

    def write(self) -> None:
        node = self.node
        match node:
            case g.Requantize() if same_grid(self.x, self.y):
                self.clip(self.value(self.x), name=node.name)
            case g.Rescale():
                # Equal codes, another scale: what is quantized is the rescaled real value.
                factor = self.constant("factor", self.y.scale / self.x.scale, kind=np.float32)
                self.emit("Mul", [self.real(self.x), factor])
            case g.MaxPool():
                self.emit("MaxPool", [self.real(self.x)], attributes=window(node))
            case g.Flatten():
                self.emit("Flatten", [self.real(self.x)], attributes={"axis": 1})
            case g.Subsample():
                bounds = {"starts": [0, 0], "ends": self.x.shape[1:], "axes": [2, 3],
                          "steps": node.stride}  # fmt: skip
                cut = [self.constant(k, v, kind=np.int64) for k, v in bounds.items()]
                self.emit("Slice", [self.real(self.x), *cut])
            case g.PadChannels():
                sides = [0, node.before, 0, 0, 0, node.after, 0, 0]
                self.emit("Pad", [self.real(self.x), self.constant("pads", sides, kind=np.int64)])
            case g.AddConstant():
                # A constant of an elementwise operator may not be quantized: it is given as float.
                value = np.float32(node.scale) * np.float32(node.code)
                self.emit(
                    "Add", [self.real(self.x), self.constant("value", value, kind=np.float32)]
                )
            case _:
                self.rounding()

    def grid(self, tensor: Tensor) -> list[str]:
        return [
            self.writer.constant(f"{tensor.name}/scale", tensor.scale, kind=np.float32),
            self.writer.constant(f"{tensor.name}/zero_point", tensor.zero_point, kind=np.int8),
        ]

    def weighted(self, node: g.Conv | g.Linear) -> list[str]:
        grid = np.float32(self.x.scale) * node.weight_scale
        bias = node.bias.astype(np.float64) * grid
        return [
            self.real(self.x),
            self.dequantized("weight", self.weight(node, node.weight), attributes=_PER_CHANNEL),
            self.constant("bias", bias, kind=np.float32),
        ]

    def clip(self, value: str, *, name: str | None = None) -> None:
        low, high = (
            self.writer.constant(f"s8/{bound}", bound, kind=np.int8)
            for bound in container_range(self.y)
        )
        self.writer.node(
            "Clip", [value, low, high], output=self.y.name, name=name or f"{self.node.name}/clip"
        )


_PER_CHANNEL: dict[str, Attribute] = {"axis": 0}
