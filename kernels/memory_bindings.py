"""Device memory through cuda-python's bindings of the CUDA runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .cuda_graph import CudaGraph, library
from .memory import Mark, no_gpu


class BindingsMark:
    """An event of a CUDA stream."""

    def __init__(self, cuda: ModuleType, event: object) -> None:
        self._cuda, self.event = cuda, event

    def __del__(self) -> None:
        self._cuda.cudaEventDestroy(self.event)

    def milliseconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, BindingsMark)
        answer(self._cuda, self._cuda.cudaEventSynchronize(self.event))
        made = answer(self._cuda, self._cuda.cudaEventElapsedTime(earlier.event, self.event))
        return float(made)  # type: ignore[arg-type]


class BindingsStream:
    """A CUDA stream."""

    def __init__(self, cuda: ModuleType) -> None:
        self._cuda = cuda
        self._stream = answer(cuda, cuda.cudaStreamCreate())

    @property
    def handle(self) -> int:
        return int(self._stream)  # type: ignore[call-overload,no-any-return]

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, host.ctypes.data, host.nbytes, kind)

    def copy_out(self, host: NDArray[np.generic], address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(host.ctypes.data, address, host.nbytes, kind)

    def _copy(self, to: int, source: int, size_bytes: int, kind: object) -> None:
        made = self._cuda.cudaMemcpyAsync(to, source, size_bytes, kind, self._stream)
        answer(self._cuda, made)

    def capture(self, queue: Callable[[], None]) -> CudaGraph:
        return CudaGraph(library(), self.handle, queue)

    def mark(self) -> BindingsMark:
        event = answer(self._cuda, self._cuda.cudaEventCreate())
        answer(self._cuda, self._cuda.cudaEventRecord(event, self._stream))
        return BindingsMark(self._cuda, event)

    def wait(self) -> None:
        answer(self._cuda, self._cuda.cudaStreamSynchronize(self._stream))


class BindingsDevice:
    """One GPU, current in this thread."""

    def __init__(self, cuda: ModuleType, index: int) -> None:
        self._cuda = cuda
        answer(cuda, cuda.cudaSetDevice(index))
        facts = answer(cuda, cuda.cudaGetDeviceProperties(index))
        driver = answer(cuda, cuda.cudaDriverGetVersion())
        name = facts.name  # type: ignore[attr-defined]
        self.facts = {
            "gpu": name.split(b"\0")[0].decode() if isinstance(name, bytes) else str(name),
            "compute_capability": f"{facts.major}.{facts.minor}",  # type: ignore[attr-defined]
            "cuda_driver": str(driver),
            "memory_owner": "cuda-python",
        }
        self._held: list[object] = []
        self._pinned: list[object] = []

    def allocate(self, size_bytes: int) -> int:
        made = answer(self._cuda, self._cuda.cudaMalloc(max(size_bytes, 1)))
        self._held.append(made)
        return int(made)  # type: ignore[call-overload,no-any-return]

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]:
        size_bytes = int(np.prod(shape)) * np.dtype(kind).itemsize
        made = answer(self._cuda, self._cuda.cudaMallocHost(max(size_bytes, 1)))
        self._pinned.append(made)
        bytes_of = (ctypes.c_byte * max(size_bytes, 1)).from_address(int(made))  # type: ignore[call-overload]
        return np.ndarray(shape, np.dtype(kind), buffer=memoryview(bytes_of))

    def stream(self) -> BindingsStream:
        return BindingsStream(self._cuda)

    def close(self) -> None:
        for allocation in self._held:
            answer(self._cuda, self._cuda.cudaFree(allocation))
        for allocation in self._pinned:
            answer(self._cuda, self._cuda.cudaFreeHost(allocation))
        self._held, self._pinned = [], []


def answer(cuda: ModuleType, made: tuple[object, ...]) -> object:
    """The value of a call, which answers ``(error,)`` or ``(error, value)``."""
    error, *rest = made
    if error != cuda.cudaError_t.cudaSuccess:
        raise no_gpu(f"{error!s}")
    return rest[0] if rest else None
