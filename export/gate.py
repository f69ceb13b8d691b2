"""Which kernels ran: integer, mixed or float. INT8 is a measurement, not a request.

What is judged is a list of the kernels that a runtime executed, in order, with the element types
they read and wrote. Between the first kernel that touches 8-bit activations and the last matrix
product, nothing may leave float behind but the matrix product that makes the logits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

INTEGER_TYPES = {"uint8", "int8"}
FLOAT_TYPES = {"float", "float16", "bfloat16", "double"}

_INTEGER_ARITHMETIC = re.compile(
    r"QLinear\w+|QGemm|QAttention|ConvInteger|MatMulInteger(ToFloat)?|DynamicQuantizeMatMul"
)
_MATRIX_PRODUCT = re.compile(
    r"\w*(Conv(?!ert)|Gemm|MatMul|FullyConnected)\w*|CONV_2D|DEPTHWISE_CONV_2D|FULLY_CONNECTED"
)
# They compute no layer; the float kernel that they feed is what is named.
_CONVERSIONS = {
    "QuantizeLinear", "DequantizeLinear", "Cast", "ReorderInput", "ReorderOutput",
    "Convert", "Reorder", "QUANTIZE", "DEQUANTIZE",
}  # fmt: skip
_FLOAT_INSIDE = {
    "QLinearAveragePool": "reads and writes 8-bit codes but adds up the window in float32",
}


@dataclass(frozen=True)
class Kernel:
    """One executed kernel: its name in the runtime, operator, and element types in and out.

    ``runs_in``, ``layers``: the kind of arithmetic, and the layers computed in it, where the
    runtime says so itself; where it does not, both are read off the names.
    """

    name: str
    operator: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    runs_in: Literal["integer", "float", "nothing"] | None = None
    layers: tuple[str, ...] = ()

    @property
    def is_integer_arithmetic(self) -> bool:
        if self.runs_in is not None:
            return self.runs_in == "integer"
        return _INTEGER_ARITHMETIC.fullmatch(self.operator) is not None

    @property
    def is_matrix_product(self) -> bool:
        return _MATRIX_PRODUCT.fullmatch(self.operator) is not None

    @property
    def leaves_float(self) -> bool:
        if self.runs_in is not None:
            return self.runs_in == "float"
        return bool(FLOAT_TYPES & set(self.writes)) and self.operator not in _CONVERSIONS


@dataclass(frozen=True)
class Verdict:
    """``precision`` as in ``EngineFacts``; ``float_layers`` by layer name, in execution order."""

    precision: Literal["integer", "mixed", "float"]
    integer_kernels: int
    float_layers: tuple[str, ...]
    notes: tuple[str, ...]


def weigh(kernels: Sequence[Kernel], *, layers: Iterable[str] = ()) -> Verdict:
    """The verdict over ``kernels`` in execution order; names become those of ``layers``."""
    known = list(layers)
    integer = [kernel for kernel in kernels if kernel.is_integer_arithmetic]
    floats = [k for k in _inner(kernels) if k.leaves_float and not k.is_integer_arithmetic]
    notes = [
        f"{layer_of(kernel.name, known)}: {kernel.operator} {_FLOAT_INSIDE[kernel.operator]}"
        for kernel in integer
        if kernel.operator in _FLOAT_INSIDE
    ]
    names = tuple(dict.fromkeys(name for kernel in floats for name in layers_of(kernel, known)))
    precision: Literal["integer", "mixed", "float"] = "mixed" if floats else "integer"
    return Verdict(precision if integer else "float", len(integer), names, tuple(notes))


def _inner(kernels: Sequence[Kernel]) -> Sequence[Kernel]:
    """From the first kernel that touches 8-bit activations to the last matrix product."""
    touching = [i for i, k in enumerate(kernels) if INTEGER_TYPES & {*k.reads[:1], *k.writes}]
    products = [i for i, kernel in enumerate(kernels) if kernel.is_matrix_product]
    first = touching[0] if touching else 0
    last = products[-1] if products else len(kernels) - 1
    return kernels[first : last + 1]


def layers_of(kernel: Kernel, layers: Sequence[str]) -> tuple[str, ...]:
    """The layers computed in ``kernel``: as its runtime says, or the one its name belongs to."""
    return kernel.layers or (layer_of(kernel.name, layers),)


def layer_of(kernel: str, layers: Sequence[str]) -> str:
    """The layer a kernel belongs to: the longest of ``layers`` its name starts with, or its name.

    Runtimes decorate names: ``conv1/clip``, ``conv1_token_5``, ``fused conv1``.
    """
    name = kernel.removeprefix("fused ")
    found = [
        layer for layer in layers
        if name == layer or (name.startswith(layer) and name[len(layer)] in "/_ ")
    ]  # fmt: skip
    return max(found, key=len, default=kernel)
