"""TensorRT-RTX really parses and builds what we export, with no GPU: built, never executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from qadtr_edge.export import facts, lint, trt, trt_build, trt_runtime
from qadtr_edge.export.onnx_file import save
from qadtr_edge.export.trt_engine import TrtEngine
from qadtr_edge.export.trt_options import Options

import handmade
import trt_files
from qadtr_edge import provenance
from qadtr_edge.errors import BadInput, EngineFailed, MissingDependency, Unsupported
from qadtr_edge.files import digest
from qadtr_edge.integer.dequantized import dequantized
from qadtr_edge.integer.graph import IntegerGraph

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: extra trt-rtx")

ONE = Options(compute_capabilities=("SM86",), batch=(1, 4, 16))


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the build ahead of time, on any machine."""
    monkeypatch.setattr(trt_runtime, "PACKAGES", ("tensorrt_rtx",))
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: False)


@pytest.mark.parametrize("name", handmade.GRAPHS)
@pytest.mark.parametrize("bits", [8, 2])
def test_every_node_type_builds_at_every_width(name: str, bits: int, tmp_path: Path) -> None:
    graph = handmade.GRAPHS[name](bits=bits)
    made = trt.build(graph, tmp_path, options=ONE)
    assert (made.precision, made.integer_kernels) == ("unknown", 0)
    assert trt.NEVER_RUN in made.notes
    assert (tmp_path / "model.engine").stat().st_size > 10_000


def test_an_engine_that_never_ran_is_opened_again_where_a_gpu_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = handmade.GRAPHS["residual"]()
    trt.build(graph, tmp_path, options=ONE)
    built = (tmp_path / "model.engine").read_bytes()

    def fails(path: Path) -> None:
        raise EngineFailed(f"{path} does not open.", "Look at the driver.")

    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(trt, "gpu_here", dict)
    monkeypatch.setattr(trt, "TrtEngine", fails)
    for _ in range(2):
        with pytest.raises(EngineFailed, match="does not open"):
            trt.build(graph, tmp_path, options=ONE)
        assert (tmp_path / "model.engine").read_bytes() == built, "two builds are never alike"


@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_turing_too_where_a_product_with_float_results_is_a_convolution(
    name: str, tmp_path: Path
) -> None:
    graph, turing = handmade.GRAPHS[name](), Options(compute_capabilities=("SM75",))
    trt.build(graph, tmp_path / "int8", options=turing)
    trt.build_float(dequantized(graph), tmp_path / "float", options=turing)


def lowered(model: str, bits: int) -> IntegerGraph:
    """An untrained network of the registry, its ranges from a few images, lowered."""
    torch = pytest.importorskip("torch")
    import nets
    from qadtr_edge import registry
    from qadtr_edge.integer.lower import lower
    from qadtr_edge.models.calibrate import calibrate
    from qadtr_edge.models.prepare import prepare
    from qadtr_edge.types import QuantSpec

    torch.manual_seed(0)
    make = registry.resolve("model", model)
    assert callable(make)
    size = 32 if model.startswith("vgg") else 16
    net = prepare(
        nets.lively(make(6)), QuantSpec(), widths=(bits,), classes=6, image_px=size
    )  # fmt: skip
    calibrate(net, nets.pixels(2, size=size))
    return lower(net.eval(), bits=bits)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize(
    "model",
    ["resnet8", *(pytest.param(name, marks=pytest.mark.slow)
                  for name in ("resnet20", "resnet56", "vgg11", "mobilenetv2"))],
)  # fmt: skip
def test_the_models_build_at_every_width(model: str, bits: int, tmp_path: Path) -> None:
    made = trt.build(lowered(model, bits), tmp_path, options=ONE)
    assert made.notes[0] == trt.NEVER_RUN
    assert made.bits == bits


def test_the_record_says_what_was_asked_and_that_nothing_ran(tmp_path: Path) -> None:
    graph = handmade.residual(bits=4)
    made = trt.build(graph, tmp_path, options=ONE)
    document = json.loads((tmp_path / facts.FILE).read_text())
    assert document["precision"] == "unknown"
    assert document["digest"] == digest(tmp_path / "model.engine") == made.digest
    assert document["options"]["compute_capabilities"] == ["SM86"]
    assert document["options"]["batch"] == [1, 4, 16]
    assert document["runtime"] == f"tensorrt_rtx {rtx.__version__}"
    assert document["origin"]["layers"] == [node.name for node in graph.nodes]


def test_an_equal_build_is_taken_from_the_folder_and_another_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, calls = handmade.plain(bits=4), []
    real = trt_build.plan_of

    def counted(*args: object, options: Options) -> trt_build.Plan:
        calls.append(options)
        return real(*args, options=options)  # type: ignore[arg-type]

    monkeypatch.setattr(trt_build, "plan_of", counted)
    first = trt.build(graph, tmp_path, options=ONE)
    assert trt.build(graph, tmp_path, options=ONE) == first
    assert len(calls) == 1
    trt.build(graph, tmp_path, options=Options(compute_capabilities=("SM89",)))
    trt.build(handmade.plain(bits=3), tmp_path, options=ONE)
    assert len(calls) == 3
    (tmp_path / "model.engine").write_bytes(b"damaged")
    trt.build(handmade.plain(bits=3), tmp_path, options=ONE)
    assert len(calls) == 4


