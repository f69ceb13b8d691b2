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
from numpy.typing import NDArray

from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import IntegerGraph, Tensor

from .dialects import TENSORRT, container_range, same_grid
from .onnx_file import OUTPUT, Attribute
from .qdq import PortableForm
from .spelling import spell, window
from .symmetric import MIDDLE, asymmetry

if TYPE_CHECKING:
    import onnx

INPUT_ZERO_POINT = MIDDLE
"""The byte whose code is 0: the host (or the paste kernel) flips the sign bit, and no more."""


def spell_signed(graph: IntegerGraph, *, digest: str) -> onnx.ModelProto:
    """``graph`` as a strongly typed Q/DQ model: ``images`` int8 in, ``logits`` float32 out.

    Raises ``Unsupported``, naming the node, for codes beyond int8 and for what has no signed form.
    """
    _check(graph)
    recentred = {name: replace(x, zero_point=0) for name, x in graph.tensors.items()}
    model = spell(
        replace(graph, tensors=recentred), SignedForm, dialect=TENSORRT, digest=digest
    )  # fmt: skip
    from onnx import TensorProto

    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    return model


def _check(graph: IntegerGraph) -> None:
    """Raises ``Unsupported`` for a graph whose codes int8 does not hold at zero point 0."""
    if graph.spec.activations == "unsigned" and "artefact" not in graph.source:
        raise Unsupported(
            'This graph was made with activations="unsigned", whose codes reach 255; TensorRT has '
            "no unsigned 8-bit quantization.",
            'Train or quantize with activations="signed", the default.',
        )
    found = asymmetry(graph)
    if found is not None:
        name = graph.source.get("model", "This graph")
        raise Unsupported(
            f"{name} {found}; TensorRT has only int8 at zero point 0.",
            "Requantize it: qadtr-edge export --onnx FILE --engine trt --requantize symmetric.",
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
            case g.PixelTable():
                self.normalise(node)
            case g.Linear():
                self.multiply(node)
            case _:
                self.rounding()

    def multiply(self, node: g.Linear) -> None:
        """A matrix product as a 1x1 convolution, which Turing has with float results too."""
        shape = self.constant("shape", [0, -1, 1, 1], kind=np.int64)
        columns, codes = f"{node.name}/columns", f"{node.name}/columns/codes"
        self.writer.node("Reshape", [self.real(self.x), shape], output=columns, name=columns)
        self.writer.node("QuantizeLinear", [columns, *self.grid(self.x)], output=codes, name=codes)
        inputs = [self.dequantized("columns", [codes, *self.grid(self.x)]), *self.constants(node)]
        product = f"{node.name}/product"
        self.writer.node("Conv", inputs, output=product, name=node.name,
                         attributes={"kernel_shape": [1, 1]})  # fmt: skip
        output = OUTPUT if self.is_logits else f"{node.name}/real"
        self.writer.node("Flatten", [product], output=output, name=f"{node.name}/flatten",
                         attributes={"axis": 1})  # fmt: skip
        if not self.is_logits:
            self.quantize(output, name=f"{node.name}/quantize")

    def normalise(self, node: g.PixelTable) -> None:
        """The table as the straight line that it rounds: (code of the image + shift) * slope."""
        lines = [line_of(row, y=self.y) for row in node.table]
        if None in lines:
            raise Unsupported(
                f"{node.name!r} rounds the input by a table of bytes that is no straight line, "
                "which TensorRT has no integer form of.",
                "Leave the normalisation to the preprocessing file, one line a channel.",
            )
        shift, slope = np.array(lines).reshape(3, 2).T.reshape(2, 3, 1, 1)
        moved, scaled = f"{node.name}/moved", f"{node.name}/scaled"
        offset = self.constant("shift", shift * self.x.scale, kind=np.float32)
        self.writer.node("Add", [self.real(self.x), offset], output=moved, name=moved)
        factor = self.constant("slope", slope * self.y.scale / self.x.scale, kind=np.float32)
        self.writer.node("Mul", [moved, factor], output=scaled, name=scaled)
        self.quantize(scaled, name=f"{node.name}/quantize")

    def grid(self, tensor: Tensor) -> list[str]:
        return [
            self.writer.constant(f"{tensor.name}/scale", tensor.scale, kind=np.float32),
            self.writer.constant(f"{tensor.name}/zero_point", tensor.zero_point, kind=np.int8),
        ]

    def weighted(self, node: g.Conv | g.Linear) -> list[str]:
        return [self.real(self.x), *self.constants(node)]

    def constants(self, node: g.Conv | g.Linear) -> list[str]:
        """Weights as those of a convolution, and the float bias."""
        codes = node.weight.reshape((*node.weight.shape, 1, 1)[:4])
        grid = np.float32(self.x.scale) * node.weight_scale
        bias = node.bias.astype(np.float64) * grid
        return [
            self.dequantized("weight", self.weight(node, codes), attributes=_PER_CHANNEL),
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


def line_of(row: NDArray[np.int16], *, y: Tensor) -> tuple[float, float] | None:
    """Shift and slope with ``rint((byte - 128 + shift) * slope)`` the codes ``row (256,)``.

    Codes at an end of the range of ``y`` may have been limited to it. Of all such lines the one in
    the middle, farthest from where another order of rounding would tell; ``None`` for no line.
    """
    bytes_ = np.arange(256) - float(INPUT_ZERO_POINT)
    low = np.where(row <= y.low, -np.inf, row - 0.5)
    high = np.where(row >= y.high, np.inf, row + 0.5)
    steps = bytes_[None, :] - bytes_[:, None]
    later = steps > 0
    slopes = (low[None, :] - high[:, None])[later] / steps[later]
    least = float(slopes.max())
    most = float(((high[None, :] - low[:, None])[later] / steps[later]).min())
    slope = (least + most) / 2
    if not np.isfinite(slope) or slope == 0:
        return None
    start = (float((low - slope * bytes_).max()) + float((high - slope * bytes_).min())) / 2
    shift, step = np.float32(start / slope), np.float32(slope)
    codes = np.rint((bytes_.astype(np.float32) + shift) * step)
    return (float(shift), float(step)) if (np.clip(codes, y.low, y.high) == row).all() else None


_PER_CHANNEL: dict[str, Attribute] = {"axis": 0}
