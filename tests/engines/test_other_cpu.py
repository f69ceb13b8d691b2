"""Other CPUs under emulation: the shipped model is the same there, a planted one is caught."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from qadtr_edge.export import emulation, isa, other_cpu

import handmade
from qadtr_edge import registry, runs
from qadtr_edge.cli import verify_saturation
from qadtr_edge.cli.verify import verify
from qadtr_edge.engines import open_engine
from qadtr_edge.errors import BadInput, EngineFailed, Unsupported
from qadtr_edge.integer import graph_file
from qadtr_edge.integer.graph import IntegerGraph
from qadtr_edge.patch import bank
from qadtr_edge.types import Patch

pytestmark = pytest.mark.needs("ort")


def saturating() -> IntegerGraph:
    """Bytes times weights of up to 127: neighbours of one sign leave int16 when added."""
    builder = handmade.Builder()
    return builder.finish(builder.conv("images", 8, name="conv", weight_bits=8))


@pytest.fixture(params=["avx2", "arm64"])
def machine(request: pytest.FixtureRequest) -> emulation.Emulated:
    return _prepared(request.param)


def _prepared(name: str) -> emulation.Emulated:
    """Set up on first use, which needs a network and Debian 12; skipped elsewhere."""
    try:
        return emulation.prepare(name)
    except Unsupported as error:
        pytest.skip(str(error))


def _built(graph: IntegerGraph, folder: Path) -> Path:
    build = registry.resolve("builder", "ort")
    assert callable(build)
    build(graph, folder)
    return folder / "model.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 2])
def test_a_safe_model_is_the_same_everywhere(
    machine: emulation.Emulated, tmp_path: Path, bits: int
) -> None:
    graph = handmade.residual(bits=bits)
    found = other_cpu.compare(
        graph, _built(graph, tmp_path), images=handmade.images(20), name=machine.machine.name
    )
    assert found.logits_compared == 20 * graph.classes
    assert found.holds
    assert found.changed_labels == 0


@pytest.mark.slow
def test_a_model_that_saturates_is_caught_named_and_cured(tmp_path: Path) -> None:
    _prepared("avx2")
    graph = saturating()
    found = other_cpu.compare(
        graph, _built(graph, tmp_path), images=handmade.images(20), name="avx2"
    )
    assert found.logit_mismatches > 0
    assert found.first_layer == "conv"
    assert found.cured_mismatches == 0


@pytest.mark.slow
def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(EngineFailed, match="did not answer within"):
        _prepared("avx2").python(["-c", "while True: pass"], timeout_s=1.0)


def test_pairs_are_counted_as_a_loop_counts_them() -> None:
    graph = saturating()
    images = handmade.images(3, seed=4)
    conv = next(node for node in graph.nodes if node.name == "conv")
    raw = np.pad(images.astype(int), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=128)
    over = pairs = 0
    for image in raw:
        for output in conv.weight.astype(int):
            for row in range(image.shape[1] - 2):
                for column in range(image.shape[2] - 2):
                    for at in np.ndindex(3, 3):
                        pixel = image[:, row + at[0], column + at[1]]
                        total = pixel[0] * output[0][at] + pixel[1] * output[1][at]
                        over += not -32768 <= total <= 32767
                        pairs += 1
    assert isa.overflows(graph, images)["conv"] == (over, pairs)
    assert over > 0


def test_a_model_within_the_bound_has_nothing_to_count() -> None:
    assert isa.overflows(handmade.residual(bits=4), handmade.images(2)) == {}


@pytest.fixture
def gray_run(tmp_path: Path) -> tuple[runs.Run, Path]:
    """A model that saturates on bright images, and a folder of dark gray ones."""
    run = runs.new_run(tmp_path / "runs")
    graph = saturating()
    graph_file.save(graph, run.graph(8))
    _built(graph, run.engine("ort", 8))
    np.savez(tmp_path / "gray.npz", images=np.full((200, 8, 8, 3), 60, np.uint8),
             labels=np.arange(200) % 10)  # fmt: skip
    return run, tmp_path / "gray.npz"


def test_a_stored_patch_saturates_where_clean_images_do_not(
    gray_run: tuple[runs.Run, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing emulated: counted on the graph, and as a count of our own says."""
    run, data = gray_run
    path = tmp_path / "white.npz"
    bank.save(Patch(np.full((3, 3, 3), 255, np.uint8), np.ones((3, 3), np.bool_), None), path)
    asked = {"run": run.folder, "data": str(data), "images": 12, "patch": path, "seed": 5}
    verify(**asked, json=True)
    told = json.loads(capsys.readouterr().out)["saturation"]
    [layer] = told["layers"]
    assert (told["images"], told["patch"], layer["layer"]) == (12, "white.npz", "conv")
    assert layer["clean"] == 0
    clean = np.full((12, 3, 8, 8), 60, np.uint8)
    shown = verify_saturation.patched(clean, path, seed=5)
    assert ((shown == 255).sum(axis=(1, 2, 3)) > 0).all()
    assert (layer["patched"], layer["pairs"]) == isa.overflows(saturating(), shown)["conv"]
    assert layer["patched"] > 0
    verify(**asked)
    assert "with the patch" in capsys.readouterr().out


