"""What each engine wants of the same integer graph. This table is the only place that says so.

A dialect never changes an integer: it chooses containers, spellings and the form of the bias, and
refuses, naming the node, what its engine cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qadtr_edge.errors import Unsupported
from qadtr_edge.integer.graph import (
    AddConstant,
    IntegerGraph,
    MaxPool,
    Node,
    PadChannels,
    Subsample,
    Tensor,
    Weight,
    inputs_of,
)  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """One engine's spelling.

    - ``form``: ``operators``: each node is one integer operator, nothing is left to a fuser;
      ``qdq``: float operators between QuantizeLinear and DequantizeLinear, to be fused.
    - ``container_low``, ``container_high``: range of the 8-bit containers of activations.
    - ``bias``: ``int32`` on the ``scale_x * scale_w`` grid, or ``float`` already on that grid.
    - ``narrow``: how a range smaller than the container is kept: an integer ``Clip`` after each
      requantization (a float one, before it, makes onnxruntime run the whole layer in float).
    - ``opset``: of the default domain; 21 types every operator used here.
    """

    name: str
    form: Literal["operators", "qdq"]
    container_low: int
    container_high: int
    bias: Literal["int32", "float"]
    narrow: Literal["clip"]
    opset: int


ORT = Dialect(
    "onnxruntime", form="operators", container_low=0, container_high=255, bias="int32",
    narrow="clip", opset=21,
)  # fmt: skip
PORTABLE = Dialect(
    "portable Q/DQ", form="qdq", container_low=0, container_high=255, bias="int32",
    narrow="clip", opset=21,
)  # fmt: skip
OPENVINO = Dialect(  # u8: s8 runs on integer kernels too, and slower where it was tried
    "OpenVINO", form="qdq", container_low=0, container_high=255, bias="int32",
    narrow="clip", opset=21,
)  # fmt: skip
TENSORRT = Dialect(
    "TensorRT", form="qdq", container_low=-128, container_high=127, bias="float",
    narrow="clip", opset=21,
)  # fmt: skip


def container_range(tensor: Tensor) -> tuple[int, int]:
    """Smallest and largest container value of ``tensor``."""
    return tensor.low + tensor.zero_point, tensor.high + tensor.zero_point


def needs_clip(tensor: Tensor, dialect: Dialect) -> bool:
    """Whether the range is narrower than what the container's own saturation keeps."""
    return container_range(tensor) != (dialect.container_low, dialect.container_high)


def same_grid(x: Tensor, y: Tensor) -> bool:
    """Whether equal codes of ``x`` and ``y`` are equal container values and mean equal numbers."""
    return (x.scale, x.zero_point) == (y.scale, y.zero_point)


def is_int8(tensor: Tensor) -> bool:
    """Whether int8 at zero point 0 holds the codes of ``tensor``."""
    return tensor.low >= -128 and tensor.high <= 127


def weight_zero_point(codes: Weight) -> int | None:
    """The uint8 zero point that holds ``codes``, or ``None`` where int8 holds them as they are.

    Raises ``Unsupported`` for codes that no one zero point brings into 8 bits.
    """
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if low >= -128 and high <= 127:
        return None
    if high - low > 255:
        raise Unsupported(
            f"Weight codes from {codes.min()} to {codes.max()} do not fit 8-bit containers.",
            "Quantize the weights with one zero point for all channels.",
        )
    return -low


_PASS_THROUGH = (MaxPool, PadChannels, Subsample)


def check(graph: IntegerGraph, dialect: Dialect) -> None:
    """Raises ``Unsupported``, naming the node, for what ``dialect`` cannot hold."""
    _check_range(graph.input, graph.tensors[graph.input], dialect)
    for node in graph.nodes:
        if node.y != graph.logits:
            _check_range(node.name, graph.tensors[node.y], dialect)
        if isinstance(node, _PASS_THROUGH):
            _check_same_grid(node, graph)
        if isinstance(node, AddConstant) and not -128 <= node.code <= 255:
            raise Unsupported(
                f"The constant {node.code} of {node.name!r} does not fit 8 bits.",
                "Choose a larger scale for it.",
            )


def _check_range(name: str, tensor: Tensor, dialect: Dialect) -> None:
    low, high = container_range(tensor)
    if low < dialect.container_low or high > dialect.container_high:
        raise Unsupported(
            f"The output of {name!r} holds codes {tensor.low} to {tensor.high}, which at zero "
            f"point {tensor.zero_point} do not fit the 8-bit containers of {dialect.name}.",
            "Lower the bits of that tensor.",
        )


def _check_same_grid(node: Node, graph: IntegerGraph) -> None:
    x, y = graph.tensors[inputs_of(node)[0]], graph.tensors[node.y]
    if not same_grid(x, y):
        raise Unsupported(
            f"{node.name!r} passes its codes on, but its output has another scale or zero point.",
            "Put a Requantize node behind it.",
        )
