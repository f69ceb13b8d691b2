"""Inspector JSON of both generations, made by hand after their documentation, and the gate."""

from __future__ import annotations

import json

import pytest
from qadtr_edge.export import trt_inspect

from qadtr_edge.errors import EngineFailed

LAYERS = ("conv1", "conv10", "add", "pool", "classifier")

Row = dict[str, object]
INT8_10 = "Thirty-two wide channel vectorized row major Int8 format"


def old(name: str, kind: str, reads: list[str], writes: list[str], metadata: str = "") -> Row:
    """One layer as TensorRT 10 describes it: format and type in one text."""
    return {
        "Name": name, "LayerType": kind, "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved",
        "Inputs": [{"Name": "x", "Dimensions": [1], "Format/Datatype": each} for each in reads],
        "Outputs": [{"Name": "y", "Dimensions": [1], "Format/Datatype": each} for each in writes],
        "Metadata": metadata,
    }  # fmt: skip


def new(name: str, kind: str, reads: list[str], writes: list[str], metadata: str = "") -> Row:
    """One layer as TensorRT 11 describes it: format and type apart."""
    sides = {
        side: [{"Name": "x", "Format": "Row major linear", "DataType": each} for each in kinds]
        for side, kinds in (("Inputs", reads), ("Outputs", writes))
    }
    return {"Name": name, "LayerType": kind, "TacticName": "", "Metadata": metadata, **sides}


def ten(*rows: Row) -> str:
    return json.dumps({"Layers": rows, "Bindings": ["images", "logits"]})


def eleven(*rows: Row) -> str:
    tensors = [{"Name": "images", "DataType": "Int8"}, {"Name": "logits", "DataType": "Float"}]
    return json.dumps({"Layers": rows, "I/O Tensors": tensors})


def weighed(information: str) -> trt_inspect.Weighed:
    return trt_inspect.weigh(trt_inspect.seen(information, layers=LAYERS), layers=LAYERS)


INTEGER = {
    "10": ten(
        old("Reformatting CopyNode for images", "Reformat", ["Row major Int8 format"], [INT8_10]),
        old("conv1 + conv1/quantize", "CaskConvolution", [INT8_10], [INT8_10],
            "[ONNX Layer: conv1/x/dequantize]\x1f[ONNX Layer: conv1]"),
        old("add", "PointWiseV2", [INT8_10, INT8_10], [INT8_10], "[ONNX Layer: add]"),
        old("classifier", "CaskGemmMatrixMultiply", ["Row major Int8 format"],
            ["Row major linear FP32"], "[ONNX Layer: classifier]"),
    ),
    "11": eleven(
        new("conv1", "correlation", ["Int8"], ["Float"], "[ONNX Layer: conv1]"),
        new("__myl_MulAddMulMinMaxRounCast", "kgen", ["Float"], ["Int8"], "[ONNX Layer: conv1/q]"),
        new("__myl_AddMulRounCast", "kgen", ["Int8", "Int8"], ["Int8"], "[ONNX Layer: add]"),
        new("classifier", "gemm", ["Int8"], ["Float"], "[ONNX Layer: classifier]"),
        new("__myl_MulAdd", "kgen", ["Float"], ["Float"], "[ONNX Layer: classifier]"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("generation", INTEGER)
def test_integers_all_through(generation: str) -> None:
    made = weighed(INTEGER[generation])
    assert (made.precision, made.integer_kernels, made.float_layers) == ("integer", 3, ())
    assert made.notes[-1] == trt_inspect.NOTE


@pytest.mark.parametrize("generation", ["10", "11"])
@pytest.mark.parametrize("kind", ["CaskConvolution", "CaskGemmConvolution"])
def test_a_convolution_that_reads_float_is_named(generation: str, kind: str) -> None:
    document = json.loads(INTEGER[generation])
    metadata = "[ONNX Layer: conv10]"
    planted = (
        old("conv10", kind, ["Channel major FP16 format where channel % 8 == 0"], [INT8_10],
            metadata)
        if generation == "10" else new("conv10", kind, ["Half"], ["Int8"], metadata)
    )  # fmt: skip
    document["Layers"].insert(2, planted)
    made = weighed(json.dumps(document))
    assert (made.precision, made.float_layers) == ("mixed", ("conv10",))


@pytest.mark.parametrize("generation", ["10", "11"])
def test_a_sum_or_a_mean_that_leaves_float_is_named(generation: str) -> None:
    document = json.loads(INTEGER[generation])
    planted = (
        old("pool", "CaskPooling", [INT8_10], ["Row major linear FP32"], "[ONNX Layer: pool]")
        if generation == "10" else new("__myl_Mean", "kgen", ["Int8"], ["Float"],
                                       "[ONNX Layer: pool]")
    )  # fmt: skip
    document["Layers"].insert(2, planted)
    made = weighed(json.dumps(document))
    assert (made.precision, made.float_layers) == ("mixed", ("pool",))


def test_an_engine_without_an_integer_kernel_is_float() -> None:
    rows = [new(name, "gemm", ["Float"], ["Float"]) for name in ("conv1", "classifier")]
    made = weighed(eleven(*rows))
    assert (made.precision, made.integer_kernels) == ("float", 0)
    assert made.float_layers == ("conv1", "classifier")


def test_one_node_over_everything_shows_nothing() -> None:
    row = new("{ForeignNode[conv1/bias...classifier]}", "Myelin", ["Int8"], ["Float"])
    made = weighed(eleven(row))
    assert (made.precision, made.integer_kernels) == ("unknown", 0)
    assert "does not open 1 nodes" in made.notes[0]


def test_an_engine_that_shows_names_only_is_unknown() -> None:
    assert weighed(json.dumps({"Layers": ["conv1", "add"]})).precision == "unknown"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Row major Int8 format", "int8"), (INT8_10, "int8"), ("Row major linear FP32", "float"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"), ("Int32", "int32"),
        ("Row major linear BFloat16", "bfloat16"), ("Half", "float16"), ("FP8", "fp8"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_type(text: str, kind: str) -> None:
    shown = trt_inspect.seen(ten(old("add", "kgen", [text], [text])), layers=LAYERS)
    assert shown.kernels[0].reads == (kind,)


@pytest.mark.parametrize(
    "information",
    ["", "{}", "[1]", '{"Layers": 3}', '{"Layers": [{"LayerType": "conv"}]}',
     ten(old("add", "kgen", ["a format nobody wrote"], []))],
)  # fmt: skip
def test_what_is_no_inspectors_json_is_a_sentence(information: str) -> None:
    with pytest.raises(EngineFailed, match="does not say which kernels"):
        weighed(information)


def test_layers_are_found_by_metadata_or_by_name() -> None:
    rows = [
        new("fused", "conv", ["Int8"], ["Int8"], "[ONNX Layer: conv10/clip]\x1f[ONNX Layer: add]"),
        new("conv1 + add", "conv", ["Int8"], ["Int8"]),
    ]
    shown = trt_inspect.seen(eleven(*rows), layers=LAYERS)
    assert [kernel.layers for kernel in shown.kernels] == [("conv10", "add"), ("conv1", "add")]
