"""onnxruntime's rounding operators against the formulas, on scales chosen to hit rounding ties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from qadtr_edge.integer import arithmetic
from qadtr_edge.integer.graph import AddRounding, Tensor

pytestmark = pytest.mark.needs("ort")

CODES = np.arange(256, dtype=np.uint8)
LEFT, RIGHT = np.repeat(CODES, 256), np.tile(CODES, 256)
"""All 65,536 pairs of container values."""


def ran(
    operator: str,
    inputs: Sequence[str],
    *,
    constants: dict[str, np.generic],
    feeds: dict[str, NDArray[np.generic]],
    attributes: dict[str, float | int] | None = None,
    domain: str = "com.microsoft",
) -> NDArray[np.generic]:
    """The one output of one operator, run by onnxruntime with one thread."""
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    node = helper.make_node(operator, inputs, ["y"], domain=domain, **(attributes or {}))
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    values = [helper.make_tensor_value_info(name, kind, [None]) for name, kind in kinds.items()]
    output = helper.make_tensor_value_info("y", next(iter(kinds.values())), [None])
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph([node], "one", values, [output], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    result: NDArray[np.generic] = session.run(None, feeds)[0]
    return result


def container(scale: float, zero_point: int) -> Tensor:
    """A tensor that uses all 256 codes of its container."""
    return Tensor("x", (), float(np.float32(scale)), -zero_point, 255 - zero_point, zero_point)


def grid(prefix: str, tensor: Tensor) -> dict[str, np.generic]:
    return {
        f"{prefix}_scale": np.float32(tensor.scale),
        f"{prefix}_zero": np.uint8(tensor.zero_point),
    }


def codes_of(values: NDArray[np.generic], tensor: Tensor) -> NDArray[np.float32]:
    return values.astype(np.float32) - np.float32(tensor.zero_point)


def triples(count: int, *, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Two operands and a result: powers of two, fractions and free scales in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        free = rng.uniform(0.001, 0.1, 3)
        powers = 2.0 ** rng.integers(-9, -2, 3)
        fractions = rng.integers(1, 64, 3) / rng.integers(64, 4096, 3)
        scales = (free, powers, fractions)[number % 3]
        zeros = rng.choice([0, 128], 3)
        a, b, y = (container(float(s), int(z)) for s, z in zip(scales, zeros, strict=True))
        if number % 2:  # a result grid on which sums of a alone meet halves and quarters
            y = container(a.scale * float(rng.choice([0.5, 0.75, 1.5, 2, 3, 4, 6])), y.zero_point)
        yield a, b, y


def test_sums() -> None:
    elements = ties = 0
    for a, b, y in triples(18, seed=1):
        constants = grid("a", a) | grid("b", b) | grid("y", y)
        inputs = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        got = ran("QLinearAdd", inputs, constants=constants, feeds={"a": LEFT, "b": RIGHT})
        expected = arithmetic.sum_table(a, b, y=y, rounding=_native()).reshape(-1)
        np.testing.assert_array_equal(codes_of(got, y), expected)
        elements += got.size
        exact = codes_of(LEFT, a) * a.scale / y.scale + codes_of(RIGHT, b) * b.scale / y.scale
        ties += int((np.abs(exact - np.floor(exact) - 0.5) < 1e-6).sum())
    assert elements > 1_000_000
    assert ties > 10_000


def test_sums_with_a_constant() -> None:
    rng = np.random.default_rng(2)
    odd_length = LEFT[:-3]  # a tail that fills no vector
    for x, k, y in triples(18, seed=3):
        code = int(rng.integers(-128, 128))
        constant = arithmetic.constant_tensor(code, k.scale)
        value = np.uint8(code + constant.zero_point)
        constants = grid("a", x) | grid("b", constant) | grid("y", y) | {"b": value}
        inputs = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        got = ran("QLinearAdd", inputs, constants=constants, feeds={"a": odd_length})
        table = arithmetic.sum_table(x, constant, y=y, rounding=_native())[:, int(value)]
        np.testing.assert_array_equal(codes_of(got, y), table[odd_length])


def test_products() -> None:
    rng = np.random.default_rng(4)
    ties = 0
    for a, b, y in triples(18, seed=5):
        step = a.scale * b.scale
        y = container(step * float(rng.integers(2, 600)), y.zero_point)
        constants = grid("a", a) | grid("b", b) | grid("y", y)
        inputs = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        got = ran("QLinearMul", inputs, constants=constants, feeds={"a": LEFT, "b": RIGHT})
        left, right = codes_of(LEFT, a), codes_of(RIGHT, b)
        expected = arithmetic.product(left, right, x_a=a, x_b=b, y=y)
        np.testing.assert_array_equal(codes_of(got, y), expected)
        exact = left * right * (step / y.scale)
        ties += int((np.abs(exact - np.floor(exact) - 0.5) < 1e-6).sum())
    assert ties > 3_000


def test_tables_of_requantization() -> None:
    for number, (x, _, y) in enumerate(triples(60, seed=6)):
        constants = grid("x", x) | grid("y", y)
        expected = arithmetic.requantize_table(x, y)
        inputs = ["x", "x_scale", "x_zero", "y_scale", "y_zero"]
        got = ran(
            "QLinearLeakyRelu", inputs, constants=constants, feeds={"x": CODES},
            attributes={"alpha": 1.0},
        )  # fmt: skip
        np.testing.assert_array_equal(codes_of(got, y), expected)
        if number % 3:
            continue
        inputs = ["y_scale", "y_zero", "x", "x_scale", "x_zero"]
        got = ran(
            "QLinearConcat", inputs, constants=constants, feeds={"x": CODES},
            attributes={"axis": 0},
        )  # fmt: skip
        np.testing.assert_array_equal(codes_of(got, y), expected)


def test_the_logistic_function_to_the_last_bit() -> None:
    """onnxruntime's float Sigmoid and the table of QLinearSigmoid come from one kernel."""
    rng = np.random.default_rng(7)
    values = np.concatenate(
        [rng.normal(0, 6, 600_000), rng.uniform(-25, 25, 400_000), 2.0 ** rng.uniform(-60, 5, 5000)]
    ).astype(np.float32)
    got = ran("Sigmoid", ["x"], constants={}, feeds={"x": values}, domain="")
    np.testing.assert_array_equal(got, arithmetic.logistic(values))
    real = (1 / (1 + np.exp(-values.astype(np.float64)))).astype(np.float32)
    assert (got != real).any(), "the exact function would do, and the polynomial is needless"


def test_tables_of_the_sigmoid() -> None:
    rng = np.random.default_rng(8)
    for number in range(100):
        x = container(float(rng.uniform(0.001, 0.2)), int(rng.choice([0, 128])))
        steps = (128, 256, 255, 127, 63, 15, 7, 3)[number % 8]
        y = container(1 / steps, int(rng.choice([0, 128])))
        inputs = ["x", "x_scale", "x_zero", "y_scale", "y_zero"]
        got = ran(
            "QLinearSigmoid", inputs, constants=grid("x", x) | grid("y", y), feeds={"x": CODES}
        )
        np.testing.assert_array_equal(codes_of(got, y), arithmetic.sigmoid_table(x, y))


def _native() -> AddRounding:
    from qadtr_edge.export.parity import native_rounding

    return native_rounding()
