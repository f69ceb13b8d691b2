"""Networks in Q/DQ by hand: the forms in which other tools write padding, shortcuts and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foreign_files import SIDE_PX, Network, fitted

if TYPE_CHECKING:
    import onnx


def shortcut() -> onnx.ModelProto:
    """A shortcut without parameters beside a convolution of stride 2: Slice, Slice, Pad."""
    n = Network(seed=2)
    x = n.quantized("image", 1 / 32, name="pixels")
    x = n.node("Relu", [n.coded(x, 3, 8, "stem")], "stem.relu")
    x = n.quantized(x, 0.04, name="a")
    skip = n.slice(n.slice(x, 2, step=2, name="rows"), 3, step=2, name="columns")
    skip = n.pad(n.slice(skip, 1, step=1, name="all"), [0, 4, 0, 0, 0, 4, 0, 0], "", name="wide")
    skip = n.quantized(skip, 0.04, name="skip")
    branch = n.quantized(n.coded(x, 8, 16, "branch", stride=2), 0.03, name="b")
    x = n.quantized(n.node("Relu", [n.node("Add", [branch, skip], "sum")], "act"), 0.07, name="c")
    x = n.quantized(n.node("GlobalAveragePool", [x], "mean"), 0.03, name="d")
    return n.model(n.classifier(n.node("Flatten", [x], "row"), 16, "fc"))


def framed(*, fill: float = 0.0) -> onnx.ModelProto:
    """The image padded in float and a tensor as codes around its zero point, each before a Conv."""
    n = Network(seed=3)
    filled = n.constant("fill", np.float32(fill))
    x = n.pad("image", [0, 0, 1, 1, 0, 0, 1, 1], filled, name="frame")
    x = n.coded(n.quantized(x, 1 / 48, name="pixels", zero=np.uint8(120)), 3, 8, "stem", pad=0)
    x = n.quantized(x, 0.06, name="a", zero=np.uint8(130), border=2)
    x = n.quantized(n.coded(x, 8, 16, "deep", pad=0, stride=2), 0.05, name="b")
    x = n.quantized(n.node("GlobalAveragePool", [x], "mean"), 0.02, name="c")
    return n.model(n.classifier(n.node("Flatten", [x], "row"), 16, "fc"))


def framed_maximum(*, zero: int = 0) -> onnx.ModelProto:
    """Zeros around a tensor before a MaxPool, as converters of TensorFlow write it."""
    n = Network(seed=6)
    x = n.quantized("image", 1 / 48, name="pixels", zero=np.uint8(120))
    x = n.coded(x, 3, 8, "stem")
    x = n.quantized(x, 0.03, name="a", zero=np.uint8(zero), border=1)
    x = n.node("MaxPool", [x], "half", kernel_shape=[3, 3], strides=[2, 2])
    x = n.quantized(n.node("GlobalAveragePool", [x], "mean"), 0.02, name="c", zero=np.uint8(0))
    return n.model(n.classifier(n.node("Flatten", [x], "row"), 8, "fc"))


def float_head(*, positions: int = 8) -> onnx.ModelProto:
    """As NVIDIA Model Optimizer leaves small classifiers: mean and last product stay in float.

    The weights are 8-bit numbers already, so that nothing is lost by rounding them.
    """
    n = Network(seed=5)
    x = n.quantized("image", 1 / 32, name="pixels")
    x = n.node("Relu", [n.coded(x, 3, 24, "stem", stride=SIDE_PX // positions)], "stem.relu")
    x = n.quantized(x, 0.03, name="a")
    x = n.node("AveragePool", [x], "mean", kernel_shape=[positions] * 2)
    row = n.node("Flatten", [x], "row")
    weight, bias = fitted(n.model(row, classes=24))
    step = np.abs(weight).max(axis=1, keepdims=True) / 127
    held = n.constant("fc.weight", (np.rint(weight / step) * step).astype(np.float32))
    inputs = [row, held, n.constant("fc.bias", bias)]
    return n.model(n.node("Gemm", inputs, "fc", transB=1))


def four_bit(kind: str) -> onnx.ModelProto:
    """Weights as INT4 or UINT4 initializers of opset 21, activations int8."""
    n = Network(seed=4)
    x = n.quantized("image", 1 / 32, name="pixels")
    x = n.node("Relu", [n.coded(x, 3, 8, "stem", kind=kind)], "stem.relu")
    x = n.quantized(x, 0.03, name="a")
    x = n.node("Relu", [n.coded(x, 8, 16, "deep", stride=2, kind=kind)], "deep.relu")
    x = n.quantized(x, 0.04, name="b")
    x = n.quantized(n.node("GlobalAveragePool", [x], "mean"), 0.02, name="c")
    return n.model(n.classifier(n.node("Flatten", [x], "row"), 16, "fc"))
