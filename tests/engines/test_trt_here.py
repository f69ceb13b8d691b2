"""An ONNX file exported elsewhere becomes an engine of this machine, without the onnx package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from qadtr_edge.export import facts, trt, trt_build, trt_here, trt_runtime
from qadtr_edge.export.trt_options import Options

import handmade
from qadtr_edge import provenance
from qadtr_edge.errors import BadInput
from qadtr_edge.files import digest

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: extra trt-rtx")

ELSEWHERE = Options(compute_capabilities=("SM86",), batch=(1, 4, 16))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a bundle brings of an engine built for another machine; no onnx and no GPU here."""
    monkeypatch.setattr(trt_runtime, "PACKAGES", ("tensorrt_rtx",))
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: False)
    trt.build(handmade.residual(bits=4), tmp_path / "elsewhere", options=ELSEWHERE)
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("model.onnx", "facts.json"):
        shutil.copy(tmp_path / "elsewhere" / name, folder / name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    return folder


def test_the_engine_is_built_once_and_again_for_another_model(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts.read(shipped)
    assert before is not None
    trt_here.build_here(shipped)
    record = facts.read(shipped)
    assert record is not None
    assert record.facts.digest == digest(shipped / "model.engine") != before.facts.digest
    assert record.origin == before.origin
    assert record.facts.precision == "unknown"
    assert record.facts.options == Options(batch=ELSEWHERE.batch).as_json()

    def built(*_: object, **__: object) -> None:
        raise RuntimeError("built again")

    monkeypatch.setattr(trt_build, "plan_of", built)
    trt_here.build_here(shipped)
    (shipped / "model.engine").write_bytes(b"torn")
    with pytest.raises(RuntimeError, match="built again"):
        trt_here.build_here(shipped)


def test_a_file_without_facts_is_refused(shipped: Path) -> None:
    (shipped / "facts.json").unlink()
    with pytest.raises(BadInput, match="no facts"):
        trt_here.build_here(shipped)
