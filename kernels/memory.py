"""Device memory, streams and transfers for an engine, with no torch in the process.

PyCUDA comes first; cuda-python serves where PyCUDA is absent. Both use the device's primary
context, so that a runtime built on CUDA's own runtime library finds the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qadtr_edge.errors import EngineFailed, MissingDependency


class Stream(Protocol):
    """An ordered queue of copies and kernels. Copies want page-locked host arrays."""

    @property
    def handle(self) -> int:
        """The driver's own handle, as runtimes take it."""
        ...

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None: ...

    def copy_out(self, host: NDArray[np.generic], address: int) -> None: ...

    def capture(self, queue: Callable[[], None]) -> Graph:
        """A graph of what ``queue`` queues here, none of which runs yet.

        Raises ``EngineFailed`` where that cannot be captured.
        """
        ...

    def mark(self) -> Mark:
        """An event behind everything queued so far."""
        ...

    def wait(self) -> None:
        """Returns when everything queued is done."""
        ...


class Graph(Protocol):
    """Work of one stream that is launched as one; to be closed before its device."""

    def launch(self) -> None:
        """Queues all of it again, on the stream it was captured from."""
        ...

    def close(self) -> None: ...


class Mark(Protocol):
    """A point of a stream, in time."""

    def milliseconds_since(self, earlier: Mark) -> float: ...


class Device(Protocol):
    """One GPU, chosen when it was opened. ``facts``: name, compute capability, driver."""

    facts: dict[str, str]

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory, freed by ``close``."""
        ...

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]:
        """A page-locked host array."""
        ...

    def stream(self) -> Stream: ...

    def close(self) -> None: ...


class Function(Protocol):
    """One kernel, loaded."""

    def __call__(
        self, layout: NDArray[np.int32], addresses: list[int], *, blocks: int, threads: int,
        stream: Stream,
    ) -> None:  # fmt: skip
        """Queues the kernel: ``layout`` is passed by value, then each address."""
        ...


@runtime_checkable
class Loading(Protocol):
    """A device that loads kernels of our own, as the one through PyCUDA does."""

    def function(self, content: bytes, name: str) -> Function:
        """The kernel ``name`` of a cubin. Raises ``EngineFailed`` where it does not load."""
        ...


def open_device(index: int = 0) -> Device:
    """GPU number ``index`` through PyCUDA, or cuda-python where PyCUDA is not installed.

    Raises ``MissingDependency`` where neither is, ``EngineFailed`` where there is no usable GPU.
    """
    if find_spec("pycuda") is not None:
        from .memory_pycuda import PyCudaDevice

        with_driver = driver("pycuda.driver")
        return PyCudaDevice(with_driver, index)
    if find_spec("cuda") is not None and find_spec("cuda.bindings") is not None:
        from .memory_bindings import BindingsDevice

        return BindingsDevice(driver("cuda.bindings.runtime"), index)
    raise MissingDependency("pycuda", "cuda", purpose="Running on an NVIDIA GPU")


def driver(module: str) -> ModuleType:
    """A CUDA module, imported now: it may need the driver's library to be there at all."""
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise no_gpu(str(error)) from error


def no_gpu(reason: str) -> EngineFailed:
    """What is said where CUDA answers with an error instead of a device."""
    return EngineFailed(
        f"CUDA gives no usable GPU here: {reason.strip().splitlines()[0][:200]}.",
        "Use a machine with an NVIDIA GPU and a driver that fits its CUDA version.",
    )
