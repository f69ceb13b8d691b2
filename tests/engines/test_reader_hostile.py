"""Files that are broken or meant to break: one sentence each, no crash, nothing left behind."""
# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export import reader
from qadtr_edge.export.artefact import OrtArtefact

import foreign_files as foreign
from qadtr_edge.cli.export import export
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.errors import BadInput, QadtrError, Unsupported

Spoil = Callable[["onnx.ModelProto", Path], None]


def _tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(t for t in model.graph.initializer if t.name == name)
    return found


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in model.graph.node if n.name == name)
    return found


def _huge_weights(model: onnx.ModelProto, folder: Path) -> None:
    _tensor(model, "stem.weight").dims[0] = 2**40


def _huge_image(model: onnx.ModelProto, folder: Path) -> None:
    for index in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = 10**6


def _truncated_weights(model: onnx.ModelProto, folder: Path) -> None:
    tensor = _tensor(model, "branch.weight")
    tensor.raw_data = tensor.raw_data[:-7]


def _circle(model: onnx.ModelProto, folder: Path) -> None:
    _node(model, "stem.relu").input[0] = "sum"


def _nowhere(model: onnx.ModelProto, folder: Path) -> None:
    _node(model, "sum").input[1] = "nothing"


def _external(model: onnx.ModelProto, location: str) -> None:
    tensor = _tensor(model, "stem.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _external_missing(model: onnx.ModelProto, folder: Path) -> None:
    _external(model, "weights.bin")


def _external_outside(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(8 * 27 * 4))
    _external(model, "../secret.bin")


def _external_link(model: onnx.ModelProto, folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(8 * 27 * 4))
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    _external(model, "link.bin")


def _external_short(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"few")
    _external(model, "weights.bin")


def _huge_kernel(model: onnx.ModelProto, folder: Path) -> None:
    _node(model, "pool").attribute[0].ints[0] = 2**40


def _huge_padding(model: onnx.ModelProto, folder: Path) -> None:
    conv = _node(model, "stem")
    next(a for a in conv.attribute if a.name == "pads").ints[0] = 2**31


def _negative_scale(model: onnx.ModelProto, folder: Path) -> None:
    _tensor(model, "b.scale").CopyFrom(onnx.numpy_helper.from_array(np.float32(-1), "b.scale"))


def _no_number(model: onnx.ModelProto, folder: Path) -> None:
    _tensor(model, "a.scale").CopyFrom(onnx.numpy_helper.from_array(np.float32("nan"), "a.scale"))


def _two_writers(model: onnx.ModelProto, folder: Path) -> None:
    model.graph.node.append(_node(model, "act"))


def _no_nodes(model: onnx.ModelProto, folder: Path) -> None:
    del model.graph.node[:]


SPOILED: dict[str, tuple[Spoil, str]] = {
    "huge weights": (_huge_weights, "beyond what a classifier holds"),
    "huge image": (_huge_image, "1000000 x 1000000 pixels"),
    "truncated weights": (_truncated_weights, "damaged tensor 'branch.weight'"),
    "circle": (_circle, "read each other in a circle"),
    "value from nowhere": (_nowhere, "reads 'nothing', which is nowhere"),
    "external data missing": (_external_missing, "'weights.bin', which is not there"),
    "external data outside": (_external_outside, "'../secret.bin', outside its folder"),
    "external data behind a link": (_external_link, "'link.bin', outside its folder"),
    "external data too short": (_external_short, "damaged tensor 'stem.weight'"),
    "huge kernel": (_huge_kernel, "AveragePool 'pool' has a window larger than its image"),
    "huge padding": (_huge_padding, "QuantizeLinear 'a.q' makes 8x2147483663x16 values"),
    "negative scale": (_negative_scale, "has the scale -1.0"),
    "scale that is no number": (_no_number, "has the scale nan"),
    "two writers": (_two_writers, "two nodes write one value"),
    "no network": (_no_nodes, "holds no network"),
}


@pytest.fixture(scope="module")
def whole() -> onnx.ModelProto:
    return foreign.skip_only()


def spoiled(name: str, whole: onnx.ModelProto, folder: Path) -> Path:
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    inside = folder / "model"
    inside.mkdir()
    SPOILED[name][0](model, inside)
    return foreign.save(model, inside / "spoiled.onnx")


@pytest.mark.parametrize("name", SPOILED)
def test_one_sentence_says_what_is_wrong(name: str, whole: onnx.ModelProto, tmp_path: Path) -> None:
    path = spoiled(name, whole, tmp_path)
    with pytest.raises(QadtrError) as caught:
        reader.lower(path, preprocess=agreed(path, None))
    assert SPOILED[name][1] in caught.value.fact
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in SPOILED if name.startswith("external")])
def test_the_engine_refuses_such_data_too(
    name: str, whole: onnx.ModelProto, tmp_path: Path
) -> None:
    path = spoiled(name, whole, tmp_path)
    with pytest.raises(QadtrError):
        OrtArtefact(path, preprocess=agreed(path, None))


def test_data_beside_the_file_is_read(whole: onnx.ModelProto, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    content = _tensor(model, "stem.weight").raw_data
    (tmp_path / "weights.bin").write_bytes(content)
    plain = foreign.save(whole, tmp_path / "plain.onnx")
    _external(model, "weights.bin")
    path = foreign.save(model, tmp_path / "model.onnx")
    told = agreed(path, None)
    one, other = (reader.lower(p, preprocess=told).graph for p in (plain, path))
    for left, right in zip(one.nodes[1:], other.nodes[1:], strict=True):
        assert np.array_equal(getattr(left, "weight", 0), getattr(right, "weight", 0))
    pixels, _ = foreign.images(4, seed=1)
    with OrtArtefact(plain, preprocess=told) as a, OrtArtefact(path, preprocess=told) as b:
        assert np.array_equal(a(pixels), b(pixels))
        assert a.facts.options != b.facts.options  # the other file's digest is part of the key


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", bytes(1000)])
def test_other_bytes_are_no_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(QadtrError, match=r"not an ONNX file|holds no network"):
        reader.lower(path)


def test_a_failing_export_leaves_no_run(whole: onnx.ModelProto, tmp_path: Path) -> None:
    path = spoiled("circle", whole, tmp_path)
    with pytest.raises(BadInput, match="circle"):
        export(onnx=path, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_engine_that_refuses_leaves_no_run(
    whole: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the run was begun takes the run with it."""

    def refuse(*_: object, **__: object) -> None:
        raise Unsupported("No.", "Never.")

    path = foreign.save(whole, tmp_path / "whole.onnx")
    monkeypatch.setattr("qadtr_edge.export.ort.build", refuse)
    with pytest.raises(Unsupported, match="No"):
        export(onnx=path, runs=tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
