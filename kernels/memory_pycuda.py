"""Device memory through PyCUDA."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qadtr_edge.errors import EngineFailed

from .cuda_graph import CudaGraph, library
from .memory import Mark, Stream, no_gpu


class PyCudaMark:
    """An event of a PyCUDA stream."""

    def __init__(self, event: object) -> None:
        self.event = event

    def milliseconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, PyCudaMark)
        self.event.synchronize()  # type: ignore[attr-defined]
        return float(self.event.time_since(earlier.event))  # type: ignore[attr-defined]


class PyCudaStream:
    """A PyCUDA stream."""

    def __init__(self, cuda: ModuleType) -> None:
        self._cuda = cuda
        self.raw = cuda.Stream()

    @property
    def handle(self) -> int:
        return int(self.raw.handle)

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None:
        self._cuda.memcpy_htod_async(address, host, self.raw)

    def copy_out(self, host: NDArray[np.generic], address: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self.raw)

    def capture(self, queue: Callable[[], None]) -> CudaGraph:
        return CudaGraph(library(), self.handle, queue)

    def mark(self) -> PyCudaMark:
        event = self._cuda.Event()
        event.record(self.raw)
        return PyCudaMark(event)

    def wait(self) -> None:
        self.raw.synchronize()


class PyCudaFunction:
    """One kernel of a loaded module."""

    def __init__(self, cuda: ModuleType, content: bytes, name: str) -> None:
        self._module = cuda.module_from_buffer(content)  # goes with the last reference to it
        self._function = self._module.get_function(name)

    def __call__(
        self, layout: NDArray[np.int32], addresses: list[int], *, blocks: int, threads: int,
        stream: Stream,
    ) -> None:  # fmt: skip
        assert isinstance(stream, PyCudaStream)
        pointers = [np.uint64(address) for address in addresses]
        self._function(
            layout, *pointers, grid=(blocks, 1, 1), block=(threads, 1, 1), stream=stream.raw
        )


class PyCudaDevice:
    """One GPU and its primary context, current in this thread until ``close``."""

    def __init__(self, cuda: ModuleType, index: int) -> None:
        self._cuda = cuda
        try:
            cuda.init()
            device = cuda.Device(index)
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise no_gpu(str(error)) from error
        self._context.push()
        major, minor = device.compute_capability()
        self.facts = {
            "gpu": str(device.name()),
            "compute_capability": f"{major}.{minor}",
            "cuda_driver": str(cuda.get_driver_version()),
            "memory_owner": "pycuda",
        }
        self._held: list[object] = []

    def allocate(self, size_bytes: int) -> int:
        try:
            made = self._cuda.mem_alloc(max(size_bytes, 1))
        except self._cuda.MemoryError as error:
            raise no_gpu(f"{size_bytes} bytes do not fit its memory ({error})") from error
        self._held.append(made)
        return int(made)

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]:
        made: NDArray[np.generic] = self._cuda.pagelocked_empty(shape, kind)
        return made

    def stream(self) -> PyCudaStream:
        return PyCudaStream(self._cuda)

    def function(self, content: bytes, name: str) -> PyCudaFunction:
        try:
            return PyCudaFunction(self._cuda, content, name)
        except self._cuda.Error as error:
            raise EngineFailed(
                f"CUDA does not load the kernel {name}: {error}.", "Do without the kernel."
            ) from error

    def close(self) -> None:
        for allocation in self._held:
            allocation.free()  # type: ignore[attr-defined]
        self._held = []
        if self._context is not None:
            self._context.pop()
            self._context = None
