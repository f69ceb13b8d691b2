"""Asymmetric files on symmetric integers: what changes, what stays, and that TensorRT builds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export import dialects, lint, ort, reader, symmetric, symmetric_mean, trt_form

import foreign_files as foreign
import handmade
from golden import make_brevitas
from qadtr_edge import runs
from qadtr_edge.cli.export import export
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.errors import BadInput, UnknownName, Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge
from qadtr_edge.types import QuantSpec

KINDS = {
    "U8S8 per channel": ("QUInt8", "QInt8", True, False),
    "S8S8 asymmetric": ("QInt8", "QInt8", True, False),
    "U8U8": ("QUInt8", "QUInt8", False, False),
}


@pytest.fixture(scope="module", params=KINDS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asymmetric")
    source = foreign.save(foreign.residual(), folder / "float.onnx")
    activations, weights, per_channel, is_symmetric = KINDS[request.param]
    foreign.quantize_static(
        source, folder / "file.onnx", activations=activations, weights=weights,
        per_channel=per_channel, symmetric=is_symmetric,
    )  # fmt: skip
    return folder / "file.onnx"


@pytest.fixture
def lowered(file: Path) -> reader.Lowered:
    return reader.lower(file, preprocess=agreed(file, None))


def test_every_range_is_covered_and_every_limit_kept(lowered: reader.Lowered) -> None:
    made = symmetric.symmetric(lowered.graph, pixels=lowered.pixels)
    assert symmetric.asymmetry(lowered.graph) is not None
    assert symmetric.asymmetry(made) is None
    assert made.spec.activations == "signed"
    for name, old in lowered.graph.tensors.items():
        new = made.tensors[name]
        if name == made.input:
            assert (new.zero_point, new.low, new.high) == (128, -128, 127)
            continue
        for ours, theirs in ((new.low, old.low), (new.high, old.high)):
            assert abs(ours * new.scale - theirs * old.scale) <= 0.5001 * new.scale
        assert new.scale >= old.scale
    for node in made.nodes:
        if isinstance(node, g.MaxPool | g.Flatten):
            assert dialects.same_grid(made.tensors[node.x], made.tensors[node.y])


def test_weights_within_int8_keep_codes_and_scales(lowered: reader.Lowered) -> None:
    made = symmetric.symmetric(lowered.graph, pixels=lowered.pixels)
    for old, new in zip(_products(lowered.graph), _products(made), strict=True):
        assert new.weight.dtype == np.int8
        if old.weight.dtype == np.int8:
            np.testing.assert_array_equal(new.weight, old.weight)
            np.testing.assert_array_equal(new.weight_scale, old.weight_scale)
        shape = (-1, *[1] * (old.weight.ndim - 1))
        reals = [n.weight * n.weight_scale.reshape(shape).astype(np.float64) for n in (old, new)]
        assert np.abs(reals[0] - reals[1]).max() <= 0.5001 * new.weight_scale.max()


def _products(graph: g.IntegerGraph) -> list[g.Conv | g.Linear]:
    return [node for node in graph.nodes if isinstance(node, g.Conv | g.Linear)]


def test_it_is_the_same_network_by_its_logits(lowered: reader.Lowered) -> None:
    """Coarser steps move logits a little; another bias, scale or table moves them a lot."""
    pixels, _ = make_brevitas.images(200, seed=2)
    made = symmetric.symmetric(lowered.graph, pixels=lowered.pixels)
    ours, theirs = judge.run(made, pixels), judge.run(lowered.graph, pixels)
    assert np.abs(ours - theirs).mean() <= 0.02 * float(theirs.max() - theirs.min())
    table = next(i for i, node in enumerate(made.nodes) if isinstance(node, g.PixelTable))
    node = made.nodes[table]
    assert isinstance(node, g.PixelTable)
    planted = replace(node, table=(node.table // 2).astype(np.int16))
    bent = replace(made, nodes=(*made.nodes[:table], planted, *made.nodes[table + 1 :]))
    other = judge.run(bent, pixels)
    assert np.abs(other - theirs).mean() > 0.02 * float(theirs.max() - theirs.min())


def test_onnxruntime_computes_it_bit_for_bit(lowered: reader.Lowered, tmp_path: Path) -> None:
    made = symmetric.symmetric(lowered.graph, pixels=lowered.pixels)
    facts = ort.build(made, tmp_path)
    assert (facts.precision, facts.float_layers) == ("integer", ())
    pixels, _ = make_brevitas.images(60, seed=2)
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        np.testing.assert_array_equal(engine(pixels), judge.run(made, pixels))


def test_without_it_tensorrt_is_refused_with_this_remedy(lowered: reader.Lowered) -> None:
    with pytest.raises(Unsupported, match="only int8 at zero point 0") as caught:
        trt_form.spell_signed(lowered.graph, digest="d")
    assert "--requantize symmetric" in caught.value.remedy
    model = trt_form.spell_signed(
        symmetric.symmetric(lowered.graph, pixels=lowered.pixels), digest="d"
    )
    assert lint.findings(model) == []


def test_what_int8_holds_is_left_as_it_is(tmp_path: Path) -> None:
    path = foreign.save(foreign.skip_only(), tmp_path / "skip.onnx", sidecar=foreign.SIDECAR_GRAY)
    lowered = reader.lower(path, preprocess=agreed(path, None))
    assert lowered.graph.spec.activations == "signed"
    assert symmetric.symmetric(lowered.graph, pixels=lowered.pixels) is lowered.graph
    assert lint.findings(trt_form.spell_signed(lowered.graph, digest="d")) == []


def _by_hand(*, mean: tuple[float, int, int] = (0.1, 0, 255)) -> tuple[g.IntegerGraph, g.Float32]:
    """Bytes x 0.1, a 1x1 convolution to codes 0 to 255 of 0.1, a mean on that grid, a product."""
    scale, low, high = mean
    tensors = [
        g.Tensor("images", (3, 1, 2), float(np.float32(0.1)), 0, 255),
        g.Tensor("act", (1, 1, 2), float(np.float32(0.1)), 0, 255),
        g.Tensor("mean", (1, 1, 1), float(np.float32(scale)), low, high),
        g.Tensor("row", (1,), float(np.float32(scale)), low, high),
    ]
    one = np.ones(1, np.float32)
    sums = np.array([[200], [-50]], np.int16)
    nodes = (
        g.Conv("act", "images", "act", np.array([[[[1]], [[0]], [[0]]]], np.int8), one,
               np.array([100], np.int32)),
        g.GlobalAveragePool("mean", "act", "mean"),
        g.Flatten("row", "mean", "row"),
        g.Linear("fc", "row", "logits", sums, np.float32([0.5, 0.5]), np.array([30, 9], np.int32)),
    )  # fmt: skip
    graph = g.IntegerGraph(
        nodes, {x.name: x for x in tensors}, "images", "logits", 2,
        QuantSpec(activations="unsigned"), {},
    )  # fmt: skip
    reals = np.float32(0.1) * np.arange(256, dtype=np.float32)
    return graph, np.tile(reals, (3, 1))


def test_one_case_by_hand() -> None:
    """Steps grow by 255/127: codes 0 to 127; biases shrink by it; 200 becomes 127; -50 stays."""
    graph, pixels = _by_hand()
    made = symmetric.symmetric(graph, pixels=pixels)
    table, conv, row, head = made.nodes
    step = float(np.float32(np.float32(0.1) * 255 / 127))
    for name in ("pixels", "act", "row"):
        x = made.tensors[name]
        assert (x.low, x.high) == (0, 127)
        assert x.scale == pytest.approx(step, rel=1e-6)
    assert isinstance(table, g.PixelTable)
    assert table.table[0, [0, 1, 2, 100, 255]].tolist() == [0, 0, 1, 50, 127]  # byte * 127 / 255
    assert isinstance(conv, g.Conv)
    assert conv.bias.tolist() == [50]  # 100 * 127 / 255 = 49.8
    assert isinstance(row, g.Flatten)
    assert (row.x, made.tensors["row"].shape) == ("act", (2,))
    assert isinstance(head, g.Linear)
    assert head.weight.tolist() == [[127, 127], [-50, -50]]
    np.testing.assert_allclose(head.weight_scale, [0.5 * 200 / 127 / 2, 0.25], rtol=1e-6)
    # 30 * 2 / (200/127) * 127/255 = 18.97; 9 * 2 * 127/255 = 8.96: in steps of x times w
    assert head.bias.tolist() == [19, 9]
    image = np.array([[[[100, 255]], [[7, 7]], [[7, 7]]]], np.uint8)
    # 50 + 50 and 127 + 50, limited to 127: (100 + 127) * 127 + 19 and 227 * -50 + 9
    wanted = np.array([[28848, -11341]]) * step * head.weight_scale
    np.testing.assert_allclose(judge.run(made, image), wanted, rtol=1e-6)


def test_a_mean_inside_its_product_is_the_mean() -> None:
    """Of the real numbers: within half a step of the file's rounded mean, times its weight."""
    graph, _ = _by_hand()
    made = symmetric_mean.with_means_inside(graph)
    assert not any(isinstance(node, g.GlobalAveragePool) for node in made.nodes)
    pixels = np.random.default_rng(0).integers(0, 150, (50, 3, 1, 2), np.uint8)
    sums = (pixels[:, 0, 0].astype(int) + 100).sum(1, keepdims=True)
    exact = 0.05 * (sums / 2 * [200, -50] + [30, 9])
    np.testing.assert_allclose(judge.run(made, pixels), exact, rtol=1e-5)
    assert np.abs(judge.run(graph, pixels) - exact).max() == pytest.approx(0.05 * 200 / 2)


