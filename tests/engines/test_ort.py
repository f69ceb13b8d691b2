"""onnxruntime's own corners: options, refusals, the facts file, CPUs without VNNI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qadtr_edge.export import facts, isa, ort

import handmade
from qadtr_edge import provenance
from qadtr_edge.errors import BadInput, EngineFailed, Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge

pytestmark = pytest.mark.needs("ort")


@pytest.mark.parametrize(
    ("threads", "is_exact"), [(2, False), (1, True)], ids=["two threads", "x64 precision"]
)
def test_options_do_not_change_a_bit(threads: int, is_exact: bool, tmp_path: Path) -> None:
    graph = handmade.residual(size=16)
    ort.build(graph, tmp_path)
    pixels = handmade.images(6, size=16)
    with ort.OrtEngine(
        tmp_path / ort.MODEL, threads=threads, x64_quant_precision=is_exact
    ) as engine:
        np.testing.assert_array_equal(engine(pixels), judge.run(graph, pixels))
        assert engine.facts.options["intra_op_num_threads"] == threads
        assert engine.facts.options["session.x64quantprecision"] == str(int(is_exact))
        assert engine.facts.precision == "integer"


def test_facts_json_says_what_was_asked_and_what_was_seen(tmp_path: Path) -> None:
    graph = handmade.residual(bits=4)
    made = ort.build(graph, tmp_path)
    document = json.loads((tmp_path / facts.FILE).read_text())
    assert document["precision"] == "integer"
    assert document["digest"] == made.digest
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert list(layers) == [node.name for node in graph.nodes]
    assert layers["block0.conv1"]["requested"] == layers["block0.conv1"]["observed"] == "integer"
    assert layers["block0.conv1"]["kernels"] == ["QLinearConv -> uint8", "Clip -> uint8"]
    assert layers["block0.conv2"]["kernels"] == ["QLinearConv -> uint8"], "8 bits need no Clip"
    record = facts.read(tmp_path)
    assert record is not None
    assert record.facts == made


def test_facts_of_another_machine_are_observed_anew(tmp_path: Path) -> None:
    made = ort.build(handmade.plain(), tmp_path)
    document = json.loads((tmp_path / facts.FILE).read_text())
    document["device"] = {"cpu": "another"}
    document["precision"] = "float"
    (tmp_path / facts.FILE).write_text(json.dumps(document))
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        assert engine.facts == made


def test_a_file_on_its_own_is_observed(tmp_path: Path) -> None:
    made = ort.build(handmade.plain(bits=3), tmp_path)
    (tmp_path / facts.FILE).unlink()
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        seen = engine.facts
    assert (seen.bits, seen.precision, seen.digest) == (3, "integer", made.digest)
    assert seen.integer_kernels == made.integer_kernels
    assert "no facts file describes this file" in seen.notes


def test_newer_facts_are_a_sentence(tmp_path: Path) -> None:
    ort.build(handmade.plain(), tmp_path)
    (tmp_path / facts.FILE).write_text('{"schema": 99}')
    with pytest.raises(BadInput, match="schema 99") as caught:
        ort.OrtEngine(tmp_path / ort.MODEL)
    assert caught.value.remedy.startswith("Update")


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "1"}, {"origin": None}, {"origin": {"layers": ["a"]}}, {"digest": None},
        {"origin": {"layers": "a", "bits": 8, "may_saturate": [], "notes": []}},
        {"origin": {"layers": [1], "bits": 8, "may_saturate": [], "notes": []}},
        {"bits": "8"}, {"float_layers": 3}, {"options": []}, {"notes": [None]},
    ],
)  # fmt: skip
def test_damaged_facts_are_a_sentence(tmp_path: Path, damage: dict[str, object]) -> None:
    ort.build(handmade.plain(), tmp_path)
    path = tmp_path / facts.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(BadInput, match=r"facts\.json is damaged") as caught:
        ort.OrtEngine(tmp_path / ort.MODEL)
    assert "qadtr-edge export" in caught.value.remedy


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}"])
def test_facts_of_another_kind_are_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / facts.FILE).write_text(content)
    with pytest.raises(BadInput, match="is damaged"):
        facts.read(tmp_path)


def test_logits_that_are_no_numbers_are_a_sentence(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    ort.build(handmade.plain(), tmp_path)
    model = onnx.load(tmp_path / ort.MODEL)
    for value in model.graph.initializer:
        if value.name == "classifier/weight_scale":
            scales = np.full(10, np.nan, np.float32)
            value.CopyFrom(numpy_helper.from_array(scales, value.name))
    onnx.save(model, tmp_path / ort.MODEL)
    with (
        ort.OrtEngine(tmp_path / ort.MODEL) as engine,
        pytest.raises(EngineFailed, match="not numbers"),
    ):
        engine(handmade.images(1))


def test_a_model_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["x"], ["logits"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in ("x", "logits"))
    model = helper.make_model(helper.make_graph([node], "other", [x], [y]), ir_version=10)
    model.opset_import[0].version = 21
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BadInput, match="does not take uint8 images"):
        ort.OrtEngine(tmp_path / "other.onnx")


def test_an_operator_nobody_has_is_a_sentence(tmp_path: Path) -> None:
    import onnx

    ort.build(handmade.plain(), tmp_path)
    model = onnx.load(tmp_path / ort.MODEL)
    model.graph.node[0].op_type = "QLinearTeleport"
    onnx.save(model, tmp_path / ort.MODEL)
    with pytest.raises(EngineFailed, match=r"onnxruntime refuses .*model\.onnx"):
        ort.OrtEngine(tmp_path / ort.MODEL)


def test_codes_that_do_not_fit_a_byte_are_refused(tmp_path: Path) -> None:
    graph = handmade.residual()
    wide = replace(graph.tensors["block0.sum"], high=300)
    with pytest.raises(Unsupported, match=r"'block0\.add' holds codes 0 to 300"):
        ort.build(replace(graph, tensors=graph.tensors | {"block0.sum": wide}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_hidden_rescale_is_refused(tmp_path: Path) -> None:
    graph = handmade.plain()
    other = replace(graph.tensors["half"], scale=graph.tensors["half"].scale * 2)
    with pytest.raises(Unsupported, match="'pool1' passes its codes on"):
        ort.build(replace(graph, tensors=graph.tensors | {"half": other}), tmp_path)


def test_a_provider_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    ort.build(handmade.plain(), tmp_path)
    with pytest.raises(EngineFailed, match=r"has no QuantumExecutionProvider; it has .*CPU"):
        ort.OrtEngine(tmp_path / ort.QDQ_MODEL, provider="QuantumExecutionProvider")


def test_a_provider_that_only_says_it_is_there_never_runs_as_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As onnxruntime does where CUDA's libraries are missing: it lists CUDA and runs on the CPU."""
    import onnxruntime

    ort.build(handmade.plain(), tmp_path)
    listed = ["QuantumExecutionProvider", *onnxruntime.get_available_providers()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    seen: list[object] = []
    real = onnxruntime.InferenceSession

    def silently_on_the_cpu(model: bytes, options: object, providers: list[str]) -> object:
        seen.extend(providers)
        return real(model, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", silently_on_the_cpu)
    with pytest.raises(EngineFailed, match="on CPUExecutionProvider in place of Quantum"):
        ort.OrtEngine(tmp_path / ort.QDQ_MODEL, provider="QuantumExecutionProvider")
    assert seen == ["QuantumExecutionProvider"]


def test_what_another_provider_cannot_run_does_not_fall_back(tmp_path: Path) -> None:
    import onnxruntime

    others = set(onnxruntime.get_available_providers()) & {"AzureExecutionProvider"}
    if not others:
        pytest.skip("this onnxruntime has no provider without kernels to ask for")
    ort.build(handmade.plain(), tmp_path)
    with pytest.raises(EngineFailed, match="onnxruntime refuses"):
        ort.OrtEngine(tmp_path / ort.QDQ_MODEL, provider=others.pop())


def test_layers_that_may_saturate_without_vnni(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A signed 8-bit input (255 in its container) times weights beyond 64 can pass int16."""
    graph = handmade.residual(bits=8)
    assert isa.saturating_layers(graph) == ()
    stem = graph.nodes[0]
    assert isinstance(stem, g.Conv)
    heavy = stem.weight.copy()
    heavy.flat[0] = 65
    unsafe = replace(graph, nodes=(replace(stem, weight=heavy), *graph.nodes[1:]))
    assert isa.saturating_layers(unsafe) == ("stem",)
    monkeypatch.setattr(provenance, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert isa.may_saturate_here()
    made = ort.build(unsafe, tmp_path)
    assert any("stem" in note and "x64_quant_precision" in note for note in made.notes)
    with ort.OrtEngine(tmp_path / ort.MODEL, x64_quant_precision=True) as engine:
        assert engine.facts.notes == ()
