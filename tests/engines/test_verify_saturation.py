"""``verify --artefact FILE --patch FILE``: saturation is counted on the graph a file becomes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from qadtr_edge.export import isa, reader

import foreign_files as foreign
from qadtr_edge.cli import verify_saturation
from qadtr_edge.cli.artefact import Shown
from qadtr_edge.cli.verify import verify
from qadtr_edge.data import preprocess
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.patch import bank
from qadtr_edge.types import Patch

pytestmark = pytest.mark.needs("ort")

IMAGES = 6


@pytest.fixture
def white(tmp_path: Path) -> Path:
    path = tmp_path / "white.npz"
    bank.save(Patch(np.full((3, 5, 5), 255, np.uint8), np.ones((5, 5), np.bool_), None), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images in the middle of the range, of any class."""
    images = np.full((60, foreign.SIDE_PX, foreign.SIDE_PX, 3), 120, np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(60) % foreign.CLASSES)
    return tmp_path / "data.npz"


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """onnxruntime's own quantizer, with weights up to 127."""
    real = foreign.save(foreign.residual(), tmp_path / "float.onnx")
    path = tmp_path / "static.onnx"
    foreign.quantize_static(real, path, activations="QInt8", weights="QInt8", per_channel=True)
    return path


def test_products_are_counted_on_the_graph_the_file_becomes(
    static: Path, white: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"artefact": static, "data": str(data), "patch": white, "images": IMAGES, "seed": 3}
    verify(**asked, json=True)
    row = json.loads(capsys.readouterr().out)
    assert (row["precision"], row["logit_mismatches"]) == ("integer", 0)
    counted = row["saturation"]
    assert (counted["images"], counted["patch"]) == (IMAGES, "white.npz")

    graph = reader.lower(static, preprocess=preprocess.agreed(static, None)).graph
    clean = np.full((IMAGES, 3, foreign.SIDE_PX, foreign.SIDE_PX), 120, np.uint8)
    shown = verify_saturation.patched(clean, white, seed=3)
    assert (shown != clean).any()
    found = {layer["layer"]: layer for layer in counted["layers"]}
    assert set(found) == set(isa.saturating_layers(graph))
    for side, images in (("clean", clean), ("patched", shown)):
        wanted = {name: over for name, (over, _) in isa.overflows(graph, images).items()}
        assert {name: layer[side] for name, layer in found.items()} == wanted
    assert sum(layer["patched"] for layer in found.values()) > 0
    verify(**asked)
    assert "beyond int16, clean" in capsys.readouterr().out


def test_without_a_patch_nothing_is_counted(
    static: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(artefact=static, data=str(data), images=IMAGES, json=True)
    assert "saturation" not in json.loads(capsys.readouterr().out)


def test_what_cannot_be_counted_on_is_a_sentence_before_any_work(
    static: Path, white: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shown, "open", lambda *_, **__: pytest.fail("work began"))
    told = {"data": str(data), "images": IMAGES}
    with pytest.raises(Unsupported, match="weights that are not quantized"):
        verify(artefact=tmp_path / "float.onnx", patch=white, **told)
    with pytest.raises(Unsupported, match=r"Files that end in \.tflite are not read"):
        verify(artefact=tmp_path / "model.tflite", patch=white, engine="litert", **told)
    large = tmp_path / "large.npz"
    side = foreign.SIDE_PX + 1
    bank.save(Patch(np.zeros((3, side, side), np.uint8), np.ones((side, side), bool), None), large)
    with pytest.raises(BadInput, match=r"does not fit|larger"):
        verify(artefact=static, patch=large, **told)


def test_the_count_does_not_excuse_a_file_that_ran_in_float(
    tmp_path: Path, white: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.save(foreign.skip_only(), tmp_path / "model.onnx")
    with pytest.raises(typer.Exit):
        verify(artefact=path, data=str(data), patch=white, images=IMAGES, json=True)
    assert "saturation" in json.loads(capsys.readouterr().out)
