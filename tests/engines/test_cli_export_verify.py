"""``export`` and ``verify``: their files, their contract, and what makes ``verify`` fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from qadtr_edge import open_engine, runs
from qadtr_edge.cli.export import export
from qadtr_edge.cli.verify import verify
from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.integer import graph_file
from qadtr_edge.types import QuantSpec

pytestmark = pytest.mark.needs("ort", "torch")

CONTRACT = {
    "engine", "bits", "precision", "integer_kernels", "float_layers", "images", "logits_compared",
    "logit_mismatches", "max_abs_diff", "argmax_mismatches", "first_divergent_layer",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run with a checkpoint of an untrained, calibrated ResNet-8 for the procedural signs."""
    import torch

    from qadtr_edge import data
    from qadtr_edge.models import checkpoint
    from qadtr_edge.models.calibrate import calibrate
    from qadtr_edge.models.prepare import prepare

    torch.manual_seed(0)
    held = data.load("signs", "calibration", limit=64)
    classes = len(held.class_names)
    module = checkpoint.build_model("resnet8", classes=classes)
    module.train()(torch.from_numpy(held.images))  # batch-norm statistics of these images
    widths = (32, 8, 2)
    net = prepare(module, QuantSpec(), widths=widths, classes=classes, image_px=32).eval()
    calibrate(net, torch.from_numpy(held.images), method="minmax", seed=0)
    facts = checkpoint.CheckpointFacts(
        "resnet8", "signs", classes, 32, widths, net.spec, trained_widths=(32,)
    )
    run = runs.new_run(tmp_path_factory.mktemp("runs"))
    checkpoint.save(net, run.checkpoint, facts=facts)
    export(run=run.folder)
    return run


@pytest.fixture
def run(source: runs.Run, tmp_path: Path) -> runs.Run:
    """A copy of the exported run, to be damaged at will."""
    import shutil

    shutil.copytree(source.folder, tmp_path / "run")
    return runs.Run(tmp_path / "run")


def test_export_writes_the_layout_of_a_run(source: runs.Run) -> None:
    assert source.widths("ort") == (32, 8, 2)
    for bits in (8, 2):
        graph = graph_file.load(source.graph(bits))
        assert graph.spec.bits == bits
        assert graph.source["data"] == "signs"
        assert graph.source["trained_at_this_width"] == "no"
        files = {path.name for path in source.engine("ort", bits).iterdir()}
        assert files == {"model.onnx", "model.qdq.onnx", "facts.json"}
    assert (source.engine("ort", 32) / "model.onnx").is_file()
    stages = json.loads(source.manifest.read_text())["stages"]
    assert stages["export"]["options"]["bits"] == [8, 2, 32]


def test_export_again_writes_the_same_bytes(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("model*.onnx")}
    export(run=run.folder, bits="2", json=True)
    answer = json.loads(capsys.readouterr().out)
    assert [(row["bits"], row["precision"]) for row in answer["results"]] == [
        (2, "integer"),
        (32, "float"),
    ]
    assert answer["results"][0]["logit_mismatches"] == 0
    assert answer["results"][0]["logits_compared"] > 0
    assert {path: path.read_bytes() for path in before} == before


def test_the_float_engine_is_the_float_network(source: runs.Run) -> None:
    import torch

    from qadtr_edge import data
    from qadtr_edge.models import checkpoint

    images = data.load("signs", "test", limit=16).images
    net, _ = checkpoint.load(source.checkpoint)
    with torch.no_grad():
        expected = net.select(32)(torch.from_numpy(images)).numpy()
    with open_engine(source, "ort", bits=32) as engine:
        np.testing.assert_allclose(engine(images), expected, atol=1e-4 * np.abs(expected).max())


