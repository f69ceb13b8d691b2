"""The operator form: each integer node becomes one integer operator; nothing is left to a fuser."""

from __future__ import annotations

import numpy as np

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.arithmetic import constant_tensor
from qadtr_edge.integer.graph import Tensor

from .onnx_file import MICROSOFT, OUTPUT, Attribute
from .spelling import Spelling, window


class OperatorForm(Spelling):
    """One node as QLinearConv, QGemm or an operator of com.microsoft."""

    def rounding(self) -> None:
        node = self.node
        match node:
            case g.Conv():
                attributes: dict[str, Attribute] = {
                    "kernel_shape": node.weight.shape[2:], "strides": node.stride,
                    "pads": node.padding, "dilations": node.dilation, "group": node.groups,
                }  # fmt: skip
                bias = self.constant("bias", node.bias, kind=np.int32)
                inputs = [*self.weighted(node, node.weight), *self.grid(self.y), bias]
                self.emit("QLinearConv", inputs, domain="", attributes=attributes)
            case g.Linear():
                bias = self.constant("bias", node.bias, kind=np.int32)
                inputs = [*self.weighted(node, node.weight.T.copy()), bias]
                # Without an output scale QGemm leaves float: exactly the logits.
                self.emit("QGemm", inputs if self.is_logits else [*inputs, *self.grid(self.y)])
            case g.Add() | g.Mul():
                operands = [part for x in self.xs for part in self.operand(x)]
                self.emit(f"QLinear{type(node).__name__}", [*operands, *self.grid(self.y)])
            case g.AddConstant():
                self.emit(
                    "QLinearAdd",
                    [*self.operand(self.x), *self.constant_operand(node), *self.grid(self.y)],
                )
            case g.Concat():
                operands = [part for x in self.xs for part in self.operand(x)]
                inputs = [*self.grid(self.y), *operands]
                self.emit("QLinearConcat", inputs, attributes={"axis": 1})
            case g.Dequantize():
                self.emit("DequantizeLinear", self.operand(self.x), domain="")
            case g.Sigmoid():
                self.table("QLinearSigmoid")
            case g.Requantize():
                # A slope of 1 leaves the table of 256 codes that this operator is.
                self.table("QLinearLeakyRelu", attributes={"alpha": 1.0})
            case g.AveragePool():
                self.table("QLinearAveragePool", attributes=window(node))
            case g.GlobalAveragePool():
                self.table("QLinearGlobalAveragePool", attributes={"channels_last": 0})
            case _:
                raise AssertionError(f"{type(node).__name__} rounds nothing")

    def operand(self, tensor: Tensor) -> list[str]:
        """Codes, scale and zero point."""
        return [self.value(tensor), *self.grid(tensor)]

    def weighted(self, node: g.Conv | g.Linear, weight: g.Weight) -> list[str]:
        """The operands of a product: activations, then ``weight`` with its grid per channel."""
        return [*self.operand(self.x), *self.weight(node, weight)]

    def constant_operand(self, node: g.AddConstant) -> list[str]:
        made = constant_tensor(node.code, node.scale)
        return [
            self.constant("constant", node.code + made.zero_point, kind=np.uint8),
            self.constant("constant_scale", node.scale, kind=np.float32),
            self.constant("constant_zero_point", made.zero_point, kind=np.uint8),
        ]

    def table(self, kind: str, *, attributes: dict[str, Attribute] | None = None) -> None:
        self.emit(kind, [*self.operand(self.x), *self.grid(self.y)], attributes=attributes)

    def emit(
        self,
        kind: str,
        inputs: list[str],
        *,
        domain: str = MICROSOFT,
        attributes: dict[str, Attribute] | None = None,
    ) -> None:
        """One integer operator and, for a narrow result, its Clip."""
        clipped = not self.is_logits and self.clipped
        output = OUTPUT if self.is_logits else self.output(clipped=clipped)
        self.writer.node(
            kind, inputs, output=output, name=self.node.name, domain=domain, attributes=attributes
        )
        if clipped:
            self.clip(output)
