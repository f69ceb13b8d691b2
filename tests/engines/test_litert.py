"""LiteRT: shipped files run as they are; what they read, answer and run in is told truly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qadtr_edge.export import litert

import handmade
import samples
import tflite_files
from qadtr_edge import registry
from qadtr_edge.data.preprocess import raw
from qadtr_edge.engines import open_artefact
from qadtr_edge.errors import BadInput, EngineFailed, Unsupported
from qadtr_edge.files import digest

pytestmark = pytest.mark.needs("litert")


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_integer_file_reads_the_raw_pixels(kind: str, threads: int, tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", kind)
    images = handmade.images(7)
    with open_artefact(path, "litert", threads=threads) as engine:
        assert (engine.image, engine.classes) == ((3, 8, 8), 4)
        logits = engine(images)
        facts = engine.facts
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, tflite_files.expected(images))
    assert (facts.engine, facts.precision, facts.float_layers) == ("litert", "integer", ())
    assert (facts.integer_kernels, facts.bits, facts.digest) == (1, 8, digest(path))
    assert facts.options["num_threads"] == threads
    assert facts.runtime.startswith("ai-edge-litert ")


def test_told_real_values_are_quantized_by_the_files_own_scale(tmp_path: Path) -> None:
    """Scale 1 and zero point -128: a real value v is the code v - 128, and saturates."""
    path = tflite_files.pixels(tmp_path / "model.tflite", "int8")
    (tmp_path / "model.toml").write_text('layout = "NHWC"\nscale = 2.0\noffset = -100.4\n')
    images = handmade.images(5)
    with open_artefact(path, "litert") as engine:
        answers = engine(images)
    reals = np.rint(2.0 * tflite_files.expected(images) - 100.4).clip(0, 255)
    np.testing.assert_array_equal(answers, reals)


def test_a_float_file_needs_to_be_told(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", "float32")
    with pytest.raises(BadInput, match="nothing says how pixels become"):
        litert.LiteRtEngine(path)
    images = handmade.images(5)
    with litert.LiteRtEngine(path, preprocess=raw("NHWC")) as engine:
        np.testing.assert_array_equal(engine(images), tflite_files.expected(images))
        assert (engine.facts.precision, engine.facts.bits) == ("float", 32)
        assert engine.facts.float_layers == ("chosen",)


def test_a_float_product_inside_is_named(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", float_product=True)
    with litert.LiteRtEngine(path) as engine:
        assert (engine.facts.precision, engine.facts.float_layers) == ("mixed", ("in float",))


def test_the_background_of_1001_outputs_is_left_out(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", outputs=1001)
    images = handmade.images(3)
    with litert.LiteRtEngine(path) as engine:
        assert engine.classes == 1000
        expected = tflite_files.expected(images, outputs=1001)[:, 1:]
        np.testing.assert_array_equal(engine(images), expected)
        assert any("1 of 1001" in note for note in engine.facts.notes)


def test_probabilities_are_called_so(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", softmax=True)
    with litert.LiteRtEngine(path) as engine:
        answers = engine(handmade.images(20))
        assert np.abs(answers.sum(1) - 1).max() <= 4 / 256
        assert any("probabilities in steps of 0.0039" in note for note in engine.facts.notes)


def test_answers_do_not_depend_on_company_and_no_image_is_no_answer(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite", softmax=True)
    images = handmade.images(5)
    with litert.LiteRtEngine(path) as engine:
        whole = engine(images)
        np.testing.assert_array_equal(engine(images[::-1]), whole[::-1])
        assert engine(images[:0]).shape == (0, 4)


def test_after_close_every_call_is_an_error(tmp_path: Path) -> None:
    engine = litert.LiteRtEngine(tflite_files.pixels(tmp_path / "model.tflite"))
    engine.close()
    with pytest.raises(EngineFailed, match="is closed"):
        engine(handmade.images(1))
    with pytest.raises(EngineFailed, match="is closed"):
        _ = engine.facts


def test_images_of_another_kind_are_a_sentence(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite")
    with (
        litert.LiteRtEngine(path) as engine,
        pytest.raises(BadInput, match=r"takes uint8 images \(N, 3, 8, 8\)"),
    ):
        engine(handmade.images(2, size=9))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "absent"])
def test_a_damaged_file_is_a_sentence(damage: str, tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite")
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            path.write_bytes(np.random.default_rng(0).bytes(5000))
        case "empty":
            path.write_bytes(b"")
        case _:
            path.unlink()
    with pytest.raises((BadInput, EngineFailed), match=r"model\.tflite"):
        litert.LiteRtEngine(path)


def test_its_integers_are_not_compared_and_that_is_said(tmp_path: Path) -> None:
    path = tflite_files.pixels(tmp_path / "model.tflite")
    with pytest.raises(Unsupported, match="not read as an integer graph"):
        litert.compare(path, images=handmade.images(1), on_batch=lambda count: None)
    assert "litert" in registry.names("artefact")
    assert "litert" not in registry.names("builder"), "nothing is built for it"


# -- files that nobody in this project made --------------------------------------------------------


@pytest.mark.needs("real_data")
@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("pretrainedResnet_quant", 0.8732),
        pytest.param("pretrainedResnet_large_int8", 0.9158, marks=pytest.mark.slow),
    ],
)
def test_mlperf_tiny_files_keep_their_accuracy(name: str, accuracy: float, data_root: Path) -> None:
    """On the 7,980 test images, within 0.3 points of what their publication here was checked at."""
    from qadtr_edge.data import load

    data = load("cifar10", "test", root=data_root)
    with litert.LiteRtEngine(data_root / f"mlperf_tiny/{name}.tflite") as engine:
        assert (engine.facts.precision, engine.facts.float_layers) == ("integer", ())
        found = float((engine(data.images).argmax(1) == data.labels).mean())
    assert abs(found - accuracy) <= 0.003


@pytest.mark.needs("real_data", "ort")
@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("mobilenet_v1_0.25_128_quant", 0.462),
        pytest.param("mobilenet_v1_0.5_160_quant", 0.676, marks=pytest.mark.slow),
        pytest.param("tf2_mobilenet_v2_1.0_224_ptq", 0.888, marks=pytest.mark.slow),
    ],
)
def test_coral_files_keep_their_accuracy_and_agree_with_onnxruntime(
    name: str, accuracy: float, data_root: Path
) -> None:
    """Within 0.3 points on 500 images; the same file as Q/DQ ONNX gives the same classes.

    Not on all: the ONNX file rounds its products in another order.
    """
    folder = data_root / "imagenet_int8"
    with (
        litert.LiteRtEngine(folder / f"{name}.tflite") as engine,
        open_artefact(folder / f"converted_onnx/{name}.onnx", "ort") as other,
    ):
        images, labels = samples.imagenet(data_root / "imagenet_samples", engine.image[1])
        ours, theirs = engine(images).argmax(1), other(images).argmax(1)
        assert engine.facts.precision == "integer"
    assert (ours == theirs).mean() >= 0.97
    assert abs(float((ours == labels).mean()) - accuracy) <= 0.003
