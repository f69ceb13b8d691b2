"""Replay through the paste kernel: its own source, compiled for this CPU, on a GPU of host memory.

The engine of ``host_gpu`` keeps the codes it was run on, so that bytes are compared, not logits
alone. What a GPU does is tested in tests/device.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qadtr_edge.export import trt_engine, trt_paste
from qadtr_edge.kernels import build
from qadtr_edge.kernels import paste as kernel

import handmade
import host_gpu
from qadtr_edge import replay
from qadtr_edge.answered import Pasting
from qadtr_edge.attacks import controls
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.metrics import predicted
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Patch, PatchPerImage, Pixels, Placements

pytestmark = pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler here"
)

COUNT = 13
IMAGES = handmade.images(COUNT)
PIXELS = np.random.default_rng(3).integers(0, 256, (3, 3, 2), dtype=np.uint8)
MASK = np.array([[1, 1], [0, 1], [1, 1]], np.bool_)
KINDS = ("plain", "random", "physical", "plain*3", "physical*2")
ATTACKED = replay.Attacked("gap", "simulation", "none", tier="T1", threat="T-A")


@pytest.fixture
def plan(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A plan of the stand-in, whose GPU takes a kernel compiled for this CPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "kernels"))
    monkeypatch.setattr(
        kernel, "cubin", lambda source, architecture: str(build.host_library(source)).encode()
    )
    monkeypatch.setattr(host_gpu.HostFunction, "calls", 0)
    with host_gpu.installed(monkeypatch):
        monkeypatch.setattr(trt_engine, "open_device", host_gpu.HostKernelDevice)
        (tmp_path / "model.engine").write_text("-1 1 int8")
        yield tmp_path / "model.engine"


@pytest.fixture
def wrong(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with a kernel that turns patches the wrong way round."""
    text = kernel.SOURCE.read_text()
    assert "- b * row" in text
    planted = tmp_path / "planted.cu"
    planted.write_text(text.replace("- b * row", "+ b * row"))
    monkeypatch.setattr(kernel, "SOURCE", planted)
    return plan


