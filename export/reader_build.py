"""The integer graph under construction while an ONNX file is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import Float32, Node, Tensor

from .onnx_file import INPUT, OUTPUT
from .reader_bias import on_grid
from .reader_values import Codes, Image, Move, Pending, Real, Unreadable, Value

LIMITS = {
    "uint8": (0, 255), "int8": (-128, 127), "uint4": (0, 15), "int4": (-8, 7),
    "uint2": (0, 3), "int2": (-2, 1),
}  # fmt: skip
"""Containers of quantized values by NumPy's name, and what they hold."""

MOST_ELEMENTS = 2**24


def shift_of(kind: str) -> int:
    """What makes a container of this kind an unsigned byte: 128 for signed ones."""
    if kind not in LIMITS:
        raise Unreadable(f"quantizes to {kind}, not to 8 bits or fewer")
    return 0 if kind.startswith("u") else 128


class Build:
    """Nodes and tensors in order. Names are the file's, made unique; they hold no slash."""

    def __init__(self, image: tuple[int, int, int]) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {INPUT: Tensor(INPUT, image, 1.0, -128, 127, 128)}
        self.pixels: Float32 | None = None  # what the network reads of each byte of R, G, B
        self.backwards: set[str] = set()  # tensors that hold the channels as BGR
        self.notes: dict[str, None] = {}
        self._taken = {INPUT, OUTPUT}
        self._input_is_used = False

    def name(self, wanted: str) -> str:
        """``wanted`` without slashes, or with a number behind it where that is taken."""
        plain = wanted.replace("/", ".").strip(".") or "node"
        found, number = plain, 2
        while found in self._taken:
            found, number = f"{plain}_{number}", number + 1
        self._taken.add(found)
        return found

    def grid(self, name: str, shape: tuple[int, ...], *, scale: float, zero: int, kind: str
             ) -> Tensor:  # fmt: skip
        """A tensor as ``QuantizeLinear`` to a container of this kind describes it."""
        count = int(np.prod(shape, dtype=object))
        if not 0 < count <= MOST_ELEMENTS:
            raise Unreadable(f"makes {'x'.join(map(str, shape))} values")
        if not (np.isfinite(scale) and scale > 0):
            raise Unreadable(f"has the scale {scale}")
        low, high = LIMITS[kind]
        if not low <= zero <= high:
            raise Unreadable(f"has the zero point {zero}, outside {kind}")
        return Tensor(name, shape, float(scale), low - zero, high - zero, zero + shift_of(kind))

    # -- onto a grid -------------------------------------------------------------------------------

    def image(self, image: Image, *, scale: float, zero: int, kind: str, bgr: bool) -> Codes:
        """The input on its grid: the raw byte itself where it can be, else through a table."""
        shape = self.tensors[INPUT].shape
        if image.is_quantized:
            containers = image.values
        else:
            low, high = LIMITS[kind]
            rounded = np.rint(image.values / np.float32(scale)) + np.float32(zero)
            containers = np.clip(rounded, low, high)
        codes = containers.astype(np.int64) - zero
        reals = np.float32(scale) * codes.astype(np.float32) if image.is_quantized else image.values
        self.pixels = reals[::-1] if bgr else reals
        offset = np.unique(np.arange(256) - codes)
        grid = self.grid(INPUT, shape, scale=scale, zero=zero, kind=kind)
        zero_point = grid.zero_point
        if list(offset) == [zero_point] and not self._input_is_used:
            made = INPUT
            self.tensors[made] = replace(grid, low=-zero_point, high=255 - zero_point)
        else:
            made = self.name("pixels")
            rows = codes[::-1] if bgr else codes
            self.tensors[made] = replace(grid, name=made)
            self.nodes.append(g.PixelTable(made, INPUT, made, rows.astype(np.int16)))
        self._input_is_used = True
        if bgr:
            self.backwards.add(made)
        return Codes(made, shift_of(kind), image.layout == "NHWC")

    def quantized(self, value: Value, *, scale: float, zero: int, kind: str) -> Codes:
        """``value`` on a grid: the node that was waiting for it, or a requantization."""
        shift = shift_of(kind)
        if isinstance(value, Real):
            x = self.tensors[value.tensor]
            if (x.scale, x.zero_point) == (scale, zero + shift):
                low, high = LIMITS[kind]
                if low - zero <= x.low and x.high <= high - zero:
                    return Codes(x.name, shift, value.channels_last)
            if value.channels_last:
                raise Unreadable("requantizes an image with its channels last")
            value = requantized(x)
        if not isinstance(value, Pending):
            raise Unreadable("quantizes a value whose grid is not known")
        name = self.name(value.name)
        y = self.grid(name, value.shape, scale=scale, zero=zero, kind=kind)
        return Codes(self._settled(value, self._limited(y, value)), shift)

    def _limited(self, y: Tensor, value: Pending) -> Tensor:
        """``y`` with the limits of a ReLU or ReLU6 as codes: rounding keeps the order."""
        with np.errstate(over="ignore"):
            low, high = (
                np.rint(np.float32(bound) / np.float32(y.scale))
                for bound in (value.low, value.high)
            )
        codes = max(y.low, low), min(y.high, high)
        if codes[0] > codes[1]:
            raise Unreadable("leaves no value between its limits")
        return replace(y, low=int(codes[0]), high=int(codes[1]))

    def _settled(self, value: Pending, y: Tensor) -> str:
        """Appends the node that makes ``y`` from ``value``; the name of the final tensor."""
        if value.operands:
            parts = [self._operand(part, y) for part in value.operands]
            node: Node = g.Add(y.name, parts[0], parts[1], y.name)
        elif value.product is not None:
            node = value.product.make(on_grid(value.product), y.name, y.name)
        else:
            assert value.make is not None, "a pending value is made of something"
            node = value.make(y.name, y.name)
        self.nodes.append(node)
        self.tensors[y.name] = y
        made = y.name
        for move in value.then:
            made = self.moved(made, move)
        return made

    def _operand(self, value: Value, y: Tensor) -> str:
        """A part of a sum; one that is not quantized gets the grid of the sum, in 8 bits."""
        if isinstance(value, Real):
            return value.tensor
        assert isinstance(value, Pending), "a sum is of reals and pending values"
        name = self.name(value.name)
        part = Tensor(name, value.shape, y.scale, -128, 127, 128)
        self.notes[
            "parts of sums that the file leaves in float are rounded to the grid of their sum"
        ] = None
        return self._settled(value, self._limited(part, value))

    # -- what stays on its grid --------------------------------------------------------------------

    def moved(self, tensor: str, move: Move) -> str:
        """A node that moves or compares the codes of ``tensor``; the name of its output."""
        name = self.name(move.name)
        if int(np.prod(move.shape, dtype=object)) > MOST_ELEMENTS:
            raise Unreadable(f"makes {'x'.join(map(str, move.shape))} values")
        self.tensors[name] = replace(self.tensors[tensor], name=name, shape=move.shape)
        self.nodes.append(move.make(name, tensor, name))
        if tensor in self.backwards:
            self.backwards.add(name)
        return name

    def clamped(self, codes: Codes, *, low: int, high: int, name: str, alone: bool) -> Codes:
        """The containers limited to ``[low, high]``: in place where nothing else reads them."""
        x = self.tensors[codes.tensor]
        bounds = (low + codes.shift - x.zero_point, high + codes.shift - x.zero_point)
        y = replace(x, low=max(x.low, bounds[0]), high=min(x.high, bounds[1]))
        if y.low > y.high:
            raise Unreadable("leaves no value between its limits")
        if y == x:
            return codes
        if alone and x.name != INPUT and self.nodes and self.nodes[-1].y == x.name:
            self.tensors[x.name] = y
            return codes
        made = self.name(name)
        self.tensors[made] = replace(y, name=made)
        self.nodes.append(g.Requantize(made, x.name, made))
        return Codes(made, codes.shift)


def requantized(x: Tensor, *, name: str | None = None) -> Pending:
    """The values of ``x`` on their way to another grid."""
    return Pending(
        name or f"{x.name}.requantize", x.shape, lambda node, y: g.Requantize(node, x.name, y)
    )
