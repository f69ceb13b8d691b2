"""One batch of a TensorRT engine under way: a context with its own buffers and stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qadtr_edge.errors import EngineFailed
from qadtr_edge.types import Pixels

from .trt_form import INPUT_ZERO_POINT

if TYPE_CHECKING:
    import tensorrt


class Mark(Protocol):
    """What is used of ``kernels.memory.Mark``."""

    def milliseconds_since(self, earlier: Mark) -> float: ...


class Stream(Protocol):
    """What is used of ``kernels.memory.Stream``."""

    @property
    def handle(self) -> int: ...

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None: ...

    def copy_out(self, host: NDArray[np.generic], address: int) -> None: ...

    def mark(self) -> Mark: ...

    def wait(self) -> None: ...


class Device(Protocol):
    """What is used of ``kernels.memory.Device``."""

    facts: dict[str, str]

    def allocate(self, size_bytes: int) -> int: ...

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]: ...

    def stream(self) -> Stream: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tensor:
    """One input or output of an engine. ``shape`` leaves out N."""

    name: str
    shape: tuple[int, ...]
    kind: np.dtype[np.generic]

    def size_bytes(self, batch: int) -> int:
        return batch * int(np.prod(self.shape)) * self.kind.itemsize


class Slot:
    """One context with its buffers and stream; at most one batch under way."""

    def __init__(
        self, engine: tensorrt.ICudaEngine, device: Device, *, image: Tensor,
        answers: Sequence[Tensor], batch: int,
    ) -> None:  # fmt: skip
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineFailed("The GPU has no memory left for the engine.", "Use a smaller batch.")
        self._image = image
        self._stream = device.stream()
        self._fed = device.pinned((batch, *image.shape), image.kind)
        self._fed_at = device.allocate(image.size_bytes(batch))
        self._context.set_tensor_address(image.name, self._fed_at)
        self.answers: dict[str, NDArray[np.generic]] = {}
        self._answers_at: dict[str, int] = {}
        for tensor in answers:
            self.answers[tensor.name] = device.pinned((batch, *tensor.shape), tensor.kind)
            self._answers_at[tensor.name] = device.allocate(tensor.size_bytes(batch))
            self._context.set_tensor_address(tensor.name, self._answers_at[tensor.name])
        self.busy: slice | None = None

    def start(self, images: Pixels, *, size: int) -> None:
        """Queues ``images``, filled up with blank ones to ``size``, and their answers."""
        self._feed(images, size=size)
        self._execute()
        for name, host in self.answers.items():
            self._stream.copy_out(host[:size], self._answers_at[name])

    def device_ms(self, images: Pixels, *, size: int) -> float:
        """Milliseconds between two events of the stream, one on either side of the execution."""
        self._feed(images, size=size)
        begun = self._stream.mark()
        self._execute()
        ended = self._stream.mark()
        self._stream.wait()
        return ended.milliseconds_since(begun)

    def _feed(self, images: Pixels, *, size: int) -> None:
        fed = self._fed[:size]
        codes = fed.view(np.uint8)
        if self._image.kind == np.int8:
            np.bitwise_xor(images, np.uint8(INPUT_ZERO_POINT), out=codes[: len(images)])
        else:
            codes[: len(images)] = images
        fed[len(images) :] = 0
        if not self._context.set_input_shape(self._image.name, (size, *self._image.shape)):
            raise EngineFailed(f"The engine refuses {size} images.", "Build it for that batch.")
        self._stream.copy_in(self._fed_at, fed)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineFailed("TensorRT failed to run the engine.", "Build it again on this GPU.")

    def wait(self) -> None:
        self._stream.wait()