@pytest.fixture
def host_pastes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the host pasted on, call by call: in replay, and to try the kernel."""
    counted: list[int] = []

    def counting(
        images: Pixels, pixels: Pixels, *, mask: NDArray[np.bool_], placements: Placements
    ) -> Pixels:
        counted.append(len(images))
        return paste(images, pixels, mask=mask, placements=placements)

    monkeypatch.setattr(trt_paste, "paste", counting)
    monkeypatch.setattr(replay, "paste", counting)
    return counted


def places(how: str, count: int = COUNT, seed: int = 0) -> Placements:
    return place(
        policy(how, image_px=8), np.arange(count), seed=seed, patch_px=(3, 2), image_px=(8, 8)
    )


def subject_of(model: Callable[[Pixels], NDArray[np.float32]]) -> replay.Subject:
    labels = predicted(model(IMAGES))
    ids = np.arange(COUNT)
    data = Dataset("noise", "test", IMAGES, labels, ids, ("a", "b"), flip_allowed=False)
    return replay.Subject(model, "any", data, batch=4)


def unit(how: str = "random", *, patch: Patch | PatchPerImage | None = None) -> replay.Unit:
    chosen = patch or Patch(PIXELS, MASK, None)
    return replay.Unit(ATTACKED, chosen, policy(how, image_px=8), seed=0)


def pasted_notes(engine: trt_engine.TrtEngine) -> list[str]:
    return [note for note in engine.facts.notes if "pasted" in note or "clean" in note]


def same_as_on_the_host(engine: trt_engine.TrtEngine, work: replay.Unit) -> None:
    """The unit leaves the same row and outcomes, whoever pastes."""
    row, outcomes = replay.replay(work, engine.facts, subject=subject_of(engine))
    on_host = subject_of(lambda images: engine(images))
    wanted_row, wanted = replay.replay(work, engine.facts, subject=on_host)
    assert row == wanted_row
    np.testing.assert_array_equal(outcomes.patched.labels, wanted.patched.labels)
    np.testing.assert_array_equal(outcomes.patched.margins, wanted.patched.margins)


@pytest.mark.parametrize("shared", [True, False], ids=["one patch", "one each"])
@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("text", ["-1 1 int8", "-1 2 int8", "4 0 int8", "-1 1 uint8"])
def test_the_engine_runs_on_the_bytes_of_the_reference(
    text: str, how: str, shared: bool, plan: Path
) -> None:
    plan.write_text(text)
    chance = np.random.default_rng(1)
    pixels = PIXELS if shared else chance.integers(0, 256, (COUNT, 3, 3, 2), dtype=np.uint8)
    at = places(how)
    shown = paste(IMAGES, pixels, mask=MASK, placements=at)
    with trt_engine.TrtEngine(plan, launch="one by one") as engine:
        assert isinstance(engine, Pasting)
        for _ in range(2):
            host_gpu.Context.shown.clear()
            found = engine.pasted(
                IMAGES, lambda part: pixels if shared else pixels[part], mask=MASK, placements=at
            )
            codes = np.concatenate(host_gpu.Context.shown)
            flip = np.uint8(128 if "uint8" not in text else 0)
            np.testing.assert_array_equal(codes[:COUNT].view(np.uint8), shown ^ flip)
            assert not codes[COUNT:].any(), "what fills a batch up is blank"
            assert found is not None
            np.testing.assert_array_equal(found, engine(shown))
        assert not pasted_notes(engine)


def test_the_host_pastes_the_first_batch_of_each_kind_and_no_other(
    plan: Path, host_pastes: list[int]
) -> None:
    works = [unit(how) for how in ("plain", "random", "physical", "plain", "random", "physical")]
    with trt_engine.TrtEngine(plan) as engine:
        subject = subject_of(engine)
        found = [replay.replay(work, engine.facts, subject=subject) for work in works]
        assert host_pastes == [4, 4, 4]
        replay.replay(
            unit(patch=controls.noise(Patch(PIXELS, MASK, None), seed=0)), engine.facts,
            subject=subject,
        )  # fmt: skip
        assert host_pastes == [4, 4, 4, 4]
        assert not pasted_notes(engine)
    for first, again in zip(found[:3], found[3:], strict=True):
        assert first[0].counts == again[0].counts


@pytest.mark.parametrize("how", KINDS)
def test_a_replay_leaves_the_same_row_and_outcomes(how: str, plan: Path) -> None:
    with trt_engine.TrtEngine(plan) as engine:
        same_as_on_the_host(engine, unit(how))


def test_a_kernel_that_pastes_wrongly_is_told_and_never_used_again(
    wrong: Path, host_pastes: list[int]
) -> None:
    with trt_engine.TrtEngine(wrong) as engine:
        same_as_on_the_host(engine, unit("plain"))  # nothing is turned: it is right, and trusted
        assert not pasted_notes(engine)
        same_as_on_the_host(engine, unit("random"))
        [note] = pasted_notes(engine)
        assert note.startswith("pasted on the host: The paste kernel wrote ")
        assert "affine" in note
        calls, tried = host_gpu.HostFunction.calls, len(host_pastes)
        same_as_on_the_host(engine, unit("plain"))
        same_as_on_the_host(engine, unit("random"))
        assert host_gpu.HostFunction.calls == calls
        assert host_pastes[tried:] == [4, 4, 4, 1] * 4
        assert pasted_notes(engine) == [note]


def test_what_is_under_way_when_a_kernel_is_refused_reaches_no_later_call(wrong: Path) -> None:
    """The first batch is right, and runs; the second is turned, and refused."""
    at = places("plain")
    turned = at.degrees.copy()
    turned[5] = 90.0
    with trt_engine.TrtEngine(wrong) as engine:
        turned_in = replace(at, degrees=turned)
        assert engine.pasted(IMAGES, lambda part: PIXELS, mask=MASK, placements=turned_in) is None
        codes = IMAGES.reshape(COUNT, -1)[:2].astype(np.float32) - 128
        np.testing.assert_array_equal(engine(IMAGES[:2])[:, 0], codes.sum(1))


def test_without_a_kernel_the_host_pastes_and_says_why(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_engine, "open_device", host_gpu.HostDevice)
    with trt_engine.TrtEngine(plan) as engine:
        same_as_on_the_host(engine, unit())
        [note] = pasted_notes(engine)
    assert note.startswith("pasted on the host: Kernels are loaded through PyCUDA")


def test_pixels_of_a_unit_are_made_once_whoever_pastes(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image's own are asked for batch by batch; by a refused kernel, not at all."""
    noise = controls.noise(Patch(PIXELS, MASK, None), seed=0)
    asked: list[int] = []

    def pixels_of(ids: NDArray[np.int64]) -> Pixels:
        asked.extend(ids.tolist())
        return noise.pixels_of(ids)

    work = unit(patch=replace(noise, pixels_of=pixels_of))
    for device in (host_gpu.HostKernelDevice, host_gpu.HostDevice):
        monkeypatch.setattr(trt_engine, "open_device", device)
        with trt_engine.TrtEngine(plan) as engine:
            for _ in range(2):
                asked.clear()
                replay.replay(work, engine.facts, subject=subject_of(engine))
                assert asked == [*range(COUNT)]


