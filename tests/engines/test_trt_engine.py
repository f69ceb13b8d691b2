"""The runtime's own part, on a device made of host memory: batches, padding, order, closing.

The stand-in has the names the runtime is documented with, and computes a sum; what a GPU does with
them is tested in tests/device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qadtr_edge.export import trt_engine

import handmade
import host_gpu
from qadtr_edge import timing
from qadtr_edge.errors import BadInput, EngineFailed


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that the stand-in takes for a plan."""
    with host_gpu.installed(monkeypatch):
        yield tmp_path / "model.engine"


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
    assert len(host_gpu.HostStream.made) == trt_engine.SLOTS == 2


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
        assert not host_gpu.HostGraph.made  # TensorRT settles the shapes outside a capture
        answers_hold(engine, [3])
        [graph] = host_gpu.HostGraph.made
        assert graph.launches == 1
        assert [kind for kind, *_ in graph.work] == ["in", "run", "out"]
        answers_hold(engine, [3, 3, 3])
        assert graph.launches == 4
        assert not any("one by one" in note for note in engine.facts.notes)


def test_another_size_lets_go_of_the_graph(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [3, 3, 2])
        assert [graph.is_open for graph in host_gpu.HostGraph.made] == [False]
        answers_hold(engine, [3, 2, 3, 2])
        assert len(host_gpu.HostGraph.made) == 1  # sizes that take turns are not worth a graph
        answers_hold(engine, [2, 2])
        assert [graph.is_open for graph in host_gpu.HostGraph.made] == [False, True]


def test_both_slots_launch_their_own(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [24])
        assert [(graph.stream.handle, graph.launches) for graph in host_gpu.HostGraph.made] == [
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
    monkeypatch.setattr(host_gpu.HostStream, "refusal", refusal)
    monkeypatch.setattr(host_gpu.HostStream, "graphs_are_wrong", wrong)
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan) as engine:
        answers_hold(engine, [3, 3, 3, 3, 3])
        assert len(host_gpu.HostGraph.made) == int(wrong)
        assert sum(told in note for note in engine.facts.notes) == 1


def test_launches_one_by_one_can_be_asked_for(plan: Path) -> None:
    plan.write_text("-1 1 int8")
    with trt_engine.TrtEngine(plan, launch="one by one") as engine:
        answers_hold(engine, [3, 3, 3])
        assert not host_gpu.HostGraph.made
        assert "launched one by one: as asked" in engine.facts.notes
