"""What an ONNX value can stand for while a file is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.integer.graph import Float32, Node, Tensor
from qadtr_edge.integer.graph import Weight as WeightCodes

Array = NDArray[np.generic]
Integers = NDArray[np.int64]


class Unreadable(Exception):
    """Why a node has no place in the integer graph; completes "the node …"."""


@dataclass(frozen=True, eq=False)
class Constant:
    """Known values."""

    array: Array


@dataclass(frozen=True, eq=False)
class Quantized:
    """Known values ``scale * codes``; ``scale`` broadcasts against ``codes`` from ``axis``."""

    codes: Integers
    scale: Float32
    axis: int

    @property
    def real(self) -> NDArray[np.float64]:
        scale = along(self.scale, self.axis, rank=self.codes.ndim).astype(np.float64)
        made: NDArray[np.float64] = self.codes * scale
        return made


@dataclass(frozen=True, eq=False)
class Image:
    """The input, as far as every value of it depends on one byte alone.

    ``values``: ``(3, 256) float32`` by channel and byte, in the order in which the network sees
    the channels. ``is_quantized``: they are integer containers, not reals.
    """

    values: Float32
    layout: Literal["NCHW", "NHWC"]
    is_quantized: bool


@dataclass(frozen=True)
class Codes:
    """The containers of a tensor of the integer graph; ``shift`` makes them unsigned.

    ``channels_last``: the file holds them so until it transposes them; the graph never does.
    """

    tensor: str
    shift: int
    channels_last: bool = False


@dataclass(frozen=True)
class Real:
    """The real values of a tensor of the integer graph; ``channels_last`` as in ``Codes``."""

    tensor: str
    channels_last: bool = False


@dataclass(frozen=True, eq=False)
class Padded:
    """``value`` with zeros around its image: top, left, bottom, right. Only windows read it."""

    value: Value
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution or matrix product that is not yet on a grid; weights may still be folded into.

    ``weight``: codes; ``weight_scale``: ``(O,) float32``; ``bias``: ``(O,)`` int32 on the grid
    ``scale_x * weight_scale`` as the file has it, or float64 reals. ``make``: the node.
    """

    weight: WeightCodes
    weight_scale: Float32
    bias: NDArray[np.int32] | NDArray[np.float64]
    make: Callable[[Product, str, str], Node]
    x: Tensor


@dataclass(frozen=True, eq=False)
class Pending:
    """A real result that becomes a node once it is known on which grid.

    - ``name``: the ONNX node's; ``shape``: without N.
    - ``make``: from (node name, output's name) to the node; of a ``product`` it is made later.
    - ``operands``: a sum whose parts are not quantized either; they get the sum's grid.
    - ``low``, ``high``: reals it is limited to. ``then``: what moves its codes afterwards.
    - ``pooled``: the tensor that it is the mean of, over all rows and columns.
    """

    name: str
    shape: tuple[int, ...]
    make: Callable[[str, str], Node] | None = None
    product: Product | None = None
    operands: tuple[Value, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    then: tuple[Move, ...] = field(default=())
    pooled: str | None = None

    def limited(self, low: float, high: float) -> Pending:
        return replace(self, low=max(self.low, low), high=min(self.high, high))


@dataclass(frozen=True, eq=False)
class Move:
    """An operation that moves or compares codes: the node for a tensor, and the shape it leaves."""

    make: Callable[[str, str, str], Node]
    shape: tuple[int, ...]
    name: str


@dataclass(frozen=True)
class Scores:
    """What follows the logits and keeps their order (Softmax); ``value`` is their ONNX name."""

    value: str


@dataclass(frozen=True)
class Unknown:
    """The result of a node that could not be read, or that reads such a result."""


Value = Constant | Quantized | Image | Codes | Real | Pending | Padded | Scores | Unknown


def along(vector: Array, axis: int, *, rank: int) -> Array:
    """``vector`` shaped to broadcast along ``axis`` of an array of ``rank``; a scalar as it is."""
    if vector.ndim == 0 or vector.size == 1:
        return vector.reshape(())
    return vector.reshape([-1 if i == axis % rank else 1 for i in range(rank)])
