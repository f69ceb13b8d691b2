"""Small .tflite files made by hand: each output is a single pixel, so that every mistake shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 8
PLACES = ((0, 0, 0), (1, 0, 7), (2, 7, 0), (0, 3, 5))
"""Channel, row and column of the pixel that each output answers with, in turn."""

ZERO = {"int8": -128, "uint8": 0, "float32": 0}
WEIGHT_ZERO = {"int8": 0, "uint8": 128, "float32": 0}
VERSIONS = {"RESHAPE": 1, "FULLY_CONNECTED": 4, "SOFTMAX": 2, "QUANTIZE": 1, "DEQUANTIZE": 2}


class File:
    """One model, front to back; ``tensor`` returns an index."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.model, self.graph = self.schema.ModelT(), self.schema.SubGraphT()
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes = [self.schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self, name: str, values: tuple[int, ...] | NDArray[np.generic], kind: str = "", *,
        zero_point: int = 0, scale: float = 1.0,
    ) -> int:  # fmt: skip
        """A tensor of a shape, or one that holds an array."""
        made, is_constant = self.schema.TensorT(), isinstance(values, np.ndarray)
        kind = values.dtype.name if is_constant else kind
        made.name, made.shape = name.encode(), list(values.shape if is_constant else values)
        made.type = getattr(self.schema.TensorType, kind.upper())
        made.buffer = len(self.model.buffers) if is_constant else 0
        if is_constant:
            self.model.buffers.append(self.schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        if kind in {"int8", "uint8"}:
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int) -> int:
        """Appends an operator, and returns its output."""
        code, made = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, name)
        code.version = VERSIONS[name]
        self.model.operatorCodes.append(code)
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = inputs, [output]
        options = {"SOFTMAX": "SoftmaxOptions", "FULLY_CONNECTED": "FullyConnectedOptions"}
        if name in options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options[name])
            made.builtinOptions = getattr(self.schema, f"{options[name]}T")()
        if name == "SOFTMAX":
            made.builtinOptions.beta = 0.01
        self.graph.operators.append(made)
        return output

    def product(self, x: int, weight: NDArray[np.float64], name: str, kind: str) -> int:
        """A fully connected layer of whole-numbered weights, all scales 1."""
        zero = WEIGHT_ZERO[kind]
        held = self.tensor(f"{name}/weight", (weight + zero).astype(kind), zero_point=zero)
        y = self.tensor(name, (1, len(weight)), kind, zero_point=ZERO[kind])
        return self.operator("FULLY_CONNECTED", [x, held, -1], y)

    def save(self, path: Path, *, image: int, logits: int) -> Path:
        import flatbuffers

        self.graph.inputs, self.graph.outputs = [image], [logits]
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def pixels(
    path: Path, kind: str = "int8", *, outputs: int = len(PLACES), softmax: bool = False,
    float_product: bool = False,
) -> Path:  # fmt: skip
    """A file that takes ``(1, 8, 8, 3)`` and answers with the pixels at ``PLACES``.

    ``float_product``: behind the integer layer, a float one that changes nothing.
    """
    made, features, zero = File(), 3 * SIZE * SIZE, ZERO[kind]
    image = made.tensor("image", (1, SIZE, SIZE, 3), kind, zero_point=zero)
    shape = made.tensor("shape", np.array([1, features], np.int32))
    row = made.tensor("row", (1, features), kind, zero_point=zero)
    made.operator("RESHAPE", [image, shape], row)
    chosen = np.zeros((outputs, SIZE, SIZE, 3))
    for output in range(outputs):
        channel, top, left = PLACES[output % len(PLACES)]
        chosen[output, top, left, channel] = 1
    logits = made.product(row, chosen.reshape(outputs, features), "chosen", kind)
    if float_product:
        real = made.tensor("real", (1, outputs), "float32")
        made.operator("DEQUANTIZE", [logits], real)
        logits = made.product(real, np.eye(outputs), "in float", "float32")
    if softmax:
        chances = made.tensor("chances", (1, outputs), kind, scale=1 / 256, zero_point=zero)
        logits = made.operator("SOFTMAX", [logits], chances)
    return made.save(path, image=image, logits=logits)


def expected(images: NDArray[np.uint8], *, outputs: int = len(PLACES)) -> NDArray[np.float32]:
    """What a file without softmax answers to raw pixels."""
    places = [PLACES[output % len(PLACES)] for output in range(outputs)]
    return np.stack([images[:, c, top, left] for c, top, left in places], 1).astype(np.float32)
