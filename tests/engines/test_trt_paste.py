"""The paste kernel: its own source, compiled for this CPU, against the reference; and for GPUs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from qadtr_edge.kernels import build
from qadtr_edge.kernels.paste import FLIP_TO_CODES, SOURCE, arguments, paste_on_cpu

from qadtr_edge.devices import carried
from qadtr_edge.errors import EngineFailed, MissingDependency
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Placements

needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler here"
)


def has_nvcc() -> bool:
    try:
        build.nvcc()
    except MissingDependency:
        return False
    return True


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "kernels"))


@needs_compiler
@pytest.mark.parametrize("flip", [0, FLIP_TO_CODES])
@pytest.mark.parametrize("shared", [True, False], ids=["one patch", "one each"])
@pytest.mark.parametrize("how", ["random", "plain", "centre", "physical"])
@pytest.mark.parametrize("image_px", [(32, 32), (33, 47), (96, 128)])
def test_every_byte_is_the_references(
    image_px: tuple[int, int], how: str, shared: bool, flip: int
) -> None:
    rng = np.random.default_rng(sum(image_px))
    images = rng.integers(0, 256, (30, 3, *image_px), dtype=np.uint8)
    patch_px = (image_px[0] // 4, image_px[1] // 5)
    mask = rng.random(patch_px) < 0.8
    shape = (3, *patch_px) if shared else (30, 3, *patch_px)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    places = place(
        policy(how, image_px=min(image_px)), np.arange(30), seed=3, patch_px=patch_px,
        image_px=image_px,
    )  # fmt: skip
    given = arguments(pixels, mask, placements=places, image_px=image_px, flip=flip)
    wanted = paste(images, pixels, mask=mask, placements=places) ^ np.uint8(flip)
    np.testing.assert_array_equal(paste_on_cpu(images, given), wanted)


@needs_compiler
@pytest.mark.parametrize("bent", [False, True], ids=["flat", "in perspective and light"])
def test_a_patch_that_sticks_out_is_cut_off_alike(bent: bool) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 3, 24, 24), dtype=np.uint8)
    pixels = rng.integers(0, 256, (3, 9, 7), dtype=np.uint8)
    mask = np.ones((9, 7), np.bool_)
    places = Placements(
        top=rng.uniform(-9, 24, 64), left=rng.uniform(-7, 24, 64),
        degrees=rng.uniform(-180, 180, 64), scale=rng.uniform(0.3, 2.5, 64),
        corners=rng.uniform(0.0, 0.33, (64, 4, 2)) if bent else None,
        contrast=rng.uniform(0.0, 3.0, 64) if bent else None,
        brightness=rng.uniform(-200.0, 200.0, 64) if bent else None,
    )  # fmt: skip
    given = arguments(pixels, mask, placements=places, image_px=(24, 24), flip=0)
    wanted = paste(images, pixels, mask=mask, placements=places)
    assert (wanted != images).any()
    np.testing.assert_array_equal(paste_on_cpu(images, given), wanted)


@pytest.mark.skipif(not has_nvcc(), reason="no nvcc here: pip install 'qadtr-edge[kernels]'")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_86", "sm_87", "sm_89", "sm_90"])
def test_it_compiles_for(architecture: str) -> None:
    made = build.cubin(SOURCE, architecture)
    assert made[:4] == b"\x7fELF"
    assert b"paste_codes" in made


@pytest.mark.skipif(not has_nvcc(), reason="no nvcc here: pip install 'qadtr-edge[kernels]'")
def test_what_does_not_compile_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cu"
    broken.write_text('extern "C" __global__ void broken() { nothing; }')
    with pytest.raises(EngineFailed, match=r"broken\.cu: .*nothing"):
        build.cubin(broken, "sm_86")
    with pytest.raises(EngineFailed, match="does not compile"):
        build.cubin(SOURCE, "sm_1")


@needs_compiler
def test_a_kernel_is_compiled_once_for_each_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "one.cu"
    source.write_text('extern "C" int one() { return 1; }')
    first = build.host_library(source)
    written = first.stat().st_mtime_ns
    assert build.host_library(source) == first
    assert first.stat().st_mtime_ns == written
    source.write_text('extern "C" int one() { return 2; }')
    assert build.host_library(source) != first
    assert len(list(first.parent.iterdir())) == 2, "no scratch file is left"


def test_without_a_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "nvcc_places", list)
    with pytest.raises(MissingDependency) as held:
        build.nvcc()
    assert "kernels" in held.value.remedy


@needs_compiler
def test_a_bundle_carries_the_kernel_and_compiles_it_out_of_the_zip(tmp_path: Path) -> None:
    packed = tmp_path / "bundle.pyz"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in carried.sources().items():
            archive.writestr(name, content)
    script = (
        f"import sys; sys.path.insert(0, {str(packed)!r})\n"
        "from qadtr_edge.kernels import build, paste\n"
        f"assert str(paste.SOURCE).startswith({str(packed)!r}), paste.SOURCE\n"
        "print(build.host_library(paste.SOURCE))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()) == build.host_library(SOURCE), "the same text, compiled once"


@needs_compiler
def test_a_source_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"gone\.cu, cannot be read"):
        build.host_library(tmp_path / "gone.cu")
    with pytest.raises(EngineFailed, match=r"gone\.cu, cannot be read"):
        build.host_library(build.CUDA / "gone.cu")
