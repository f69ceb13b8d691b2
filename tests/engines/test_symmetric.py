"""Asymmetric files on symmetric integers: what changes, what stays, and that TensorRT builds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export import dialects, lint, ort, reader, symmetric, trt_form

import foreign_files as foreign
import handmade
from golden import make_brevitas
from qadtr_edge import runs
from qadtr_edge.cli.export import export
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.errors import BadInput, UnknownName, Unsupported
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import judge

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


@pytest.mark.parametrize("name", [name for name in handmade.GRAPHS if name != "swish"])
@pytest.mark.parametrize("seed", [0, 1])
def test_codes_up_to_255_keep_their_reals_layer_by_layer(
    name: str, seed: int, tmp_path: Path
) -> None:
    graph = handmade.GRAPHS[name](unsigned=True, seed=seed)
    image = graph.tensors[graph.input]
    reals = np.float32(image.scale) * (np.arange(256, dtype=np.float32) - image.zero_point)
    made = symmetric.symmetric(graph, pixels=np.tile(reals, (3, 1)))
    assert symmetric.asymmetry(graph) is not None
    assert symmetric.asymmetry(made) is None
    pixels = handmade.images(40)
    old, new = judge.trace(graph, pixels), judge.trace(made, pixels)
    for tensor in made.tensors.values():
        if tensor.name in old and old[tensor.name].shape == new[tensor.name].shape:
            before = old[tensor.name] * graph.tensors[tensor.name].scale
            assert np.abs(new[tensor.name] * tensor.scale - before).mean() <= 2 * tensor.scale
    ort.build(made, tmp_path)
    with ort.OrtEngine(tmp_path / ort.MODEL) as engine:
        np.testing.assert_array_equal(engine(pixels), judge.run(made, pixels))


def test_codes_that_pass_between_tensors_stay_on_one_grid() -> None:
    """A maximum limited to codes that int8 holds moves along with what it is the maximum of."""
    graph = handmade.plain(unsigned=True)
    pool = next(node for node in graph.nodes if isinstance(node, g.MaxPool))
    x = graph.tensors[pool.x]
    limited = replace(graph.tensors[pool.y], high=100)
    made = symmetric.symmetric(
        replace(graph, tensors=graph.tensors | {pool.y: limited}),
        pixels=np.zeros((3, 256), np.float32),
    )
    assert (x.scale, x.high) == (limited.scale, 255)
    assert made.tensors[pool.x].scale == made.tensors[pool.y].scale > x.scale
    assert (made.tensors[pool.x].high, made.tensors[pool.y].high) == (127, 50)


def test_codes_read_with_another_scale_are_refused() -> None:
    graph = handmade.swish(unsigned=True)
    with pytest.raises(Unsupported, match="reads codes with another scale"):
        symmetric.symmetric(graph, pixels=np.zeros((3, 256), np.float32))


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
