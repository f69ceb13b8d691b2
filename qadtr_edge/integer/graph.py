"""The integer graph: what a checkpoint is lowered to, and what every engine is compared with.

Semantics (``judge.py`` executes them exactly). A tensor holds integer *codes* ``n`` with
``low <= n <= high`` and stands for the values ``scale * n``. ``zero_point`` belongs to the 8-bit
unsigned container some engines use (container = code + zero_point); it matters for arithmetic only
where an engine rounds after adding it (the x86 Add). After every operation the result is clamped
to ``[low, high]`` of its output tensor, so ReLU, ReLU6 and narrow widths are clamps, not nodes.

Nodes are in execution order. Every tensor is produced once. The last node makes the float32 logits:
a ``Linear``, ``scale_x * weight_scale * accumulator``, never requantized, or a ``Dequantize``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..types import QuantSpec

Int8 = NDArray[np.int8]
Weight = NDArray[np.int8] | NDArray[np.int16]
"""Weight codes: int8, or int16 where an asymmetric uint8 file holds codes outside [-128, 127]."""
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Tensor:
    """One quantized activation. ``shape`` leaves out N; ``scale`` is exactly a float32."""

    name: str
    shape: tuple[int, ...]
    scale: float
    low: int
    high: int
    zero_point: int = 0

    @property
    def is_signed(self) -> bool:
        return self.low < 0


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution; padding is code 0. ``acc = sum(w * x) + bias`` in int32.

    Result: ``rint(f32(acc) * f32(f32(scale_x * weight_scale) / scale_y))``, per output channel.

    - ``weight``: ``(O, I/groups, kh, kw)`` codes; ``weight_scale``: ``(O,) float32``;
      ``bias``: ``(O,) int32`` in units of ``scale_x * weight_scale``.
    - ``padding``: top, left, bottom, right.
    """

    name: str
    x: str
    y: str
    weight: Weight
    weight_scale: Float32
    bias: Int32
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Linear:
    """Matrix product ``(N, F) -> (N, O)``; requantized like ``Conv`` unless ``y`` is the logits.

    ``weight``: ``(O, F)`` codes; ``weight_scale``: ``(O,) float32``; ``bias``: ``(O,) int32``.
    """

    name: str
    x: str
    y: str
    weight: Weight
    weight_scale: Float32
    bias: Int32


@dataclass(frozen=True)
class Add:
    """Sum of two tensors of one shape. With equal scales it is an integer sum and never rounds."""

    name: str
    a: str
    b: str
    y: str


@dataclass(frozen=True)
class AddConstant:
    """Sum of a tensor and one constant ``code`` in units of ``scale`` (hard-swish's x + 3)."""

    name: str
    x: str
    y: str
    code: int
    scale: float


@dataclass(frozen=True)
class Mul:
    """Elementwise product of two tensors of one shape."""

    name: str
    a: str
    b: str
    y: str


@dataclass(frozen=True)
class Sigmoid:
    """``y = 1 / (1 + exp(-x))``: a 256-entry table, since the input is 8-bit."""

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Requantize:
    """The same values on another scale: ``rint(f32(f32(scale_x * n) / scale_y))``.

    With equal scales it is a clamp alone (a ReLU that stands by itself).
    """

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Rescale:
    """The same codes read with another scale; no arithmetic (hard-swish's division by 6)."""

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Concat:
    """Concatenation over channels; every input is requantized to the output's scale."""

    name: str
    xs: tuple[str, ...]
    y: str


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; the scale passes through. ``padding``: top, left, bottom, right."""

    name: str
    x: str
    y: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows, in float32 in window order as onnxruntime does (not an integer kernel)."""

    name: str
    x: str
    y: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False


@dataclass(frozen=True)
class GlobalAveragePool:
    """``rint(f32(sum(x)) * f32(scale_x / f32(scale_y * count)))`` over H and W; y is (C, 1, 1)."""

    name: str
    x: str
    y: str


@dataclass(frozen=True)
class Subsample:
    """Every ``stride``-th row and column, starting at the first."""

    name: str
    x: str
    y: str
    stride: tuple[int, int]


@dataclass(frozen=True)
class PadChannels:
    """Channels of code 0 before and after (ResNet option A shortcut, He et al. 2016)."""

    name: str
    x: str
    y: str
    before: int
    after: int


@dataclass(frozen=True)
class Flatten:
    """``(C, H, W) -> (C*H*W,)``."""

    name: str
    x: str
    y: str


@dataclass(frozen=True, eq=False)
class PixelTable:
    """Code of each byte of each channel, where a model's own normalisation rounds its input.

    ``table``: ``(3, 256) int16`` codes of ``y``, by channel and byte; x is the graph's input.
    """

    name: str
    x: str
    y: str
    table: NDArray[np.int16]


@dataclass(frozen=True)
class Dequantize:
    """``f32(scale_x * n)``: the logits of a network whose last layer is requantized."""

    name: str
    x: str
    y: str


Node = (
    Conv
    | Linear
    | Add
    | AddConstant
    | Mul
    | Sigmoid
    | Requantize
    | Rescale
    | Concat
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Subsample
    | PadChannels
    | Flatten
    | PixelTable
    | Dequantize
)

NODE_TYPES: dict[str, type[Node]] = {kind.__name__: kind for kind in get_args(Node)}


def inputs_of(node: Node) -> tuple[str, ...]:
    """Names of the tensors a node reads, in order."""
    if isinstance(node, Concat):
        return node.xs
    if isinstance(node, Add | Mul):
        return (node.a, node.b)
    return (node.x,)


@dataclass(frozen=True, eq=False)
class IntegerGraph:
    """A lowered network: nodes in execution order, and every tensor but the logits by name.

    - ``input``: name of the input tensor, whose codes are the raw byte less its ``zero_point``
      (128 in our own networks).
    - ``logits``: name of the last node's output, ``(K,)`` float32 values.
    - ``spec``: how it was quantized; ``source``: what it was lowered from, for provenance;
      ``notes``: what a reader of a report must know (a fold that was not exact, say).
    """

    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    input: str
    logits: str
    classes: int
    spec: QuantSpec
    source: dict[str, str]
    notes: tuple[str, ...] = ()


AddRounding = Literal["x86", "x86 int8", "aarch64"]


def arrays_of(node: Node) -> dict[str, NDArray[np.generic]]:
    """The array-valued fields of a node, by field name."""
    values = {item.name: getattr(node, item.name) for item in fields(node)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
