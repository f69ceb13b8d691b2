"""One batch of a TensorRT engine under way: a context with its own buffers and stream.

The second batch of one size in a row runs twice: as single launches, and as a CUDA graph of them.
Equal answers, and the graph is launched from then on; anything else is told and never tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Graph(Protocol):
    """What is used of ``kernels.memory.Graph``."""

    def launch(self) -> None: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """What is used of ``kernels.memory.Stream``."""

    @property
    def handle(self) -> int: ...

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None: ...

    def copy_out(self, host: NDArray[np.generic], address: int) -> None: ...

    def capture(self, queue: Callable[[], None]) -> Graph: ...

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
    """One context with its buffers and stream; at most one batch under way.

    ``refusal``: why no CUDA graph is launched; ``None`` where none was refused.
    """

    def __init__(
        self, engine: tensorrt.ICudaEngine, device: Device, *, image: Tensor,
        answers: Sequence[Tensor], batch: int, refusal: str | None = None,
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
        self.refusal = refusal
        self._call = (0, True)  # images, and whether they come from the host
        self._graph: Graph | None = None

    def start(self, images: Pixels, *, size: int) -> None:
        """Queues ``images``, filled up with blank ones to ``size``, and their answers."""
        is_again = self._settled(size, from_host=True)
        self._fill(images, size=size)
        self._begin(is_again)

    def start_filled(self, fill: Callable[[int, Stream], None], *, size: int) -> None:
        """Queues what ``fill`` queues to write ``size`` images at an address, and their answers."""
        is_again = self._settled(size, from_host=False)
        fill(self._fed_at, self._stream)
        self._begin(is_again)

    def _begin(self, is_again: bool) -> None:
        if self._graph is not None:
            self._graph.launch()
            return
        self._all()
        if is_again and self.refusal is None:
            self._graph = self._learnt()

    def close(self) -> None:
        """Lets go of the graph, which must go before the memory it copies from."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _all(self) -> None:
        """Queues what one call takes, from the host's images, if any, to the host's answers."""
        size, from_host = self._call
        if from_host:
            self._stream.copy_in(self._fed_at, self._fed[:size])
        self._execute()
        for name, host in self.answers.items():
            self._stream.copy_out(host[:size], self._answers_at[name])

    def _learnt(self) -> Graph | None:
        """The graph of a call, once it has given the answers of the call under way; else a refusal.

        The call before it had the same shapes: TensorRT settles them outside a capture.
        """
        self.wait()
        size, _ = self._call
        wanted = {name: host[:size].copy() for name, host in self.answers.items()}
        try:
            graph = self._stream.capture(self._all)
        except EngineFailed as error:
            self.refusal = error.fact
            return None
        for name, host in self.answers.items():  # no answer may be left from the call before
            host[:size] = 0
            self._stream.copy_in(self._answers_at[name], host[:size])
        graph.launch()
        self.wait()
        if all(np.array_equal(self.answers[name][:size], wanted[name]) for name in wanted):
            return graph
        graph.close()
        self.refusal = "A CUDA graph gave other answers than the launches it was made of."
        for name, host in wanted.items():
            self.answers[name][:size] = host
        return None

    def device_ms(self, images: Pixels, *, size: int) -> float:
        """Milliseconds between two events of the stream, one on either side of the execution."""
        self._settled(size, from_host=True)
        self._fill(images, size=size)
        self._stream.copy_in(self._fed_at, self._fed[:size])
        begun = self._stream.mark()
        self._execute()
        ended = self._stream.mark()
        self._stream.wait()
        return ended.milliseconds_since(begun)

    def _settled(self, size: int, *, from_host: bool) -> bool:
        """Gives the context its batch; whether the last call was like this. A graph is of one."""
        if (size, from_host) == self._call:
            return True
        self.close()
        if not self._context.set_input_shape(self._image.name, (size, *self._image.shape)):
            raise EngineFailed(f"The engine refuses {size} images.", "Build it for that batch.")
        self._call = (size, from_host)
        return False

    def _fill(self, images: Pixels, *, size: int) -> None:
        fed = self._fed[:size]
        codes = fed.view(np.uint8)
        if self._image.kind == np.int8:
            np.bitwise_xor(images, np.uint8(INPUT_ZERO_POINT), out=codes[: len(images)])
        else:
            codes[: len(images)] = images
        fed[len(images) :] = 0

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineFailed("TensorRT failed to run the engine.", "Build it again on this GPU.")

    def wait(self) -> None:
        self._stream.wait()

    def abandon(self) -> None:
        """Waits for what is under way, and forgets it."""
        self.wait()
        self.busy = None
