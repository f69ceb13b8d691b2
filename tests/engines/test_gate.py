"""The gate: what counts as integer is decided by the kernels that ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qadtr_edge.export.gate import Kernel, layer_of, weigh

import handmade

U8, F32 = ("uint8",), ("float",)
CONV = Kernel("conv1_token_5", "QLinearConv", U8, U8)
HEAD = Kernel("classifier", "QGemm", U8, F32)


def test_all_integer_kernels_and_float_logits() -> None:
    verdict = weigh([CONV, Kernel("conv1/clip", "Clip", U8, U8), HEAD], layers=["conv1"])
    assert (verdict.precision, verdict.integer_kernels, verdict.float_layers) == ("integer", 2, ())


@pytest.mark.parametrize(
    "operator", ["Conv", "FusedConv", "Add", "HardSwish", "Relu", "ReduceMean"]
)
def test_one_float_kernel_makes_it_mixed(operator: str) -> None:
    planted = Kernel("fused conv2", operator, F32, F32)
    quantize = Kernel("conv2/quantize", "QuantizeLinear", F32, U8)
    verdict = weigh([CONV, planted, quantize, HEAD], layers=["conv1", "conv2", "conv2.x"])
    assert (verdict.precision, verdict.float_layers) == ("mixed", ("conv2",))


def test_float_before_the_first_code_and_after_the_last_product_is_fine() -> None:
    before = Kernel("normalise", "Sub", F32, F32)
    quantize = Kernel("input", "QuantizeLinear", F32, U8)
    after = Kernel("probabilities", "Softmax", F32, F32)
    assert weigh([before, quantize, CONV, HEAD, after]).precision == "integer"


def test_a_float_head_is_named() -> None:
    head = Kernel("classifier", "Gemm", F32, F32)
    verdict = weigh([CONV, Kernel("flat/real", "DequantizeLinear", U8, F32), head])
    assert (verdict.precision, verdict.float_layers) == ("mixed", ("classifier",))


def test_no_integer_kernel_is_float() -> None:
    conv = Kernel("conv1", "Conv", F32, F32)
    verdict = weigh([Kernel("cast", "Cast", U8, F32), conv], layers=["conv1"])
    assert (verdict.precision, verdict.integer_kernels) == ("float", 0)
    assert "conv1" in verdict.float_layers


def test_a_mean_in_float_is_said() -> None:
    mean = Kernel("mean", "QLinearAveragePool", U8, U8)
    verdict = weigh([CONV, mean, HEAD], layers=["mean"])
    assert verdict.precision == "integer"
    assert verdict.notes[0].startswith("mean: QLinearAveragePool")


@pytest.mark.parametrize(
    ("kernel", "layer"),
    [
        ("conv1", "conv1"),
        ("conv1/clip", "conv1"),
        ("conv10_token_3", "conv10"),
        ("block.conv1:narrow/clip", "block.conv1:narrow"),
        ("fused conv1", "conv1"),
        ("Transpose_token_1", "Transpose_token_1"),
    ],
)
def test_decorated_names_find_their_layer(kernel: str, layer: str) -> None:
    layers = ["conv1", "conv10", "block.conv1", "block.conv1:narrow"]
    assert layer_of(kernel, layers) == layer


@pytest.mark.needs("ort")
def test_the_profile_tells_what_ran(tmp_path: Path) -> None:
    from qadtr_edge.export import observe, ort, session

    graph = handmade.plain(bits=4)
    ort.build(graph, tmp_path)
    ran = observe.kernels(
        tmp_path / ort.MODEL, np.zeros((1, 3, 8, 8), np.uint8), options=session.options(threads=1)
    )
    operators = [kernel.operator for kernel in ran]
    assert operators.count("QLinearConv") == 2
    assert operators[-1] == "QGemm"
    assert ran[-1].writes == ("float",)
    assert all(kernel.writes == ("uint8",) for kernel in ran[:-1])


def test_what_a_runtime_says_of_its_kernels_is_believed_before_their_names() -> None:
    told = [
        Kernel("reorder_1", "Convolution", U8, U8, runs_in="integer", layers=("conv1", "add")),
        Kernel("x", "FakeQuantize", U8, U8, runs_in="float", layers=("join", "relu")),
        Kernel("y", "Eltwise", U8, F32, runs_in="nothing"),
        Kernel("z", "FullyConnected", U8, F32, runs_in="integer", layers=("classifier",)),
    ]
    verdict = weigh(told, layers=["conv1", "add", "join", "relu", "classifier"])
    assert (verdict.precision, verdict.integer_kernels) == ("mixed", 2)
    assert verdict.float_layers == ("join", "relu")


@pytest.mark.parametrize("operator", ["Convert", "Reorder", "QUANTIZE"])
def test_a_conversion_is_no_matrix_product(operator: str) -> None:
    assert not Kernel("x", operator, U8, U8).is_matrix_product
