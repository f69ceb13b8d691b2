"""Calibration methods: what each covers, and that least squares earns its name."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch")

from torch import Tensor

from qadtr_edge.errors import UnknownName
from qadtr_edge.quant.codes import CodeRange
from qadtr_edge.quant.fake import fake_quantize
from qadtr_edge.quant.methods import METHODS
from qadtr_edge.quant.ranges import scale_of

rows = arrays(np.float32, (2, 23), elements=st.floats(-50, 50, width=32)).map(torch.from_numpy)
code_ranges = st.sampled_from(
    (CodeRange(-1, 1), CodeRange(-7, 7), CodeRange(0, 3), CodeRange(0, 127))
)


def squared_error(values: Tensor, scale: Tensor, codes: CodeRange) -> Tensor:
    return (fake_quantize(values, scale[:, None], codes=codes) - values).square().sum(1)


@given(rows, code_ranges, st.sampled_from(METHODS))
def test_scales_are_positive_and_one_a_row(values: Tensor, codes: CodeRange, method: str) -> None:
    scale = scale_of(values, codes, method=method)
    assert scale.shape == (2,)
    assert (scale > 0).all()
    alone = scale_of(values[1:], codes, method=method)
    assert torch.equal(scale[1:], alone)


@given(rows, code_ranges)
def test_minmax_covers_every_value(values: Tensor, codes: CodeRange) -> None:
    scale = scale_of(values, codes, method="minmax")
    reached = values.abs() if codes.low < 0 else values.clamp_min(0)
    assert (reached.amax(1) <= scale * codes.high * (1 + 1e-5)).all()
    assert (reached.amax(1) >= scale * codes.high * (1 - 1e-5) - 1e-5).all()


@given(rows, code_ranges)
def test_least_squares_is_never_worse_than_minmax(values: Tensor, codes: CodeRange) -> None:
    best = squared_error(values, scale_of(values, codes, method="mse"), codes)
    widest = squared_error(values, scale_of(values, codes, method="minmax"), codes)
    assert (best <= widest * (1 + 1e-5) + 1e-9).all()


@pytest.mark.parametrize(("bits", "most"), [(2, 0.5), (3, 0.6), (4, 0.9)])
def test_least_squares_wins_on_bell_curves_at_few_bits(bits: int, most: float) -> None:
    values = torch.randn(8, 576, generator=torch.Generator().manual_seed(0))
    limit = 2 ** (bits - 1) - 1
    codes = CodeRange(-limit, limit)
    best = squared_error(values, scale_of(values, codes, method="mse"), codes).sum()
    widest = squared_error(values, scale_of(values, codes, method="minmax"), codes).sum()
    assert best < most * widest


def test_at_two_bits_least_squares_keeps_half_of_a_bell_curve_alive() -> None:
    values = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    codes = CodeRange(-1, 1)
    for method, low, high in (("mse", 0.5, 0.6), ("minmax", 0.0, 0.1)):
        scale = scale_of(values, codes, method=method)
        alive = (fake_quantize(values, scale[:, None], codes=codes) != 0).float().mean()
        assert low <= alive <= high


def test_percentile_leaves_out_that_share() -> None:
    values = torch.arange(1.0, 1001)[None]
    scale = scale_of(values, CodeRange(-100, 100), method="percentile", percentile=99)
    assert scale.item() == pytest.approx(9.90)
    whole = scale_of(values, CodeRange(-100, 100), method="percentile", percentile=100)
    assert whole.item() == pytest.approx(10)


def test_negative_values_do_not_count_where_codes_are_not_negative() -> None:
    values = torch.tensor([[-100.0, 1.0, 2.0, 3.0]])
    assert scale_of(values, CodeRange(0, 3), method="minmax").item() == 1
    assert scale_of(values, CodeRange(0, 3), method="mse").item() == pytest.approx(1)


def test_a_row_of_zeros_has_a_scale() -> None:
    for method in METHODS:
        assert scale_of(torch.zeros(1, 4), CodeRange(-7, 7), method=method).item() > 0


def test_another_method_is_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'minmax'"):
        scale_of(torch.ones(1, 1), CodeRange(-1, 1), method="minmx")
