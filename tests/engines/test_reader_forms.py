"""Other spellings of quantized files: fused operators, padding, slices, 4-bit weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from qadtr_edge.export import artefact_parity, ort, reader, reader_head

import foreign_files as foreign
import foreign_forms as forms
import handmade
from golden import make_brevitas
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.errors import Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge

SAME = 0.995  # of images: what a reader must keep of a file's own predictions

FUSED = {  # activations, weights, per channel
    "U8S8 per channel": ("QUInt8", "QInt8", True),
    "U8U8": ("QUInt8", "QUInt8", False),
    "S8S8 per channel": ("QInt8", "QInt8", True),
}

UNREAD = {"swish": "QLinearAdd 'hswish.add' ", "join": "Concat 'join' "}
"""A sum with a constant, and codes joined as they are: nothing but our own files has them."""


def lowered(path: Path) -> reader.Lowered:
    return reader.lower(path, preprocess=agreed(path, None))


def own_answers(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """onnxruntime on the file as it is, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    told = agreed(path, None)
    assert told is not None
    answers: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: told(pixels)})[
        0
    ]
    return answers


def check(path: Path, folder: Path) -> g.IntegerGraph:
    """The file's classes, and the engine's bits, are the judge's."""
    pixels, _ = make_brevitas.images(400, seed=2)
    graph = lowered(path).graph
    ours = judge.run(graph, pixels)
    assert (ours.argmax(1) == own_answers(path, pixels).argmax(1)).mean() >= SAME
    facts = ort.build(graph, folder)
    assert (facts.precision, facts.float_layers) == ("integer", ())
    with ort.OrtEngine(folder / ort.MODEL) as engine:
        np.testing.assert_array_equal(engine(pixels), ours)
    return graph


@pytest.mark.parametrize("kind", FUSED)
def test_the_operator_format_of_quantize_static(kind: str, tmp_path: Path) -> None:
    source = foreign.save(foreign.residual(), tmp_path / "float.onnx")
    activations, weights, per_channel = FUSED[kind]
    path = tmp_path / "fused.onnx"
    foreign.quantize_static(
        source, path, activations=activations, weights=weights, per_channel=per_channel,
        form="QOperator",
    )  # fmt: skip
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm"} <= kinds
    found = lowered(path)
    assert found.nodes == len(onnx.load(path).graph.node)
    check(path, tmp_path / "engine")
    pixels, _ = make_brevitas.images(64, seed=2)
    own = artefact_parity.compare(path, images=pixels, preprocess=agreed(path, None), trace=True)
    assert (own.logits_compared, own.logit_mismatches) == (64 * foreign.CLASSES, 0)
    assert len(own.layers) > 5


@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_our_own_operator_form_is_read_back(name: str, tmp_path: Path) -> None:
    """The fused operators that we write, with the judge's bits as the reference."""
    graph = handmade.GRAPHS[name]()
    ort.build(graph, tmp_path)
    if name in UNREAD:
        with pytest.raises(Unsupported, match=UNREAD[name]):
            reader.lower(tmp_path / ort.MODEL)
        return
    found = reader.lower(tmp_path / ort.MODEL)
    images = handmade.images(40)
    np.testing.assert_array_equal(judge.run(found.graph, images), judge.run(graph, images))


def test_a_shortcut_of_slices_and_a_pad(tmp_path: Path) -> None:
    graph = check(foreign.save(forms.shortcut(), tmp_path / "file.onnx"), tmp_path / "engine")
    kinds = [type(node) for node in graph.nodes]
    assert (kinds.count(g.Subsample), kinds.count(g.PadChannels)) == (2, 1)


def test_padding_of_its_own_is_the_convolutions(tmp_path: Path) -> None:
    graph = check(foreign.save(forms.framed(), tmp_path / "file.onnx"), tmp_path / "engine")
    convs = [node for node in graph.nodes if isinstance(node, g.Conv)]
    assert [node.padding for node in convs] == [(1, 1, 1, 1), (2, 2, 2, 2)]


def test_zeros_before_a_maximum_are_its_padding(tmp_path: Path) -> None:
    path = foreign.save(forms.framed_maximum(), tmp_path / "file.onnx")
    graph = check(path, tmp_path / "engine")
    assert [node.padding for node in graph.nodes if isinstance(node, g.MaxPool)] == [(1, 1, 1, 1)]
    path = foreign.save(forms.framed_maximum(zero=100), tmp_path / "below.onnx")
    with pytest.raises(Unsupported, match="MaxPool 'half' reads values below the zeros"):
        lowered(path)


def test_padding_with_something_else_than_zero_is_named(tmp_path: Path) -> None:
    path = foreign.save(forms.framed(fill=1.0), tmp_path / "file.onnx")
    with pytest.raises(Unsupported, match="Pad 'frame' pads with 1, which is not zero there"):
        lowered(path)


@pytest.mark.parametrize("start", [1, 3])
def test_a_cut_is_named(start: int, tmp_path: Path) -> None:
    model = forms.shortcut()
    held = next(x for x in model.graph.initializer if x.name == "rows.start")
    held.CopyFrom(onnx.numpy_helper.from_array(np.array([start]), held.name))
    path = foreign.save(model, tmp_path / "file.onnx")
    with pytest.raises(Unsupported, match="Slice 'rows' cuts out a part of a tensor"):
        lowered(path)


def test_a_cut_among_the_images_is_named(tmp_path: Path) -> None:
    """``x[:1]`` of a batch: a network that answers for its first image only."""
    model = forms.shortcut()
    for held in model.graph.initializer:
        if held.name in {"all.axis", "all.end"}:
            value = 0 if held.name == "all.axis" else 1
            held.CopyFrom(onnx.numpy_helper.from_array(np.array([value]), held.name))
    with pytest.raises(Unsupported, match="Slice 'all' cuts out a part of a tensor"):
        lowered(foreign.save(model, tmp_path / "file.onnx"))


