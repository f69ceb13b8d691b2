"""A GPU made of host memory, and a TensorRT engine on it that computes a sum.

They have the names that the runtime and its memory are documented with. What is queued on a stream
is done only when it is waited for.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from qadtr_edge.export import trt_engine, trt_runtime

from qadtr_edge import provenance
from qadtr_edge.errors import EngineFailed

MEMORY: dict[int, NDArray[np.uint8]] = {}
"""Device memory by the address it begins at."""
APART = 1 << 32
"""Every allocation begins at a multiple of this."""


def at(address: int) -> NDArray[np.uint8]:
    """The memory from an address to the end of its allocation."""
    return MEMORY[address // APART * APART][address % APART :]


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorRT and its GPU are those of this file; a plan is a text: batch, smallest, input type.

    Afterwards nothing may be left open.
    """
    MEMORY.clear()
    HostStream.made, HostGraph.made, HostStream.moved_bytes = [], [], 0
    HostDevice.open_ones, Context.shown = 0, []
    stand_in = SimpleNamespace(
        __name__="tensorrt", __version__="10.3.0", nptype=np.dtype,
        TensorIOMode=SimpleNamespace(INPUT="in"), LayerInformationFormat=SimpleNamespace(JSON=1),
    )  # fmt: skip

    def deserialized(trt: object, content: bytes, *, path: Path, log: object) -> Engine:
        batch, smallest, kind = content.decode().split()
        return Engine(int(batch), int(smallest), kind)

    monkeypatch.setattr(trt_runtime, "runtime", lambda: stand_in)
    monkeypatch.setattr(trt_runtime, "log_of", lambda trt: SimpleNamespace(warnings=[], errors=[]))
    monkeypatch.setattr(trt_runtime, "deserialized", deserialized)
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(trt_engine, "open_device", HostDevice)
    yield
    assert HostDevice.open_ones == 0, "a device was left open"
    assert not any(graph.is_open for graph in HostGraph.made), "a graph was left open"


class HostMark:
    """When the stream came past: in a time where a copy takes 100 ms, and an image 1 ms."""

    at_ms = -1.0

    def milliseconds_since(self, earlier: HostMark) -> float:
        assert min(self.at_ms, earlier.at_ms) >= 0, "read before it was waited for"
        return self.at_ms - earlier.at_ms


class HostGraph:
    """Work that is queued again when it is launched."""

    made: list[HostGraph]

    def __init__(self, stream: HostStream, work: list[tuple[str, object, object]]) -> None:
        self.stream, self.work, self.launches, self.is_open = stream, work, 0, True
        HostGraph.made.append(self)

    def launch(self) -> None:
        assert self.is_open
        self.launches += 1
        self.stream.queue += self.work

    def close(self) -> None:
        self.is_open = False


class HostStream:
    """Work is queued, and done only when waited for: an answer read too early is wrong."""

    made: list[HostStream]
    moved_bytes: int
    """Copied in by all streams."""
    refusal = ""
    graphs_are_wrong = False

    def __init__(self) -> None:
        self.handle = len(HostStream.made)
        self.queue: list[tuple[str, object, object]] = []
        self.now_ms = 0.0
        HostStream.made.append(self)

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None:
        self.queue.append(("in", address, host))

    def copy_out(self, host: NDArray[np.generic], address: int) -> None:
        self.queue.append(("out", host, address))

    def capture(self, queue: Callable[[], None]) -> HostGraph:
        assert not self.queue, "captured while work is under way"
        queue()
        work, self.queue = self.queue, []
        if HostStream.refusal:
            raise EngineFailed(HostStream.refusal, "Run without CUDA graphs.")
        if HostStream.graphs_are_wrong:
            work = [each for each in work if each[0] != "run"]
        return HostGraph(self, work)

    def mark(self) -> HostMark:
        made = HostMark()
        self.queue.append(("mark", made, None))
        return made

    def wait(self) -> None:
        for kind, to, source in self.queue:
            if kind == "mark":
                to.at_ms = self.now_ms  # type: ignore[attr-defined]
            elif kind == "in":
                self.now_ms += 100
                data = source.tobytes()  # type: ignore[attr-defined]
                at(to)[: len(data)] = np.frombuffer(data, np.uint8)  # type: ignore[arg-type]
                HostStream.moved_bytes += len(data)
            elif kind == "kernel":
                source()  # type: ignore[operator]
            elif kind == "run":
                self.now_ms += source()  # type: ignore[operator]
            else:
                self.now_ms += 100
                raw = to.view(np.uint8).reshape(-1)  # type: ignore[attr-defined]
                raw[:] = at(source)[: raw.size]  # type: ignore[arg-type]
        self.queue = []