def test_opening_it_without_a_gpu_is_a_sentence(tmp_path: Path) -> None:
    trt.build(handmade.plain(), tmp_path, options=ONE)
    with pytest.raises(EngineFailed, match=r"model\.engine was built but cannot run here") as held:
        TrtEngine(tmp_path / "model.onnx")
    assert "--engine ort" in held.value.remedy


def test_opening_what_was_never_built_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.engine") as held:
        TrtEngine(tmp_path / "model.onnx")
    assert "export" in held.value.remedy


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="there is a driver here")
def test_loading_without_a_driver_gives_the_loggers_words(tmp_path: Path) -> None:
    trt.build(handmade.plain(), tmp_path, options=ONE)
    log = trt_runtime.log_of(rtx)
    path = tmp_path / "model.engine"
    with pytest.raises(EngineFailed, match=r"refuses to load .*CUDA driver"):
        trt_runtime.deserialized(rtx, path.read_bytes(), path=path, log=log)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (Options(compute_capabilities=("SM87",)), Unsupported, r"compute capability 8\.7"),
        (Options(batch=(8, 4, 2)), EngineFailed, "rofile"),
        (Options(dla_core=0), Unsupported, "no DLA core 0"),
        (Options(is_version_compatible=True), EngineFailed, "lean"),
    ],
    ids=["SM87", "batches", "DLA", "lean runtime"],
)
def test_a_refused_build_is_a_sentence_and_leaves_nothing(
    options: Options, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        trt.build(handmade.residual(), tmp_path, options=options)
    assert not list(tmp_path.iterdir())


def test_a_workspace_that_is_too_small_is_told_with_a_larger_one(tmp_path: Path) -> None:
    small = Options(compute_capabilities=("SM86",), workspace_mebibytes=1, batch=(1, 64, 4096))
    with pytest.raises(EngineFailed, match="refuses to build") as held:
        trt.build(handmade.mobile(), tmp_path, options=small)
    assert "--workspace 4, or fewer images, --batch-profile 1,256,512" in held.value.remedy


def test_what_to_leave_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed) as held:
        trt.build(handmade.plain(), tmp_path, options=replace(ONE, is_version_compatible=True))
    assert "leave --version-compatible out" in held.value.remedy


def test_a_layer_can_be_shown(tmp_path: Path) -> None:
    graph = handmade.residual(bits=4)
    trt.build(graph, tmp_path, options=ONE)
    shown = trt.showing(tmp_path / "model.onnx", graph)
    assert {out.name for out in shown.graph.output} == {"logits", *graph.tensors} - {"images"}
    save(shown, tmp_path / "shown.onnx")
    assert trt_build.plan_of(rtx, tmp_path / "shown.onnx", options=ONE).content


@pytest.mark.parametrize(
    "plant",
    [
        trt_files.uint8_at_zero_point_0, trt_files.asymmetric, trt_files.int32_bias,
        trt_files.integer_min,
    ],
)  # fmt: skip
def test_what_our_lint_refuses_is_refused_by_the_build_too(
    plant: Callable[[trt_files.Model], None], tmp_path: Path
) -> None:
    """Also the one that the parser would let pass with a warning: uint8 at zero point 0."""
    model = trt_files.clean()
    plant(model)
    assert lint.findings(model)
    path = tmp_path / "planted.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineFailed, match=r"refuses to (parse|build) planted"):
        trt_build.plan_of(rtx, path, options=ONE)


def test_scales_along_the_wrong_axis_of_square_weights_are_seen_by_our_lint_alone(
    tmp_path: Path,
) -> None:
    """As many inputs as outputs: the parser counts the scales, finds enough, and builds."""
    model = trt_files.clean()
    trt_files.scales_along_the_inputs(model)
    path = tmp_path / "planted.onnx"
    path.write_bytes(model.SerializeToString())
    assert trt_build.plan_of(rtx, path, options=ONE).content
    with pytest.raises(Unsupported, match="along axis 1, not 0"):
        lint.refuse_findings(model)


def test_a_graph_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="unsigned"):
        trt.build(handmade.residual(unsigned=True), tmp_path, options=ONE)
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_runtime, "PACKAGES", ("no_such_runtime",))
    with pytest.raises(MissingDependency) as held:
        trt_runtime.runtime()
    assert "trt" in held.value.remedy


def test_the_enterprise_package_needs_a_gpu_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_build, "is_rtx", lambda trt: False)
    with pytest.raises(EngineFailed, match="no NVIDIA driver") as held:
        trt_build.plan_of(rtx, Path("model.onnx"), options=Options())
    assert "trt-rtx" in held.value.remedy


def test_two_builds_of_one_model(tmp_path: Path) -> None:
    """Plans need not be equal byte by byte; our file is."""
    for folder in ("a", "b"):
        trt.build(handmade.plain(bits=3), tmp_path / folder, options=ONE)
    models = [(tmp_path / folder / "model.onnx").read_bytes() for folder in ("a", "b")]
    assert models[0] == models[1]
