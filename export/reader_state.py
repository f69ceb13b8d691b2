"""Where the reading of a file stands, and the words its operators share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .reader_build import Build
from .reader_geometry import Attributes
from .reader_values import (
    Array,
    Codes,
    Constant,
    Image,
    Move,
    Padded,
    Pending,
    Quantized,
    Real,
    Unreadable,
    Value,
)

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Reading:
    """``values`` by name, how many nodes read each, and whether the model wants BGR.

    - ``head``: the value that the last product of the file writes.
    - ``parts``: float nodes that stand for a fused one, by the value they write.
    """

    build: Build
    values: dict[str, Value]
    readers: dict[str, int]
    bgr: bool
    opset: int
    head: str
    parts: dict[str, onnx.NodeProto] = field(default_factory=dict)

    def value(self, node: onnx.NodeProto, index: int) -> Value | None:
        """The value behind an input; ``None`` where the node leaves it out."""
        name = node.input[index] if index < len(node.input) else ""
        return self.values[name] if name else None

    def array(self, node: onnx.NodeProto, index: int) -> Array | None:
        """The constant behind an input; ``None`` where the node leaves it out."""
        value = self.value(node, index)
        if value is None:
            return None
        if isinstance(value, Constant):
            return value.array
        raise Unreadable(f"has an input {node.input[index]!r} that is not constant")

    def source(self, node: onnx.NodeProto) -> str:
        """The tensor behind the first input of a node that reads quantized values."""
        return self.tensor(self.value(node, 0))

    def tensor(self, value: Value | None) -> str:
        """The tensor whose real values ``value`` is."""
        if isinstance(value, Padded):
            raise Unreadable("reads padded values, which only a convolution may")
        if isinstance(value, Real) and not value.channels_last:
            return value.tensor
        if isinstance(value, Image):
            raise Unreadable("reads the image in float: the file does not quantize its input")
        raise Unreadable("reads a value that is not quantized")

    def weight(self, node: onnx.NodeProto) -> Quantized:
        """The weights of a product."""
        value = self.value(node, 1)
        if isinstance(value, Quantized):
            return value
        raise Unreadable("has weights that are not quantized")

    def shape(self, value: Value) -> tuple[int, ...]:
        """Shape of a value, without N."""
        if isinstance(value, Pending) or (isinstance(value, Real) and not value.channels_last):
            return self.stored_shape(value)
        raise Unreadable("reads a value that is not quantized")

    def stored_shape(self, value: Codes | Real | Pending) -> tuple[int, ...]:
        """Shape of a value as it is stored, channels first and without N, codes or reals."""
        return value.shape if isinstance(value, Pending) else self.build.tensors[value.tensor].shape

    def moved(self, value: Codes | Real | Pending, move: Move) -> Codes | Real | Pending:
        """``value`` after ``move``, or with it still to be made where its grid is not known yet."""
        if isinstance(value, Pending):
            return replace(value, shape=move.shape, then=(*value.then, move))
        return replace(value, tensor=self.build.moved(value.tensor, move))


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """The attributes of ``node``."""
    from onnx import helper

    return Attributes({a.name: helper.get_attribute_value(a) for a in node.attribute})


def title(node: onnx.NodeProto) -> str:
    """The name a layer is known by afterwards."""
    return str(node.name or node.output[0])
