"""What a TensorRT build can be asked for, in a user's words and in those of the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qadtr_edge.export import trt_options, trt_runtime
from qadtr_edge.export.trt_options import Options

from qadtr_edge import provenance
from qadtr_edge.cli.export import export
from qadtr_edge.cli.export_build import Asked
from qadtr_edge.errors import BadInput, Unsupported

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: extra trt-rtx")


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the build ahead of time, on any machine."""
    monkeypatch.setattr(trt_runtime, "PACKAGES", ("tensorrt_rtx",))
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: False)


def test_options_are_worded_as_a_user_words_them() -> None:
    made = trt_options.options_of(
        compute_capabilities=("8.6", "12.0"), hardware="ampere+", batch=(2, 4, 8),
        workspace_mebibytes=64,
    )  # fmt: skip
    assert made == Options((2, 4, 8), 64, hardware="AMPERE_PLUS",
                           compute_capabilities=("SM86", "SM120"))  # fmt: skip
    assert trt_options.options_of() == Options()


def test_what_a_build_was_asked_for_is_asked_again_but_for_its_gpus() -> None:
    asked = Options(
        (2, 4, 8), 64, 3, "AMPERE_PLUS", is_version_compatible=True,
        compute_capabilities=("SM86",), timing_cache=Path("cache"), dla_core=1,
    )  # fmt: skip
    stored = json.loads(json.dumps(asked.as_json()))
    assert trt_options.again(stored) == replace(asked, compute_capabilities=(), timing_cache=None)
    assert trt_options.again({}) == Options()


@pytest.mark.parametrize(
    "stored",
    [{"batch": [1, 2]}, {"batch": "1,2,3"}, {"workspace_mebibytes": None}, {"dla_core": "0"},
     {"is_version_compatible": 1}],
)  # fmt: skip
def test_recorded_options_of_another_kind_are_named(stored: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"recorded option {next(iter(stored))} is"):
        trt_options.again(stored)


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        ({"compute_capabilities": ("banana",)}, BadInput, "'banana' is no compute capability"),
        ({"compute_capabilities": ("86",)}, BadInput, "'86' is no compute capability"),
        ({"compute_capabilities": ("8.7",)}, Unsupported, r"not build for compute capability 8\.7"),
        ({"timing_cache": Path("cache")}, Unsupported, "no NVIDIA driver here"),
        ({"hardware": "turing"}, BadInput, "'turing' is no level"),
        ({"batch": (8, 4, 2)}, BadInput, r"\[8, 4, 2\] is not"),
        ({"batch": (8,)}, BadInput, r"\[8\] is not"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence(
    words: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        trt_options.options_of(**words)


def test_the_enterprise_package_takes_no_compute_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trt_options, "is_rtx", lambda trt: False)
    with pytest.raises(Unsupported, match="builds for the GPU at hand"):
        trt_options.options_of(compute_capabilities=("8.6",))


def test_the_enterprise_package_without_capabilities_takes_other_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trt_options, "is_rtx", lambda trt: False)
    monkeypatch.delattr(rtx, "ComputeCapability")
    assert trt_options.options_of(workspace_mebibytes=64).workspace_mebibytes == 64


def test_a_folder_is_no_timing_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: True)
    with pytest.raises(BadInput, match="is a folder, and a timing cache is a file"):
        trt_options.options_of(timing_cache=tmp_path)


def test_lists_as_typed_a_fixed_batch_too() -> None:
    made = Asked(batch_profile="8, 8,8").by_engine(("ort", "trt"))
    assert made == {"trt": Options(batch=(8, 8, 8))}
    for typed in ("1,x,3", "0,1,2", ""):
        with pytest.raises(BadInput, match="is not a list of counts"):
            Asked(batch_profile=typed).by_engine(("trt",))
    with pytest.raises(BadInput, match="--compute-capability names none"):
        Asked(compute_capability=",").by_engine(("trt",))


def test_options_of_tensorrt_need_it_among_the_engines(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--dla-core is of TensorRT"):
        export(model="zoo:plain-resnet20", runs=tmp_path, dla_core=0)
    with pytest.raises(BadInput, match="--workspace is of TensorRT") as held:
        export(model="zoo:plain-resnet20", runs=tmp_path, workspace=64)
    assert "--engine trt" in held.value.remedy
    assert not list(tmp_path.iterdir())
