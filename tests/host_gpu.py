"""A GPU made of host memory, and a TensorRT engine on it that computes a sum.

They have the names that the runtime and its memory are documented with. What is queued on a stream
is done only when it is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qadtr_edge.errors import EngineFailed

MEMORY: dict[int, NDArray[np.uint8]] = {}
"""Device memory by address."""


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
                MEMORY[to][: len(data)] = np.frombuffer(data, np.uint8)  # type: ignore[index]
            elif kind == "run":
                self.now_ms += source()  # type: ignore[operator]
            else:
                self.now_ms += 100
                raw = to.view(np.uint8).reshape(-1)  # type: ignore[attr-defined]
                raw[:] = MEMORY[source][: raw.size]  # type: ignore[index]
        self.queue = []


class HostDevice:
    """Counts what is open, so that a leak is seen."""

    open_ones = 0

    def __init__(self) -> None:
        self.facts = {"gpu": "host memory"}
        HostDevice.open_ones += 1

    def allocate(self, size_bytes: int) -> int:
        address = 1000 + len(MEMORY)
        MEMORY[address] = np.full(size_bytes, 0xAA, np.uint8)
        return address

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]:
        return np.full(shape, 77, kind)

    def stream(self) -> HostStream:
        return HostStream()

    def close(self) -> None:
        HostDevice.open_ones -= 1


class Context:
    """Sums the codes of each image, and their first code: (N, 2) float32."""

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
            codes = MEMORY[self.at["images"]][:count].view(np.int8).reshape(shape)
            flat = codes.reshape(shape[0], -1).astype(np.float32)
            made = np.stack([flat.sum(1), flat[:, 0]], 1)
            MEMORY[self.at["logits"]][: made.nbytes] = np.frombuffer(made.tobytes(), np.uint8)
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