@pytest.mark.parametrize("mean", [(0.05, 0, 255), (0.1, 0, 254), (0.25, 0, 127)])
def test_a_mean_that_limits_or_that_int8_holds_stays(mean: tuple[float, int, int]) -> None:
    graph, _ = _by_hand(mean=mean)
    assert symmetric_mean.with_means_inside(graph) is graph


def test_a_mean_that_is_read_twice_or_makes_a_large_product_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, _ = _by_hand()
    again = replace(graph, nodes=(*graph.nodes, g.Flatten("again", "mean", "again")))
    assert symmetric_mean.with_means_inside(again) is again
    head = graph.nodes[-1]
    assert isinstance(head, g.Linear)
    full = replace(head, bias=np.array([2**30, 0], np.int32))
    large = replace(graph, nodes=(*graph.nodes[:-1], full))
    assert symmetric_mean.with_means_inside(large) is large
    monkeypatch.setattr(symmetric_mean, "MOST_WEIGHTS", 3)
    assert symmetric_mean.with_means_inside(graph) is graph


def test_a_raw_byte_gets_a_table() -> None:
    graph = handmade.plain()
    image = replace(graph.tensors["images"], zero_point=0, low=0, high=255)
    other = replace(graph, tensors=graph.tensors | {"images": image})
    reals = np.float32(image.scale) * np.arange(256, dtype=np.float32)
    made = symmetric.symmetric(other, pixels=np.tile(reals, (3, 1)))
    table = made.nodes[0]
    assert isinstance(table, g.PixelTable)
    assert (table.table.min(), table.table.max()) == (0, 127)
    first = made.nodes[1]
    assert isinstance(first, g.Conv)
    assert first.x == table.y


