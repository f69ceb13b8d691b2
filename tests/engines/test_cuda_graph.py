"""CUDA graphs by a driver of our own making: the calls, their order, and what a refusal leaves."""

from __future__ import annotations

import ctypes

import pytest
from qadtr_edge.kernels import cuda_graph
from qadtr_edge.kernels.cuda_graph import CudaGraph

from qadtr_edge.errors import EngineFailed

STREAM = 77


class Driver:
    """Answers 0, or 901 to the one call that is to fail; writes down what it was asked."""

    def __init__(self, *, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[str] = []

    def _answer(self, name: str) -> int:
        self.calls.append(name)
        return 901 if name == self.failing else 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:
        assert (stream.value, mode) == (STREAM, cuda_graph.THREAD_LOCAL)
        return self._answer("begin")

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: object) -> int:
        graph._obj.value = 5  # type: ignore[attr-defined]
        return self._answer("end")

    def cuGraphInstantiateWithFlags(
        self, made: object, graph: ctypes.c_void_p, flags: ctypes.c_ulonglong
    ) -> int:
        assert (graph.value, flags.value) == (5, 0)
        made._obj.value = 6  # type: ignore[attr-defined]
        return self._answer("instantiate")

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        assert graph.value == 5
        return self._answer("destroy graph")

    def cuGraphLaunch(self, made: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        assert (made.value, stream.value) == (6, STREAM)
        return self._answer("launch")

    def cuGraphExecDestroy(self, made: ctypes.c_void_p) -> int:
        assert made.value == 6
        return self._answer("destroy")

    def cuGetErrorName(self, error: int, name: object) -> int:
        name._obj.value = b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"  # type: ignore[attr-defined]
        return 0


def test_the_order_of_the_calls() -> None:
    driver = Driver()
    graph = CudaGraph(driver, STREAM, lambda: driver.calls.append("work"))
    assert driver.calls == ["begin", "work", "end", "instantiate", "destroy graph"]
    graph.launch()
    graph.launch()
    graph.close()
    graph.close()
    assert driver.calls[5:] == ["launch", "launch", "destroy"]


@pytest.mark.parametrize(
    ("failing", "calls"),
    [
        ("begin", ["begin"]),
        ("end", ["begin", "work", "end"]),
        ("instantiate", ["begin", "work", "end", "instantiate", "destroy graph"]),
    ],
)
def test_a_refusal_is_the_drivers_word_and_leaves_nothing(failing: str, calls: list[str]) -> None:
    driver = Driver(failing=failing)
    with pytest.raises(EngineFailed, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        CudaGraph(driver, STREAM, lambda: driver.calls.append("work"))
    assert driver.calls == calls


def test_work_that_fails_ends_the_capture() -> None:
    driver = Driver()

    def fail() -> None:
        raise EngineFailed("TensorRT failed to run the engine.", "Build it again.")

    with pytest.raises(EngineFailed, match="TensorRT failed"):
        CudaGraph(driver, STREAM, fail)
    assert driver.calls == ["begin", "end"]


def test_a_launch_that_fails_is_a_sentence() -> None:
    driver = Driver(failing="launch")
    graph = CudaGraph(driver, STREAM, lambda: None)
    with pytest.raises(EngineFailed, match="does not launch a graph"):
        graph.launch()


def test_without_a_driver_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(EngineFailed, match="does not load"):
        cuda_graph.library()