class Layout(ctypes.Structure):
    """What kernels are given by value."""

    _fields_ = [("numbers", ctypes.c_int32 * 10)]


class HostFunction:
    """A kernel whose source is compiled for this CPU: ``content`` is the path of its library."""

    calls = 0

    def __init__(self, content: bytes, name: str) -> None:
        self._function = getattr(ctypes.CDLL(content.decode()), f"{name}_host")

    def __call__(
        self, layout: NDArray[np.int32], addresses: list[int], *, blocks: int, threads: int,
        stream: HostStream,
    ) -> None:  # fmt: skip
        count, height, width = (int(side) for side in layout[:3])
        assert 0 <= blocks * threads - count * height * width < threads
        given = Layout((ctypes.c_int32 * 10)(*layout.tolist()))
        pointers = [ctypes.c_void_p(at(address).ctypes.data) for address in addresses]
        stream.queue.append(("kernel", None, lambda: self._function(given, *pointers)))
        HostFunction.calls += 1


class HostDevice:
    """Counts what is open, so that a leak is seen."""

    open_ones = 0
    largest_bytes = 1 << 30

    def __init__(self) -> None:
        self.facts = {"gpu": "host memory", "compute_capability": "8.6"}
        HostDevice.open_ones += 1

    def allocate(self, size_bytes: int) -> int:
        if size_bytes > HostDevice.largest_bytes:
            raise EngineFailed(f"{size_bytes} bytes do not fit its memory.", "Use another GPU.")
        address = (len(MEMORY) + 1) * APART
        MEMORY[address] = np.full(size_bytes, 0xAA, np.uint8)
        return address

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]:
        return np.full(shape, 77, kind)

    def stream(self) -> HostStream:
        return HostStream()

    def close(self) -> None:
        HostDevice.open_ones -= 1


class HostKernelDevice(HostDevice):
    """One that loads kernels, as the one through PyCUDA does."""

    def function(self, content: bytes, name: str) -> HostFunction:
        return HostFunction(content, name)


class Context:
    """Sums the codes of each image, and their first code: (N, 2) float32.

    ``shown``: the codes of every call, however it came to them.
    """

    shown: list[NDArray[np.int8]]

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return 1 <= shape[0] <= 4

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shape

        def compute() -> float:
            count = int(np.prod(shape))
            codes = at(self.at["images"])[:count].view(np.int8).reshape(shape)
            Context.shown.append(codes.copy())
            flat = codes.reshape(shape[0], -1).astype(np.float32)
            made = np.stack([flat.sum(1), flat[:, 0]], 1)
            at(self.at["logits"])[: made.nbytes] = np.frombuffer(made.tobytes(), np.uint8)
            return shape[0]

        HostStream.made[stream].queue.append(("run", None, compute))
        return True


class Engine:
    """What a deserialized engine answers."""

    num_io_tensors = 2

    def __init__(self, batch: int, smallest: int, kind: str) -> None:
        self.batch, self.smallest, self.kind = batch, smallest, kind

    def get_tensor_name(self, index: int) -> str:
        return ("logits", "images")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return self.kind if name == "images" else "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, 3, 8, 8) if name == "images" else (self.batch, 2)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(size, 3, 8, 8) for size in (self.smallest, 4, 4)]

    def create_execution_context(self) -> Context:
        return Context()

    def create_engine_inspector(self) -> SimpleNamespace:
        layer = {
            "Name": "head", "LayerType": "gemm", "Inputs": [{"DataType": "Int8"}],
            "Outputs": [{"DataType": "Float"}],
        }  # fmt: skip
        told = json.dumps({"Layers": [layer], "I/O Tensors": []})
        return SimpleNamespace(get_engine_information=lambda form: told)