@pytest.mark.parametrize("engine", ["trt", "ort,trt"])
def test_the_verb_refuses_and_leaves_no_run(engine: str, file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: extra trt-rtx")
    with pytest.raises(Unsupported, match="only int8 at zero point 0"):
        export(onnx=file, runs=tmp_path / "runs", engine=engine)
    assert not list((tmp_path / "runs").glob("*/*"))


def test_the_verb_builds_it_and_writes_what_it_changed(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: extra trt-rtx")
    pixels, labels = make_brevitas.images(150, seed=2)
    np.savez(tmp_path / "shown.npz", images=pixels.transpose(0, 2, 3, 1), labels=labels)
    export(
        onnx=file, runs=tmp_path / "runs", engine="ort,trt", requantize="symmetric",
        data=str(tmp_path / "shown.npz"), images=40, compute_capability="8.6", json=True,
    )  # fmt: skip
    shown = capsys.readouterr()
    rows = {(row["engine"], row["bits"]): row for row in json.loads(shown.out)["results"]}
    change = rows["trt", 8]["requantized"]
    assert change["images"] == 40
    differ = 40 - change["same_class"]
    assert abs(change["correct_before"] - change["correct_after"]) <= differ < 8
    assert "accuracy" in shown.err
    assert (rows["ort", 8]["precision"], rows["ort", 8]["logit_mismatches"]) == ("integer", 0)
    assert rows["trt", 8]["precision"] == "unknown"
    run = runs.newest_run(tmp_path / "runs")
    assert run is not None
    for engine in ("ort", "trt"):
        told = json.loads((run.engine(engine, 8) / "facts.json").read_text())
        assert told["requantized"] == change
    assert told["options"]["compute_capabilities"] == ["SM86"]


def test_the_verb_says_that_a_symmetric_file_was_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.save(foreign.skip_only(), tmp_path / "skip.onnx", sidecar=foreign.SIDECAR_GRAY)
    export(onnx=path, runs=tmp_path / "runs", requantize="symmetric", json=True)
    shown = capsys.readouterr()
    assert "has symmetric scales already: nothing was requantized" in shown.err
    assert "requantized" not in shown.out


def test_the_verb_refuses_images_of_more_classes(file: Path, tmp_path: Path) -> None:
    pixels, labels = make_brevitas.images(20, seed=2)
    labels[:] = foreign.CLASSES
    np.savez(tmp_path / "other.npz", images=pixels.transpose(0, 2, 3, 1), labels=labels)
    with pytest.raises(BadInput, match=f"tells {foreign.CLASSES} classes apart"):
        export(onnx=file, runs=tmp_path / "runs", data=str(tmp_path / "other.npz"))
    assert not list((tmp_path / "runs").glob("*"))


def test_an_unknown_form_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no requantization 'other'"):
        export(onnx=file, runs=tmp_path, requantize="other")


@pytest.mark.parametrize("given", [{"requantize": "symmetric"}, {"data": "signs"}, {"images": 8}])
def test_options_of_files_made_elsewhere_need_one(
    given: dict[str, str | int], tmp_path: Path
) -> None:
    [name] = given
    with pytest.raises(BadInput, match=f"--{name} is about a file made elsewhere"):
        export(runs=tmp_path, **given)  # type: ignore[arg-type]
