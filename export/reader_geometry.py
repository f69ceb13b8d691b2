"""The attributes of an ONNX node, and what they say of windows: stride, padding, dilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .reader_values import Unreadable

Padding = tuple[int, int, int, int]


class Geometry:
    """Stride, padding, dilation and groups, from a node's attributes.

    ``before``: zeros that the file puts around the image first; ``padding`` holds them too.
    """

    def __init__(self, attributes: Attributes, *, before: Padding | None = None) -> None:
        self._before = before or (0, 0, 0, 0)
        self.stride = attributes.pair("strides")
        self.dilation = attributes.pair("dilations")
        self.groups = attributes.whole("group", 1)
        self._auto = attributes.word("auto_pad", "NOTSET")
        self._pads = attributes.whole_numbers("pads", (0, 0, 0, 0))
        values = (*self.stride, *self.dilation, self.groups)
        if len(self._pads) != 4 or min(values) < 1 or min(self._pads) < 0:
            raise Unreadable("has a stride, padding or dilation that makes no sense")
        if self._auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
            raise Unreadable(f"has auto_pad {self._auto!r}")

    def padding(self, size: Sequence[int], kernel: Sequence[int]) -> Padding:
        """Top, left, bottom, right."""
        pads = self._pads
        size = [extent + self._before[i] + self._before[i + 2] for i, extent in enumerate(size)]
        if self._auto == "VALID":
            pads = (0, 0, 0, 0)
        elif self._auto.startswith("SAME"):
            totals = [
                max((-(-extent // step) - 1) * step + (taps - 1) * pace + 1 - extent, 0)
                for extent, taps, step, pace in zip(
                    size, kernel, self.stride, self.dilation, strict=True
                )
            ]
            less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
            first, last = (less, more) if self._auto == "SAME_UPPER" else (more, less)
            pads = (*first, *last)
        return cast(Padding, tuple(a + b for a, b in zip(pads, self._before, strict=True)))

    def out(
        self, size: Sequence[int], kernel: Sequence[int], *, padding: Padding
    ) -> tuple[int, int]:
        """Rows and columns of the result."""
        rows, columns = (
            (extent + padding[i] + padding[i + 2] - self.dilation[i] * (kernel[i] - 1) - 1)
            // self.stride[i] + 1
            for i, extent in enumerate(size)
        )  # fmt: skip
        if rows < 1 or columns < 1:
            raise Unreadable("has a window larger than its image")
        return rows, columns


class Attributes:
    """The attributes of an ONNX node by name, each checked as it is read."""

    def __init__(self, values: dict[str, object]) -> None:
        self.values = values

    def whole(self, name: str, default: int) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int):
            raise Unreadable(f"has {name} = {value!r}")
        return value

    def real(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        if not isinstance(value, int | float):
            raise Unreadable(f"has {name} = {value!r}")
        return float(value)

    def word(self, name: str, default: str) -> str:
        value = self.values.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def whole_numbers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        value = self.values.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
            raise Unreadable(f"has {name} = {value!r}")
        return tuple(cast(Sequence[int], value))

    def pair(self, name: str, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
        found = self.whole_numbers(name, default)
        if len(found) != 2:
            raise Unreadable(f"has {name} = {found}, not two numbers")
        return found[0], found[1]
