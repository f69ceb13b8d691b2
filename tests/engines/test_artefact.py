"""A file that ships, run as it is: its pixels, classes and facts, and ``verify --artefact``."""
# ruff: noqa: E402

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import typer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export.artefact import OrtArtefact

import foreign_files as foreign
from qadtr_edge import data
from qadtr_edge.cli.attack import attack
from qadtr_edge.cli.export import export
from qadtr_edge.cli.verify import verify
from qadtr_edge.engines import open_artefact, open_engine
from qadtr_edge.errors import BadInput, EngineFailed, Unsupported
from qadtr_edge.files import digest
from qadtr_edge.integer import graph_file, judge
from qadtr_edge.replay import engine_digest
from qadtr_edge.types import Engine, Labels


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return foreign.save(foreign.skip_only(), tmp_path / "model.onnx")


def pixels(count: int = 5) -> np.typing.NDArray[np.uint8]:
    return foreign.images(count, seed=9)[0]


def data_file(folder: Path, count: int = 60) -> Path:
    images, labels = foreign.images(count, seed=2)
    np.savez(folder / "data.npz", images=images.transpose(0, 2, 3, 1), labels=labels)
    return folder / "data.npz"


def test_it_answers_what_the_file_answers(shipped: Path) -> None:
    import onnxruntime as ort

    from qadtr_edge.data import preprocess

    options = ort.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(shipped), options, providers=["CPUExecutionProvider"])
    told = preprocess.read(shipped.with_suffix(".toml"))
    wanted = session.run(None, {"image": told(pixels())})[0]
    with open_artefact(shipped) as engine:
        assert isinstance(engine, Engine)
        assert (engine.image, engine.classes) == ((3, 16, 16), foreign.CLASSES)
        assert np.array_equal(engine(pixels()), wanted)
        assert engine.facts.digest == digest(shipped)
        assert engine.facts.options["session.qdqisint8allowed"] == "1"
    with pytest.raises(EngineFailed, match="closed"):
        engine(pixels())


def test_pixels_of_another_size_are_refused(shipped: Path) -> None:
    with open_artefact(shipped) as engine, pytest.raises(BadInput, match="takes uint8 images"):
        engine(pixels()[:, :, :8])


def test_an_unclear_input_is_answered_with_an_example(shipped: Path) -> None:
    shipped.with_suffix(".toml").unlink()
    with pytest.raises(BadInput, match="nothing says how pixels") as caught:
        open_artefact(shipped)
    _, _, example = caught.value.remedy.partition("example:")
    shipped.with_suffix(".toml").write_text(example)  # as it is told, so it is written
    with open_artefact(shipped) as engine:
        assert engine.image == (3, 16, 16)


def test_what_the_preprocessing_says_is_part_of_what_results_are_keyed_by(shipped: Path) -> None:
    with open_artefact(shipped) as engine:
        before = engine_digest(engine.facts)
    shipped.with_suffix(".toml").write_text(foreign.SIDECAR.replace("RGB", "BGR") + "\n# same\n")
    with open_artefact(shipped) as engine:
        assert engine_digest(engine.facts) == before
    shipped.with_suffix(".toml").write_text(foreign.SIDECAR_GRAY)
    with open_artefact(shipped) as engine:
        assert engine_digest(engine.facts) != before


def _fixed(*, batch: int, layout: str, extra: int) -> onnx.ModelProto:
    """uint8 in ``layout`` and of one batch size, with ``extra`` outputs in front."""
    n = foreign.Network(seed=3)
    dims = (batch, 3, 16, 16) if layout == "NCHW" else (batch, 16, 16, 3)
    grid = [n.constant("s", np.float32(1 / 64)), n.constant("z", np.uint8(120))]
    x = "image"
    if layout == "NHWC":
        x = n.node("Transpose", [x], "first", perm=[0, 3, 1, 2])
    x = n.node("DequantizeLinear", [x, *grid], "real")
    x = n.quantized(n.node("Relu", [n.coded(x, 3, 8, "stem")], "relu"), 0.05, name="a")
    x = n.node("GlobalAveragePool", [x], "pool")
    x = n.quantized(n.node("Reshape", [x, n.constant("to", np.array([-1, 8]))], "row"), 0.02,
                    name="b")  # fmt: skip
    weight = n.rng.normal(0, 1, (foreign.CLASSES + extra, 8))
    x = n.quantized(n.node("Gemm", [x, n.weights(weight, "fc")], "fc", transB=1), 0.02, name="c")
    return n.model(x, dims=dims, kind=2, classes=foreign.CLASSES + extra)


