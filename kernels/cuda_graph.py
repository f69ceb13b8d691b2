"""CUDA graphs by the driver's own calls: what a stream was given once, launched again as one.

PyCUDA has no such calls, and both owners of memory hand out the driver's stream handles, so the
driver's library is asked directly, whoever made the stream.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol, cast

from qadtr_edge.errors import EngineFailed

THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls of other threads do not disturb a capture."""


class Driver(Protocol):
    """The calls that are used of ``libcuda``; each answers 0 or an error number."""

    cuStreamBeginCapture_v2: Callable[..., int]
    cuStreamEndCapture: Callable[..., int]
    cuGraphInstantiateWithFlags: Callable[..., int]
    cuGraphLaunch: Callable[..., int]
    cuGraphDestroy: Callable[..., int]
    cuGraphExecDestroy: Callable[..., int]
    cuGetErrorName: Callable[..., int]


def library() -> Driver:
    """``libcuda`` of the driver. Raises ``EngineFailed`` where there is none."""
    try:
        return cast(Driver, ctypes.CDLL("libcuda.so.1"))
    except OSError as error:
        raise EngineFailed(
            f"The CUDA driver's library does not load: {error}.", "Install an NVIDIA driver."
        ) from error


class CudaGraph:
    """Work captured from one stream; ``launch`` queues all of it there again."""

    def __init__(self, driver: Driver, stream: int, queue: Callable[[], None]) -> None:
        """Captures what ``queue`` queues on ``stream``, which runs none of it yet.

        Raises ``EngineFailed``, with the driver's word for it, where it cannot be captured.
        """
        self._driver, self._stream = driver, ctypes.c_void_p(stream)
        self._made = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._check(driver.cuStreamBeginCapture_v2(self._stream, THREAD_LOCAL), "begin a capture")
        try:
            queue()
        finally:  # a stream left in capture takes no other work
            ended = driver.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        self._check(ended, "end a capture")
        try:
            made = driver.cuGraphInstantiateWithFlags(
                ctypes.byref(self._made), graph, ctypes.c_ulonglong(0)
            )
            self._check(made, "instantiate a graph")
        finally:
            driver.cuGraphDestroy(graph)

    def launch(self) -> None:
        self._check(self._driver.cuGraphLaunch(self._made, self._stream), "launch a graph")

    def close(self) -> None:
        if self._made:
            self._driver.cuGraphExecDestroy(self._made)
            self._made = ctypes.c_void_p()

    def _check(self, error: int, what: str) -> None:
        if error:
            name = ctypes.c_char_p()
            self._driver.cuGetErrorName(error, ctypes.byref(name))
            told = (name.value or b"error %d" % error).decode()
            raise EngineFailed(f"CUDA does not {what}: {told}.", "Run without CUDA graphs.")
