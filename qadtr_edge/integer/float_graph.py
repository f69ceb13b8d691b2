"""The float graph: the same network without quantization, as the yardstick beside the integers.

Nodes without weights are those of the integer graph, read as operations on real numbers. The input
is ``(pixel - input_zero) * input_scale``; padding is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import (
    Add,
    AveragePool,
    Concat,
    Flatten,
    Float32,
    GlobalAveragePool,
    MaxPool,
    Mul,
    PadChannels,
    Sigmoid,
    Subsample,
)


@dataclass(frozen=True, eq=False)
class FloatConv:
    """2-D convolution. ``weight``: ``(O, I/groups, kh, kw) float32``; ``bias``: ``(O,) float32``.

    ``padding``: top, left, bottom, right.
    """

    name: str
    x: str
    y: str
    weight: Float32
    bias: Float32
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """``(N, F) -> (N, O)``. ``weight``: ``(O, F) float32``; ``bias``: ``(O,) float32``."""

    name: str
    x: str
    y: str
    weight: Float32
    bias: Float32


@dataclass(frozen=True)
class Clip:
    """``min(max(x, low), high)``: ReLU without ``high``, ReLU6 with 6."""

    name: str
    x: str
    y: str
    low: float = 0.0
    high: float | None = None


@dataclass(frozen=True)
class Shift:
    """``x + offset`` (hard-swish's x + 3)."""

    name: str
    x: str
    y: str
    offset: float


@dataclass(frozen=True)
class Multiply:
    """``x * factor`` (hard-swish's division by 6)."""

    name: str
    x: str
    y: str
    factor: float


FloatNode = (
    FloatConv
    | FloatLinear
    | Clip
    | Shift
    | Multiply
    | Add
    | Mul
    | Sigmoid
    | Concat
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Subsample
    | PadChannels
    | Flatten
)


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """Nodes in execution order, the last of which makes the logits ``(K,)``.

    ``image``: (3, H, W). ``input_scale``, ``input_zero``: for all channels, or ``(3,)``.
    ``source`` and ``notes`` as in ``IntegerGraph``.
    """

    nodes: tuple[FloatNode, ...]
    input: str
    input_scale: float | Float32
    image: tuple[int, int, int]
    logits: str
    classes: int
    source: dict[str, str]
    notes: tuple[str, ...] = ()
    input_zero: float | Float32 = 128.0
