"""On a GPU: engines load, run integers, answer as the judge does, and the paste kernel is exact.

None of this has a number written down in advance but zero: what a GPU shows is measured by
`benchmarks/gpu.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qadtr_edge.export import trt
from qadtr_edge.export.trt_engine import TrtEngine
from qadtr_edge.export.trt_options import Options

import handmade
from qadtr_edge import timing
from qadtr_edge.errors import EngineFailed
from qadtr_edge.integer import judge
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Pixels, Placements

pytestmark = pytest.mark.needs("trt", "cuda")

SMALL = Options(batch=(1, 4, 16))


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("name", ["residual", "mobile"])
def test_integers_ran(name: str, bits: int, tmp_path: Path) -> None:
    """Narrow ranges are integer Clips: whether they stay INT8 is what this shows."""
    facts = trt.build(handmade.GRAPHS[name](bits=bits), tmp_path, options=SMALL)
    assert (facts.precision, facts.float_layers) == ("integer", ())
    assert facts.integer_kernels > 0
    assert "gpu" in facts.device
    assert trt.NEVER_RUN not in facts.notes


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_strict_scales_give_the_judges_bits(bits: int, tmp_path: Path) -> None:
    graph = handmade.residual(bits=bits, powers_of_two=True, seed=bits)
    trt.build(graph, tmp_path, options=SMALL)
    images = handmade.images(40, seed=bits)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        parity = trt.compare(graph, engine, images=images, model=tmp_path / "model.onnx")
    assert (parity.logit_mismatches, parity.first_divergent_layer) == (0, None)


def test_answers_do_not_depend_on_company(tmp_path: Path) -> None:
    trt.build(handmade.residual(bits=4), tmp_path, options=SMALL)
    images = handmade.images(37)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        whole = engine(images)
        one_by_one = np.concatenate([engine(images[i : i + 1]) for i in range(len(images))])
        assert engine(images[:0]).shape == (0, 10)
    np.testing.assert_array_equal(one_by_one, whole)


def test_a_call_is_one_cuda_graph_with_the_same_answers(tmp_path: Path) -> None:
    """Captured on the second batch of a size; a note would tell of a refusal."""
    trt.build(handmade.residual(bits=4), tmp_path, options=SMALL)
    batches = [handmade.images(16, seed=seed) for seed in range(4)]
    with TrtEngine(tmp_path / "model.onnx", launch="one by one") as engine:
        wanted = [engine(images) for images in batches]
    with TrtEngine(tmp_path / "model.onnx") as engine:
        for images, answers in zip(batches, wanted, strict=True):
            np.testing.assert_array_equal(engine(images), answers)
        np.testing.assert_array_equal(engine(batches[0][:5]), wanted[0][:5])
        assert not any("one by one" in note for note in engine.facts.notes)


def test_the_device_computes_for_less_time_than_the_host_waits(tmp_path: Path) -> None:
    """Events lie around the execution alone; the host waits for copies and launches too."""
    trt.build(handmade.residual(bits=8), tmp_path, options=SMALL)
    images = handmade.images(16)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        assert isinstance(engine, timing.DeviceTimed)
        rounds = []
        for _ in range(20):
            begun = time.perf_counter()
            engine(images)
            rounds.append((1000 * (time.perf_counter() - begun), engine.device_ms(images)))
        host_ms, device_ms = np.median(rounds, axis=0)
    assert 0 < device_ms < host_ms


def test_a_damaged_plan_is_a_sentence(tmp_path: Path) -> None:
    trt.build(handmade.plain(), tmp_path, options=SMALL)
    path = tmp_path / "model.engine"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(EngineFailed, match="refuses to load"):
        TrtEngine(tmp_path / "model.onnx")


def test_the_layers_can_be_traced(tmp_path: Path) -> None:
    graph = handmade.residual(bits=8, powers_of_two=True)
    trt.build(graph, tmp_path, options=SMALL)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        parity = trt.compare(
            graph, engine, images=handmade.images(4), model=tmp_path / "model.onnx", trace=True
        )
    assert {layer.layer for layer in parity.layers} == {node.name for node in graph.nodes}
    assert all(layer.mismatches == 0 for layer in parity.layers)


def test_it_is_the_judge_that_is_compared_with(tmp_path: Path) -> None:
    """A wrong graph is seen: the comparison above can fail."""
    trt.build(handmade.residual(powers_of_two=True), tmp_path, options=SMALL)
    other = handmade.residual(powers_of_two=True, seed=1)
    images = handmade.images(4)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        assert (engine(images) != judge.run(other, images)).any()


@pytest.mark.parametrize("how", ["random", "plain", "physical", "random*2"])
def test_the_paste_kernel_is_the_reference(how: str) -> None:
    pytest.importorskip("pycuda", reason="the kernels are loaded through PyCUDA: extra cuda")
    from qadtr_edge.kernels.memory import open_device
    from qadtr_edge.kernels.paste import FLIP_TO_CODES, CudaPaste

    images, pixels, mask, places = _placed(64, how=how, image_px=(48, 40))
    device = open_device()
    try:
        stream = device.stream()
        images_at, codes_at = device.allocate(images.nbytes), device.allocate(images.nbytes)
        shown = device.pinned(images.shape, np.uint8)
        stream.copy_in(images_at, images)
        CudaPaste(device)(
            images_at, codes_at, pixels=pixels, mask=mask, placements=places, image_px=(48, 40),
            flip=FLIP_TO_CODES, stream=stream,
        )  # fmt: skip
        stream.copy_out(shown, codes_at)
        stream.wait()
        wanted = paste(images, pixels, mask=mask, placements=places) ^ np.uint8(FLIP_TO_CODES)
        np.testing.assert_array_equal(shown, wanted)
    finally:
        device.close()


@pytest.mark.parametrize("how", ["random", "plain", "physical", "random*2"])
def test_an_engine_that_pastes_by_itself_answers_as_to_the_hosts_bytes(
    how: str, tmp_path: Path
) -> None:
    """Several batches on both slots, the last one short; a note would tell of a refusal."""
    pytest.importorskip("pycuda", reason="the kernels are loaded through PyCUDA: extra cuda")
    trt.build(handmade.residual(bits=4, size=32), tmp_path, options=SMALL)
    images, pixels, mask, places = _placed(75, how=how, image_px=(32, 32))
    shown = paste(images, pixels, mask=mask, placements=places)
    with TrtEngine(tmp_path / "model.onnx") as engine:
        wanted = engine(shown)
        for _ in range(3):
            found = engine.pasted(images, lambda part: pixels, mask=mask, placements=places)
            assert found is not None, engine.facts.notes
            np.testing.assert_array_equal(found, wanted)
        assert not any("on the host" in note for note in engine.facts.notes)
        assert not any("one by one" in note for note in engine.facts.notes)


def _placed(
    count: int, *, how: str, image_px: tuple[int, int]
) -> tuple[Pixels, Pixels, NDArray[np.bool_], Placements]:
    """Images, a patch with holes, its mask, and where it lands."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, *image_px), dtype=np.uint8)
    pixels = rng.integers(0, 256, (3, 10, 8), dtype=np.uint8)
    mask = rng.random((10, 8)) < 0.8
    places = place(
        policy(how, image_px=min(image_px)), np.arange(count), seed=1, patch_px=(10, 8),
        image_px=image_px,
    )  # fmt: skip
    return images, pixels, mask, places
