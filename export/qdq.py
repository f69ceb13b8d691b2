"""The portable form: float operators between DequantizeLinear and QuantizeLinear.

Any ONNX runtime can run it; one that fuses it well computes the integers of the operator form.
Narrow ranges are integer Clips between QuantizeLinear and DequantizeLinear, never float ones before
it, which would keep onnxruntime from fusing the layer.
"""

from __future__ import annotations

import numpy as np

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.arithmetic import constant_tensor
from qadtr_edge.integer.graph import Tensor

from .onnx_file import OUTPUT, Attribute
from .spelling import Spelling, window


class PortableForm(Spelling):
    """One node as a float operator with its quantization around it."""

    def rounding(self) -> None:
        node = self.node
        match node:
            case g.Conv():
                attributes: dict[str, Attribute] = {
                    "kernel_shape": node.weight.shape[2:], "strides": node.stride,
                    "pads": node.padding, "dilations": node.dilation, "group": node.groups,
                }  # fmt: skip
                self.emit("Conv", self.weighted(node), attributes=attributes)
            case g.Linear():
                self.emit("Gemm", self.weighted(node), attributes={"transB": 1})
            case g.Add() | g.Mul():
                operands = [self.real(x, use=str(i)) for i, x in enumerate(self.xs)]
                self.emit(type(node).__name__, operands)
            case g.AddConstant():
                made = constant_tensor(node.code, node.scale)
                code = self.constant("constant", node.code + made.zero_point, kind=np.uint8)
                scale = self.constant("constant_scale", node.scale, kind=np.float32)
                zero = self.constant("constant_zero_point", made.zero_point, kind=np.uint8)
                self.emit(
                    "Add", [self.real(self.x), self.dequantized("constant", [code, scale, zero])]
                )
            case g.Concat():
                operands = [self.real(x, use=str(i)) for i, x in enumerate(self.xs)]
                self.emit("Concat", operands, attributes={"axis": 1})
            case g.Dequantize():
                self.emit("DequantizeLinear", [self.value(self.x), *self.grid(self.x)])
            case g.Requantize():
                self.quantize(self.real(self.x), name=node.name)
            case g.AveragePool():
                self.emit("AveragePool", [self.real(self.x)], attributes=window(node))
            case g.Sigmoid() | g.GlobalAveragePool():
                self.emit(type(node).__name__, [self.real(self.x)])
            case _:
                raise AssertionError(f"{type(node).__name__} rounds nothing")

    def real(self, tensor: Tensor, *, use: str = "x") -> str:
        """The real values of a tensor; dequantized anew for each use, as fusers expect."""
        return self.dequantized(use, [self.value(tensor), *self.grid(tensor)])

    def dequantized(
        self, use: str, inputs: list[str], *, attributes: dict[str, Attribute] | None = None
    ) -> str:
        name = f"{self.node.name}/{use}/dequantize"
        return self.writer.node(
            "DequantizeLinear", inputs, output=name, name=name, attributes=attributes
        )

    def weighted(self, node: g.Conv | g.Linear) -> list[str]:
        """Activations, per-channel weights, and the int32 bias on the product's grid."""
        bias = [
            self.constant("bias", node.bias, kind=np.int32),
            self.constant(
                "bias_scale", np.float32(self.x.scale) * node.weight_scale, kind=np.float32
            ),
        ]
        return [
            self.real(self.x),
            self.dequantized("weight", self.weight(node, node.weight), attributes={"axis": 0}),
            self.dequantized("bias", bias, attributes={"axis": 0}),
        ]

    def emit(
        self, kind: str, inputs: list[str], *, attributes: dict[str, Attribute] | None = None
    ) -> None:
        """One float operator and its QuantizeLinear; the logits stay float."""
        output = OUTPUT if self.is_logits else f"{self.node.name}/real"
        self.writer.node(kind, inputs, output=output, name=self.node.name, attributes=attributes)
        if not self.is_logits:
            self.quantize(output, name=f"{self.node.name}/quantize")

    def quantize(self, value: str, *, name: str) -> None:
        """QuantizeLinear to the output's grid and, for a narrow result, its integer Clip."""
        output = self.output(clipped=self.clipped)
        self.writer.node("QuantizeLinear", [value, *self.grid(self.y)], output=output, name=name)
        if self.clipped:
            self.clip(output)
