"""The runtime's own part, on a device made of host memory: batches, padding, order, closing.

The stand-in has the names the runtime is documented with, and computes a sum; what a GPU does with
them is tested in tests/device.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from qadtr_edge.export import trt_engine, trt_runtime

import handmade
from qadtr_edge import provenance, timing
from qadtr_edge.errors import BadInput, EngineFailed

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


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that the stand-in takes for a plan: its text says the batch and the input type."""
    MEMORY.clear()
    HostStream.made, HostGraph.made = [], []
    HostDevice.open_ones = 0
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
    yield tmp_path / "model.engine"
    assert HostDevice.open_ones == 0, "a device was left open"
    assert not any(graph.is_open for graph in HostGraph.made), "a graph was left open"


def wanted(images: NDArray[np.uint8], zero: int) -> NDArray[np.float32]:
    codes = images.reshape(len(images), 3 * 8 * 8).astype(np.float32) - zero
    return np.stack([codes.sum(1), codes[:, 0]], 1)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 13])
@pytest.mark.parametrize(
    "text", ["-1 1 int8", "-1 2 int8", "4 0 int8"], ids=["dynamic", "at least 2", "fixed"]
)
def test_every_image_has_its_own_answer(text: str, count: int, plan: Path) -> None:
    plan.write_text(text)
    images = handmade.images(count + 1)[:count]
    with trt_engine.TrtEngine(plan) as engine:
        for _ in range(2):  # buffers hold the batch before
            np.testing.assert_array_equal(engine(images), wanted(images, 128))


def test_two_batches_are_under_way_at_once(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    images = handmade.images(16)
    with trt_engine.TrtEngine(plan) as engine:
        engine(images)
    assert len(HostStream.made) == trt_engine.SLOTS == 2


@pytest.mark.parametrize(("count", "computed_ms"), [(1, 2), (3, 3), (4, 4), (9, 4 + 4 + 2)])
def test_the_device_is_timed_without_the_copies(count: int, computed_ms: float, plan: Path) -> None:
    """In parts of at most four images, and at least two; afterwards the engine answers as ever."""
    plan.write_text("-1 2 int8")
    images = handmade.images(count)
    with trt_engine.TrtEngine(plan) as engine:
        assert isinstance(engine, timing.DeviceTimed)
        engine(images)
        assert engine.device_ms(images) == computed_ms
        np.testing.assert_array_equal(engine(images), wanted(images, 128))
    with pytest.raises(EngineFailed, match="closed"):
        engine.device_ms(images)


def test_the_engine_beside_the_onnx_file_is_opened_and_observed(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan.parent / "model.onnx") as engine:
        facts = engine.facts
    assert (facts.engine, facts.precision, facts.integer_kernels) == ("trt", "integer", 1)
    assert facts.runtime == "tensorrt 10.3.0"
    assert facts.device["gpu"] == "host memory"
    assert "no facts file describes this file" in facts.notes


def test_other_images_and_a_closed_engine_are_sentences(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    engine = trt_engine.TrtEngine(plan)
    with engine, pytest.raises(BadInput, match=r"uint8 images \(N, 3, 8, 8\)"):
        engine(np.zeros((1, 3, 9, 8), np.uint8))
    with pytest.raises(EngineFailed, match="closed"):
        engine(handmade.images(1))
    engine.close()


def test_an_engine_of_another_input_is_a_sentence(plan: Path) -> None:
    plan.write_text("-1 1 float32")
    with pytest.raises(BadInput, match="does not take 8-bit images"):
        trt_engine.TrtEngine(plan)


def test_a_batch_that_the_engine_refuses_is_a_sentence(plan: Path) -> None:
    plan.write_text("5 0 int8")
    with (
        trt_engine.TrtEngine(plan) as engine,
        pytest.raises(EngineFailed, match="refuses 5 images"),
    ):
        engine(handmade.images(1))


def answers_hold(engine: trt_engine.TrtEngine, counts: list[int]) -> None:
    for seed, count in enumerate(counts):
        images = handmade.images(count, seed=seed)
        np.testing.assert_array_equal(engine(images), wanted(images, 128))


def test_the_second_batch_of_a_size_is_captured_and_later_ones_are_launched(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [3])
        assert not HostGraph.made  # TensorRT settles the shapes outside a capture
        answers_hold(engine, [3])
        [graph] = HostGraph.made
        assert graph.launches == 1
        assert [kind for kind, *_ in graph.work] == ["in", "run", "out"]
        answers_hold(engine, [3, 3, 3])
        assert graph.launches == 4
        assert not any("one by one" in note for note in engine.facts.notes)


def test_another_size_lets_go_of_the_graph(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [3, 3, 2])
        assert [graph.is_open for graph in HostGraph.made] == [False]
        answers_hold(engine, [3, 2, 3, 2])
        assert len(HostGraph.made) == 1  # sizes that take turns are not worth a graph
        answers_hold(engine, [2, 2])
        assert [graph.is_open for graph in HostGraph.made] == [False, True]


def test_both_slots_launch_their_own(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [24])
        assert [(graph.stream.handle, graph.launches) for graph in HostGraph.made] == [
            (0, 2), (1, 2)
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("refusal", "wrong", "told"),
    [
        ("CUDA does not end a capture: X.", False, "one by one: CUDA does not end a capture: X"),
        ("", True, "one by one: A CUDA graph gave other answers than"),
    ],
)
def test_what_cannot_be_a_graph_is_told_and_not_tried_again(
    refusal: str, wrong: bool, told: str, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostStream, "refusal", refusal)
    monkeypatch.setattr(HostStream, "graphs_are_wrong", wrong)
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [3, 3, 3, 3, 3])
        assert len(HostGraph.made) == int(wrong)
        assert sum(told in note for note in engine.facts.notes) == 1


def test_launches_one_by_one_can_be_asked_for(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan, launch="one by one") as engine:
        answers_hold(engine, [3, 3, 3])
        assert not HostGraph.made
        assert "launched one by one: as asked" in engine.facts.notes