def test_without_a_compiler_the_host_pastes_and_says_why(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "cubin", build.cubin)
    monkeypatch.setattr(build, "nvcc_places", list)
    with trt_engine.TrtEngine(plan) as engine:
        same_as_on_the_host(engine, unit())
        [note] = pasted_notes(engine)
    assert "nvcc" in note


def test_who_is_shown_the_same_bytes_is_shown_the_hosts(plan: Path, host_pastes: list[int]) -> None:
    with trt_engine.TrtEngine(plan) as engine:
        beside = subject_of(lambda images: engine(images))
        row, _ = replay.replay(unit(), engine.facts, subject=subject_of(engine), simulation=beside)
    assert host_pastes == [4, 4, 4, 1]
    assert host_gpu.HostFunction.calls == 0
    assert row.counts.sim_fooled == row.counts.fooled


def test_clean_images_cross_the_bus_once(plan: Path) -> None:
    with trt_engine.TrtEngine(plan, launch="one by one") as engine:
        engine.pasted(IMAGES, lambda part: PIXELS, mask=MASK, placements=places("random"))
        first = host_gpu.HostStream.moved_bytes
        engine.pasted(IMAGES, lambda part: PIXELS, mask=MASK, placements=places("random", seed=1))
        second = host_gpu.HostStream.moved_bytes - first
        others = handmade.images(COUNT, seed=5)
        at = places("plain")
        found = engine.pasted(others, lambda part: PIXELS, mask=MASK, placements=at)
        assert found is not None
        shown = paste(others, PIXELS, mask=MASK, placements=at)
        np.testing.assert_array_equal(found, engine(shown))
        assert not pasted_notes(engine)
    assert first - second == IMAGES.nbytes


@pytest.mark.parametrize("limit", ["ours", "the GPU's"])
def test_images_that_do_not_stay_are_copied_in_batch_by_batch_and_this_is_told(
    limit: str, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit == "ours":
        monkeypatch.setattr(trt_paste, "RESIDENT_BYTES", IMAGES.nbytes - 1)
    else:
        monkeypatch.setattr(host_gpu.HostDevice, "largest_bytes", IMAGES.nbytes - 1)
    monkeypatch.setattr(kernel, "_ALIGNED", 4)  # so that arguments are smaller than the images
    with trt_engine.TrtEngine(plan) as engine:
        for how in ("random", "plain"):
            same_as_on_the_host(engine, unit(how))
        [note] = pasted_notes(engine)
    assert note.startswith("clean images go to the GPU batch by batch: ")
    assert host_gpu.HostFunction.calls == 2 * 4, "the kernel pasted all the same"


def test_pasted_calls_are_graphs_too_of_what_follows_the_paste(plan: Path) -> None:
    images = handmade.images(24)
    at = places("random", count=24)
    shown = paste(images, PIXELS, mask=MASK, placements=at)
    with trt_engine.TrtEngine(plan) as engine:
        wanted = engine(shown)
        host_gpu.HostGraph.made.clear()
        for _ in range(2):
            found = engine.pasted(images, lambda part: PIXELS, mask=MASK, placements=at)
            np.testing.assert_array_equal(found, wanted)
        assert [[kind for kind, *_ in graph.work] for graph in host_gpu.HostGraph.made] == [
            ["run", "out"], ["run", "out"]
        ]  # fmt: skip
        assert [graph.launches for graph in host_gpu.HostGraph.made] == [5, 5]
        np.testing.assert_array_equal(engine(shown), wanted)
        assert not any("one by one" in note for note in engine.facts.notes)


def test_a_graph_of_a_pasted_call_that_answers_otherwise_is_refused(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_gpu.HostStream, "graphs_are_wrong", True)
    images, at = handmade.images(24), places("random", count=24)
    with trt_engine.TrtEngine(plan) as engine:
        for _ in range(2):
            found = engine.pasted(images, lambda part: PIXELS, mask=MASK, placements=at)
            np.testing.assert_array_equal(
                found, engine(paste(images, PIXELS, mask=MASK, placements=at))
            )
        assert sum("one by one" in note for note in engine.facts.notes) == 1


def test_other_images_and_a_closed_engine_are_sentences(plan: Path) -> None:
    engine = trt_engine.TrtEngine(plan)
    with engine, pytest.raises(BadInput, match=r"uint8 images \(N, 3, 8, 8\)"):
        engine.pasted(
            handmade.images(COUNT, size=9),
            lambda part: PIXELS,
            mask=MASK,
            placements=places("plain"),
        )
    with pytest.raises(EngineFailed, match="closed"):
        engine.pasted(IMAGES, lambda part: PIXELS, mask=MASK, placements=places("plain"))