@pytest.mark.parametrize(("batch", "layout"), [(1, "NHWC"), (4, "NCHW"), (3, "NHWC")])
def test_fixed_batches_layouts_and_background_classes(
    batch: int, layout: str, tmp_path: Path
) -> None:
    model = _fixed(batch=batch, layout=layout, extra=1)
    sidecar = f'layout = "{layout}"\nscale = 1\nclass_offset = 1\n'
    path = foreign.save(model, tmp_path / "fixed.onnx", sidecar=sidecar)
    run = _exported(path, tmp_path)
    with open_artefact(path) as engine, open_engine(run, "ort", bits=8) as lowered:
        assert engine.classes == foreign.CLASSES
        assert np.array_equal(engine(pixels(7)), lowered(pixels(7)))


def _exported(path: Path, folder: Path, **more: str | Path) -> Path:
    export(onnx=path, runs=folder / "runs", **more)  # type: ignore[arg-type]
    (run,) = (folder / "runs").iterdir()
    return run


def test_export_writes_a_run(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(onnx=shipped, runs=tmp_path / "runs", data=str(data_file(tmp_path)), json=True)
    answer = json.loads(capsys.readouterr().out)
    run = Path(answer["run"])
    assert (run / "manifest.json").is_file()
    integers, floats = answer["results"]
    assert (integers["bits"], integers["precision"], integers["logit_mismatches"]) == (
        8, "integer", 0,
    )  # fmt: skip
    assert integers["same_class_as_file"] >= integers["images"] - 1  # one rounding more
    assert integers["images"] > 20
    assert (floats["bits"], floats["precision"]) == (32, "float")
    graph = graph_file.load(run / "graphs" / "w8a8.npz")
    assert graph.source["artefact"] == digest(shipped)
    with open_engine(run, "ort", bits=32) as real, open_artefact(shipped) as own:
        same = real(pixels(60)).argmax(1) == own(pixels(60)).argmax(1)
        assert same.mean() > 0.9  # the network without its rounding


def test_verify_compares_the_file_with_the_judge(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime runs signed layers with a ReLU in float, so the file may not be called INT8."""
    with pytest.raises(typer.Exit) as caught:
        verify(artefact=shipped, data=str(data_file(tmp_path)), json=True)
    assert caught.value.exit_code == 1
    row = json.loads(capsys.readouterr().out)
    assert row["precision"] == "float"
    assert {"stem", "branch", "sum"} <= set(row["float_layers"])
    assert row["logits_compared"] == row["images"] * foreign.CLASSES
    assert row["engine_digest"] == digest(shipped)


def test_verify_holds_for_a_file_that_runs_integers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = foreign.save(foreign.residual(), tmp_path / "float.onnx")
    path = tmp_path / "static.onnx"
    foreign.quantize_static(real, path, activations="QInt8", weights="QInt8", per_channel=True)
    source = str(data_file(tmp_path))
    verify(artefact=path, data=source, layers=True, json=True)
    row = json.loads(capsys.readouterr().out)
    assert (row["precision"], row["float_layers"], row["logit_mismatches"]) == ("integer", [], 0)
    shown = data.load(source, "test")
    with open_artefact(path) as engine:
        right = engine(shown.images).argmax(1) == shown.labels
    assert row["accuracy"] == right.mean()
    compared = [layer["layer"] for layer in row["layers"]]
    assert {"stem", "sum", "deep", "mean"} <= set(compared)
    assert all(layer["mismatches"] == 0 for layer in row["layers"])


def test_a_float_file_is_said_to_be_float(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.save(foreign.residual(), tmp_path / "float.onnx")
    with pytest.raises(typer.Exit):
        verify(artefact=path, data=str(data_file(tmp_path)), json=True)
    captured = capsys.readouterr()
    row = json.loads(captured.out)
    assert (row["precision"], row["bits"], row["logits_compared"]) == ("float", 32, 0)
    assert "has weights that are not quantized" in captured.err


def test_options_that_choose_in_a_run_are_refused_beside_a_file(shipped: Path) -> None:
    with pytest.raises(BadInput, match="--bits chooses among what a run holds"):
        verify(artefact=shipped, bits="8")
    with pytest.raises(BadInput, match="--model chooses"):
        export(onnx=shipped, model="zoo:plain-resnet8-signs")
    with pytest.raises(BadInput, match="--preprocess tells of a model made elsewhere"):
        verify(preprocess=shipped)


def test_labels_that_the_model_does_not_know_are_refused(shipped: Path, tmp_path: Path) -> None:
    images, labels = foreign.images(20, seed=2)
    np.savez(tmp_path / "more.npz", images=images.transpose(0, 2, 3, 1), labels=labels + 5)
    with pytest.raises(BadInput, match="tells 10 classes apart"):
        verify(artefact=shipped, data=str(tmp_path / "more.npz"))
    with pytest.raises(BadInput, match="which data set it is for"):
        verify(artefact=shipped)


def test_a_file_with_two_inputs_is_no_classifier(shipped: Path) -> None:
    model = onnx.load(shipped)
    model.graph.input.append(model.graph.input[0])
    model.graph.input[1].name = "other"
    foreign.save(model, shipped)
    with pytest.raises((Unsupported, EngineFailed)):
        OrtArtefact(shipped)


TINY, IMAGENET = "mlperf_tiny/converted_onnx", "imagenet_int8/converted_onnx"
REAL = {  # file: data set, images, its published accuracy on all of them, how close these come
    f"{TINY}/pretrainedResnet_quant.onnx": ("cifar10", 7980, 0.8732, 0.003),
    f"{TINY}/pretrainedResnet_large_int8.onnx": ("cifar10", 7980, 0.9158, 0.003),
    f"{IMAGENET}/mobilenet_v1_0.25_128_quant.onnx": ("imagenet", 500, 0.462, 0.003),
    f"{IMAGENET}/mobilenet_v1_0.5_160_quant.onnx": ("imagenet", 500, 0.676, 0.003),
    f"{IMAGENET}/tf2_mobilenet_v2_1.0_224_ptq.onnx": ("imagenet", 500, 0.888, 0.003),
}


def _samples(root: Path, side_px: int) -> tuple[np.typing.NDArray[np.uint8], Labels]:
    """The 500 pictures as the published figures saw them: both sides rounded, corner cut down.

    A pixel more or less in the resizing moves the smallest model by two points.
    """
    from PIL import Image

    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = np.empty((len(rows), 3, side_px, side_px), np.uint8)
    for index, row in enumerate(rows):
        with Image.open(root / "images" / row["file"]) as opened:
            picture = opened.convert("RGB")
        scale = round(side_px / 0.875) / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        left, top = (width - side_px) // 2, (height - side_px) // 2
        scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
        cut = scaled.crop((left, top, left + side_px, top + side_px))
        images[index] = np.asarray(cut).transpose(2, 0, 1)
    return images, np.array([int(row["class_index"]) for row in rows])


@pytest.mark.slow
@pytest.mark.needs("real_data")
@pytest.mark.parametrize("name", REAL)
def test_published_models_keep_their_accuracy(name: str, data_root: Path, tmp_path: Path) -> None:
    """Of the lowered engine, on integers; on a few images every bit of it is the judge's."""
    source, count, published, close = REAL[name]
    root = data_root / "imagenet_samples" if source == "imagenet" else data_root
    run = _exported(data_root / name, tmp_path, data=source, data_root=root)
    graph = graph_file.load(run / "graphs" / "w8a8.npz")
    side_px = graph.tensors[graph.input].shape[1]
    if source == "imagenet":
        images, labels = _samples(root, side_px)
    else:
        shown = data.load(source, "test", root=root)
        images, labels = shown.images, shown.labels
    assert len(images) == count
    with open_engine(run, "ort", bits=8) as engine:
        assert (engine.facts.precision, engine.facts.float_layers) == ("integer", ())
        right = sum(
            int((engine(images[i : i + 64]).argmax(1) == labels[i : i + 64]).sum())
            for i in range(0, count, 64)
        )
        few = images[:4]
        assert np.array_equal(engine(few), judge.run(graph, few))
    assert abs(right / count - published) <= close, right / count
    with open_artefact(data_root / name) as own:
        assert own.facts.precision == "integer"
        theirs = own(few).argmax(1)
    assert np.array_equal(theirs, judge.run(graph, few).argmax(1))


def test_a_file_that_ships_is_attacked_as_it_is(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shipped.read_bytes()
    asked = {
        "artefact": shipped, "runs": tmp_path / "kept", "data": str(data_file(tmp_path, 400)),
        "images": 24, "steps": 3, "attack": "gap,patch_rs", "queries": 30, "json": True,
        "patch_size": "4",
    }  # fmt: skip
    attack(**asked)
    answer = json.loads(capsys.readouterr().out)
    rows = {row["attack"]: row for row in answer["results"]}
    assert {"gap", "patch_rs", "grey", "noise"} <= set(rows)
    assert {row["engine_digest"] for row in answer["results"]} == {digest(shipped)}
    assert rows["gap"]["knowledge"] == "simulation", "its integers are known"
    assert rows["patch_rs"]["fooled"] > 0
    assert shipped.read_bytes() == before
    attack(**asked)
    assert json.loads(capsys.readouterr().out) == answer
    with pytest.raises(BadInput, match="--run chooses among what a run holds"):
        attack(artefact=shipped, run=tmp_path)
    with pytest.raises(BadInput, match="Give --data NAME"):
        attack(artefact=shipped, runs=tmp_path / "kept")