@pytest.mark.parametrize("kind", ["INT4", "UINT4"])
def test_four_bit_weights(kind: str, tmp_path: Path) -> None:
    graph = check(foreign.save(forms.four_bit(kind), tmp_path / "file.onnx"), tmp_path / "engine")
    for node in graph.nodes:
        if isinstance(node, g.Conv):
            assert np.abs(node.weight).max() == 7


def test_weights_in_blocks_are_named(tmp_path: Path) -> None:
    model = forms.four_bit("INT4")
    node = next(node for node in model.graph.node if node.name == "deep.wdq")
    node.attribute.append(onnx.helper.make_attribute("block_size", 4))
    path = foreign.save(model, tmp_path / "file.onnx")
    with pytest.raises(Unsupported, match=r"DequantizeLinear 'deep\.wdq' has weights .* in blocks"):
        lowered(path)


def test_a_last_product_in_float_gets_8_bits_and_its_mean_is_not_rounded(tmp_path: Path) -> None:
    path = foreign.save(forms.float_head(), tmp_path / "file.onnx")
    graph = check(path, tmp_path / "engine")
    assert any("the last product is in float" in note for note in graph.notes)
    head = graph.nodes[-1]
    assert isinstance(head, g.Linear)
    assert head.weight.shape == (foreign.CLASSES, 24 * 8 * 8)
    pixels, _ = make_brevitas.images(50, seed=2)
    ours, theirs = judge.run(graph, pixels), own_answers(path, pixels)
    assert np.abs(ours - theirs).max() <= 0.01 * float(theirs.max() - theirs.min())


def test_before_a_large_product_the_mean_is_rounded_to_its_own_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_head, "MOST_WEIGHTS", foreign.CLASSES * 24 * 8 * 8 - 1)
    path = foreign.save(forms.float_head(), tmp_path / "file.onnx")
    graph = lowered(path).graph
    assert any("the mean before the last product" in note for note in graph.notes)
    [pool] = [node for node in graph.nodes if isinstance(node, g.GlobalAveragePool)]
    x, y = graph.tensors[pool.x], graph.tensors[pool.y]
    assert (x.scale, x.zero_point, x.low, x.high) == (y.scale, y.zero_point, y.low, y.high)
    pixels, _ = make_brevitas.images(50, seed=2)
    means = foreign.simulated(path, pixels, value="mean")
    codes = judge.trace(graph, pixels)[pool.y]
    assert np.abs(codes - means / y.scale).max() <= 0.5001
    facts = ort.build(graph, tmp_path / "engine")
    assert (facts.precision, facts.float_layers) == ("integer", ())


def test_float_weights_before_the_last_product_are_named(tmp_path: Path) -> None:
    """Only the head is rounded here: the rest is the quantizer's work."""
    model = foreign.skip_only()
    node = next(node for node in model.graph.node if node.name == "branch")
    node.input[1] = "branch.weight"
    with pytest.raises(Unsupported, match="Conv 'branch' has weights that are not quantized"):
        lowered(foreign.save(model, tmp_path / "file.onnx"))


def without_a_scale(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    del node.input[4:]


def renamed_to_nothing(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "QLinearAdd").input[1] = ""


def channels_last(model: onnx.ModelProto) -> None:
    node = next(x for x in model.graph.node if x.op_type == "QLinearGlobalAveragePool")
    next(a for a in node.attribute if a.name == "channels_last").i = 1


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (without_a_scale, "QLinearConv .* lacks an operand or its scale"),
        (renamed_to_nothing, "QLinearAdd .* lacks an operand or its scale"),
        (channels_last, "QLinearGlobalAveragePool .* holds its channels last"),
    ],
)
def test_a_broken_fused_operator_is_named(
    plant: Callable[[onnx.ModelProto], None], told: str, tmp_path: Path
) -> None:
    source = foreign.save(foreign.residual(), tmp_path / "float.onnx")
    path = tmp_path / "fused.onnx"
    foreign.quantize_static(
        source, path, activations="QUInt8", weights="QInt8", per_channel=True, form="QOperator"
    )
    model = onnx.load(path)
    plant(model)
    onnx.save(model, path)
    with pytest.raises(Unsupported, match=told):
        lowered(path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("rows.start", np.array([0.0]), "Slice 'rows' has 'rows.start', which is of float64"),
        ("rows.step", np.array([2, 2]), "Slice 'rows' names not as many starts as"),
        ("rows.step", np.array([0]), "Slice 'rows' cuts out a part"),
        ("wide.sides", np.array([0, 4, 0]), "Pad 'wide' has 3 sides to pad for 4 axes"),
        ("wide.sides", np.array([0, -1, 0, 0, 0, 0, 0, 0]), "Pad 'wide' pads with something else"),
        ("wide.sides", np.array([0, 0, 1, 0, 0, 0, -1, 0]), "Pad 'wide' pads with something else"),
        ("wide.sides", np.array([0, 2**40, 0, 0, 0, 0, 0, 0]), "Pad 'wide' makes 1099511627784x8"),
    ],
)
def test_slices_and_pads_that_make_no_sense_are_named(
    name: str, value: NDArray[np.generic], told: str, tmp_path: Path
) -> None:
    model = forms.shortcut()
    held = next(x for x in model.graph.initializer if x.name == name)
    held.CopyFrom(onnx.numpy_helper.from_array(value, name))
    with pytest.raises(Unsupported, match=told):
        lowered(foreign.save(model, tmp_path / "file.onnx"))