def test_verify_one_width_prints_the_contract(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(run=run.folder, bits="8", images=40, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) >= CONTRACT
    assert (answer["precision"], answer["float_layers"]) == ("integer", [])
    assert (answer["images"], answer["logit_mismatches"]) == (40, 0)
    assert answer["first_divergent_layer"] is None
    kept = json.loads((run.engine("ort", 8) / "verify.json").read_text())
    assert {name: kept[name] for name in CONTRACT} == {name: answer[name] for name in CONTRACT}
    assert kept["engine_digest"]


def test_verify_of_all_widths_lists_the_results(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(run=run.folder, images=10, layers=True, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert [row["bits"] for row in answer["results"]] == [8, 2]
    for row in answer["results"]:
        assert all(layer["mismatches"] == 0 for layer in row["layers"])
        assert len(row["layers"]) > 10


def test_verify_fails_and_names_a_planted_wrong_scale(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx
    from onnx import numpy_helper

    path = run.engine("ort", 8) / "model.onnx"
    model = onnx.load(path)
    convolutions = [node.name for node in model.graph.node if node.op_type == "QLinearConv"]
    layer = convolutions[3]
    for value in model.graph.initializer:
        if value.name == f"{layer}/weight_scale":
            wrong = numpy_helper.to_array(value) * np.float32(1.05)
            value.CopyFrom(numpy_helper.from_array(wrong, value.name))
    onnx.save(model, path)
    with pytest.raises(typer.Exit) as caught:
        verify(run=run.folder, bits="8", images=16, json=True)
    assert caught.value.exit_code == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["logit_mismatches"] > 0
    assert answer["first_divergent_layer"] == layer
    with pytest.raises(typer.Exit):
        verify(run=run.folder, bits="8", images=16)
    assert f"differ from {layer} on" in capsys.readouterr().err


def test_verify_fails_on_a_float_engine(run: runs.Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The float model put in the place of the 8-bit one: no integers, other logits."""
    import shutil

    shutil.copy(run.engine("ort", 32) / "model.onnx", run.engine("ort", 8) / "model.onnx")
    with pytest.raises(typer.Exit):
        verify(run=run.folder, bits="8", images=16)
    told = capsys.readouterr()
    assert "ran in float precision" in told.err
    assert "may not be called INT8" in told.err


def test_verify_does_not_believe_a_facts_file_that_says_float(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.engine("ort", 8) / "facts.json"
    told = {"precision": "mixed", "float_layers": ["bogus"], "integer_kernels": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    verify(run=run.folder, bits="8", images=4, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["precision"], answer["float_layers"]) == ("integer", [])
    assert answer["integer_kernels"] > 1


def test_verify_does_not_believe_a_facts_file_that_says_integer(
    run: runs.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A float detour that changes no logit, in a file whose facts were edited to vouch for it."""
    import hashlib

    import onnx
    from onnx import helper

    path = run.engine("ort", 8) / "model.onnx"
    model = onnx.load(path)
    at, conv = [
        (i, n) for i, n in enumerate(model.graph.node) if n.op_type == "QLinearConv"
    ][3]  # fmt: skip
    codes, *grid = conv.input[:3]
    names = [f"{conv.name}/detour{i}" for i in range(4)]
    detour = [
        helper.make_node("DequantizeLinear", [codes, *grid], names[:1], name=names[0]),
        helper.make_node("Neg", names[:1], names[1:2], name=names[1]),
        helper.make_node("Neg", names[1:2], names[2:3], name=names[2]),
        helper.make_node("QuantizeLinear", [names[2], *grid], names[3:], name=names[3]),
    ]
    conv.input[0] = names[3]
    for node in reversed(detour):
        model.graph.node.insert(at, node)
    onnx.save(model, path)
    facts = path.with_name("facts.json")
    vouched = {"digest": hashlib.sha256(path.read_bytes()).hexdigest()}
    facts.write_text(json.dumps(json.loads(facts.read_text()) | vouched))
    with pytest.raises(typer.Exit):
        verify(run=run.folder, bits="8", images=4, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["precision"], answer["float_layers"]) == ("mixed", [conv.name])
    assert answer["logit_mismatches"] == 0


def test_a_newer_checkpoint_is_told(run: runs.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.checkpoint.write_bytes(run.checkpoint.read_bytes() + b" ")
    verify(run=run.folder, bits="8", images=4)
    assert "another checkpoint" in capsys.readouterr().err


def test_a_damaged_manifest_is_refused_before_the_work(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("qadtr_edge.cli.verify.open_engine", unreachable)
    run.manifest.write_text("{")
    with pytest.raises(BadInput, match=r"manifest\.json is not valid JSON"):
        verify(run=run.folder, bits="8", images=4)


def test_bad_input_is_answered(run: runs.Run) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'ort'"):
        export(run=run.folder, engine="oort")
    with pytest.raises(BadInput, match="not a bit-width"):
        export(run=run.folder, bits="9")
    with pytest.raises(BadInput, match="holds the widths 32, 8, 2, not 5"):
        export(run=run.folder, bits="5")
    with pytest.raises(BadInput, match="no ort engine at 4 bits"):
        verify(run=run.folder, bits="4")
    with pytest.raises(BadInput, match="not a bit-width"):
        verify(run=run.folder, bits="32")
    with pytest.raises(UnknownName):
        export(model="zoo:nothing", runs=run.folder)
    with pytest.raises(UnknownName):
        export(model="plain", runs=run.folder)
    with pytest.raises(BadInput, match="both given"):
        export(run=run.folder, model="zoo:x")
    (run.graph(8)).write_bytes(b"PK")
    with pytest.raises(BadInput, match="not a readable integer graph"):
        verify(run=run.folder, bits="8")