def test_a_model_that_cannot_saturate_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = handmade.residual(bits=4)
    path = tmp_path / "white.npz"
    bank.save(Patch(np.full((3, 3, 3), 255, np.uint8), np.ones((3, 3), np.bool_), None), path)
    row = verify_saturation.count(graph, handmade.images(3), patch=path, seed=0)
    assert row.as_json()["layers"] == []
    verify_saturation.show([row])
    assert "no two products can leave int16" in capsys.readouterr().err


def test_a_patch_that_does_not_fit_is_a_sentence_before_any_work(
    gray_run: tuple[runs.Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = gray_run
    monkeypatch.setattr(
        sys.modules[verify.__module__], "open_engine", lambda *_, **__: pytest.fail("work began")
    )
    path = tmp_path / "large.npz"
    bank.save(Patch(np.zeros((3, 9, 9), np.uint8), np.ones((9, 9), np.bool_), None), path)
    with pytest.raises(BadInput, match=r"does not fit|larger"):
        verify(run=run.folder, data=str(data), images=4, patch=path)


def test_other_cpus_without_onnxruntime_are_refused(gray_run: tuple[runs.Run, Path]) -> None:
    run, data = gray_run
    run.engine("ort", 8).rename(run.engine("openvino", 8))
    with pytest.raises(BadInput, match="--isa emulates CPUs for onnxruntime"):
        verify(run=run.folder, data=str(data), engine="openvino", isa="avx2")


@pytest.mark.slow
def test_verify_finds_the_saturation_and_fixes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepared("avx2")
    run = runs.new_run(tmp_path)
    graph = saturating()
    graph_file.save(graph, run.graph(8))
    _built(graph, run.engine("ort", 8))
    folder = tmp_path / "data.npz"
    np.savez(folder, images=handmade.images(200).transpose(0, 2, 3, 1), labels=np.arange(200) % 10)
    asked = {"run": run.folder, "data": str(folder), "isa": "avx2", "json": True, "images": 12}
    with pytest.raises(typer.Exit) as ended:
        verify(**asked)
    assert ended.value.exit_code == 1
    told = json.loads(capsys.readouterr().out)["isa"]
    assert told[0]["logit_mismatches"] > 0
    assert told[0]["first_divergent_layer"] == "conv"
    assert told[0]["images"] == 24, "the clean images and as many with a patch"
    verify(**asked, fix=True)
    monkeypatch.setattr(isa, "may_saturate_here", lambda: True)
    with open_engine(run, "ort", bits=8) as engine:
        assert engine.facts.options["session.x64quantprecision"] == "1"
