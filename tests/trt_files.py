"""A clean file for TensorRT, and what can be wrong with one: each plant spoils it at one node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from qadtr_edge.export import trt_form

import handmade

Model = onnx.ModelProto


def clean(bits: int = 4) -> Model:
    return trt_form.spell_signed(handmade.residual(bits=bits), digest="d")


def node_of(model: Model, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def put(model: Model, name: str, value: np.ndarray) -> None:  # type: ignore[type-arg]
    """Gives the constant ``name`` another value, or adds it."""
    made = onnx.numpy_helper.from_array(value, name)
    for held in model.graph.initializer:
        if held.name == name:
            held.CopyFrom(made)
            return
    model.graph.initializer.append(made)


def uint8_at_zero_point_0(model: Model) -> None:
    put(model, "stem.out/zero_point", np.uint8(0))


def uint8_by_default(model: Model) -> None:
    del node_of(model, "stem/quantize").input[2]


def asymmetric(model: Model) -> None:
    put(model, "stem.out/zero_point", np.int8(3))


def int32_bias(model: Model) -> None:
    put(model, "bias32", np.zeros(8, np.int32))
    put(model, "bias32/scale", np.ones(8, np.float32))
    index = list(model.graph.node).index(node_of(model, "stem"))
    made = onnx.helper.make_node(
        "DequantizeLinear", ["bias32", "bias32/scale"], ["b"], name="stem/bias", axis=0
    )
    model.graph.node.insert(index, made)
    node_of(model, "stem").input[2] = "b"


def bias_off_the_grid(model: Model) -> None:
    held = next(x for x in model.graph.initializer if x.name == "stem/bias")
    scale = next(x for x in model.graph.initializer if x.name == "stem/weight_scale")
    step = onnx.numpy_helper.to_array(scale) * np.float32(2.0**-7)
    put(model, "stem/bias", onnx.numpy_helper.to_array(held) + np.float32(0.3) * step)


def double_bias(model: Model) -> None:
    held = next(x for x in model.graph.initializer if x.name == "stem/bias")
    put(model, "stem/bias", onnx.numpy_helper.to_array(held).astype(np.float64))


def scales_along_the_inputs(model: Model) -> None:
    node_of(model, "block0.conv1/weight/dequantize").attribute[0].i = 1


def no_axis(model: Model) -> None:
    """The axis of a DequantizeLinear is 1 unless it says otherwise."""
    del node_of(model, "block0.conv1/weight/dequantize").attribute[:]


def missing_scales(model: Model) -> None:
    put(model, "block0.conv1/weight_scale", np.ones(5, np.float32))


def activations_per_channel(model: Model) -> None:
    put(model, "stem.out/scale", np.full(8, 0.1, np.float32))


def quantized_scalar(model: Model) -> None:
    put(model, "three", np.int8(3))
    put(model, "three/scale", np.float32(0.5))
    index = list(model.graph.node).index(node_of(model, "block0.add"))
    made = onnx.helper.make_node(
        "DequantizeLinear", ["three", "three/scale"], ["three/real"], name="three"
    )
    model.graph.node.insert(index, made)
    node_of(model, "block0.add").input[1] = "three/real"


def integer_min(model: Model) -> None:
    clip = node_of(model, "block0.conv1/clip")
    clip.op_type = "Min"
    del clip.input[1:2]


def float_skip(model: Model) -> None:
    node_of(model, "block0.add").input[1] = "stem/real"


def float_convolution(model: Model) -> None:
    node_of(model, "block0.conv1").input[0] = "stem/real"


def four_bit_weights(model: Model) -> None:
    name = "block0.conv1/weight"
    held = next(x for x in model.graph.initializer if x.name == name)
    codes = np.clip(onnx.numpy_helper.to_array(held), -8, 7)
    held.CopyFrom(
        onnx.helper.make_tensor(name, onnx.TensorProto.INT4, codes.shape, codes.flatten().tolist())
    )
    del node_of(model, "block0.conv1/weight/dequantize").input[2]


def old_opset(model: Model) -> None:
    model.opset_import[0].version = 12


def foreign_operator(model: Model) -> None:
    node_of(model, "pool").domain = "com.microsoft"


def changing_scale(model: Model) -> None:
    node_of(model, "stem/quantize").input[1] = "stem/real"


BAD: list[tuple[Callable[[Model], None], str, str]] = [
    (uint8_at_zero_point_0, "stem/quantize", "uint8"),
    (uint8_by_default, "stem/quantize", "uint8"),
    (asymmetric, "stem/quantize", "zero point 3"),
    (int32_bias, "stem/bias", "int32"),
    (bias_off_the_grid, "stem", "off the grid"),
    (double_bias, "stem", "float64"),
    (scales_along_the_inputs, "block0.conv1/weight/dequantize", "along axis 1, not 0"),
    (no_axis, "block0.conv1/weight/dequantize", "along axis 1, not 0"),
    (missing_scales, "block0.conv1/weight/dequantize", "5 scales for 8 channels"),
    (activations_per_channel, "stem/quantize", "activations per channel"),
    (quantized_scalar, "block0.add", "quantized constant"),
    (integer_min, "block0.conv1/clip", "integer Min"),
    (float_skip, "block0.add", "not quantized"),
    (float_convolution, "block0.conv1", "no DequantizeLinear before its input"),
    (four_bit_weights, "block0.conv1/weight/dequantize", "4-bit"),
    (old_opset, "DequantizeLinear", "opset 12"),
    (foreign_operator, "pool", "com.microsoft"),
    (changing_scale, "stem/quantize", "scale that is no constant"),
]
"""Plant, the node that must be named, words of the reason."""
