"""The rounding formulas against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qadtr_edge.integer import arithmetic
from qadtr_edge.integer.graph import Tensor

floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60),
                   max_value=2.0**60, allow_subnormal=False)  # fmt: skip
scales = st.one_of(
    st.integers(-9, 2).map(lambda power: 2.0**power),
    st.floats(2.0**-10, 4.0, width=32),
)
zeros = st.sampled_from([0, 128])
QUICK = settings(max_examples=300, deadline=None, derandomize=True)


def container(scale: float, zero_point: int) -> Tensor:
    """A tensor that uses all 256 codes of its container."""
    return Tensor("x", (), scale, -zero_point, 255 - zero_point, zero_point)


def nearest_float32(value: Fraction) -> np.float32:
    """Exactly rounded, ties to even: the better of the two neighbours of a first guess."""
    guess = np.float32(float(value))
    around = [
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    ]
    best = min(around, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.int32)) & 1))
    return best


@QUICK
@given(floats, floats, floats)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    got = arithmetic.fma(np.float32(a), np.float32(b), plus=np.float32(c))
    assert got == nearest_float32(exact)


def test_fma_where_rounding_twice_is_wrong() -> None:
    """1 + 2**-24 + 2**-60 is just above a tie of float32; float64 would round it onto the tie."""
    a, b, c = np.float32(2.0**-30), np.float32(2.0**-30), np.float32(1 + 2.0**-23)
    product = np.float32(1 + 2.0**-12)
    twice = np.float32(float(product) * float(product) + 2.0**-60)
    assert arithmetic.fma(a, b, plus=c) == np.float32(1 + 2.0**-23)
    exact = Fraction(float(product)) ** 2
    assert arithmetic.fma(product, product, plus=np.float32(2.0**-60)) == nearest_float32(
        exact + Fraction(2.0**-60)
    )
    assert twice != nearest_float32(exact + Fraction(2.0**-60))


@QUICK
@given(scales, zeros, zeros, zeros, st.sampled_from(["x86", "aarch64"]))
def test_tied_sums_never_round(scale: float, za: int, zb: int, zy: int, rounding: str) -> None:
    a, b, y = container(scale, za), container(scale, zb), container(scale, zy)
    left, right = np.arange(256)[:, None] - za, np.arange(256)[None, :] - zb
    table = arithmetic.sum_table(a, b, y=y, rounding=rounding)  # type: ignore[arg-type]
    np.testing.assert_array_equal(table, np.clip(left + right, y.low, y.high))


@QUICK
@given(scales, scales, scales, zeros, zeros, zeros)
def test_sums_are_within_half_a_step(
    sa: float, sb: float, sy: float, za: int, zb: int, zy: int
) -> None:
    a, b, y = container(sa, za), container(sb, zb), container(sy, zy)
    exact = sa * (np.arange(256)[:, None] - za) + sb * (np.arange(256)[None, :] - zb)
    codes = np.clip(exact / sy, y.low, y.high)
    slack = 0.5 + 2.0**-11 * (1 + np.abs(exact / sy).max() * 2.0**-9)
    for rounding in ("x86", "aarch64"):
        table = arithmetic.sum_table(a, b, y=y, rounding=rounding)  # type: ignore[arg-type]
        assert np.abs(table - codes).max() <= slack


@QUICK
@given(scales, scales, scales)
def test_products_round_after_the_zero_point(sa: float, sb: float, sy: float) -> None:
    a, b, y = container(sa, 128), container(sb, 0), container(sy, 128)
    left = np.arange(-128, 128, 17, dtype=np.float32)
    right = np.arange(0, 256, 15, dtype=np.float32)
    got = arithmetic.product(left[:, None], right[None, :], x_a=a, x_b=b, y=y)
    factor = np.float32(np.float32(np.float32(sa) * np.float32(sb)) / np.float32(sy))
    for i, first in enumerate(left):
        for j, second in enumerate(right):
            scaled = np.float32(np.float32(first * second) * factor)
            code = round(float(np.float32(scaled + np.float32(128)))) - 128
            assert got[i, j] == min(max(code, -128), 127)


@QUICK
@given(scales, scales, zeros, zeros)
def test_tables_round_half_to_even(sx: float, sy: float, zx: int, zy: int) -> None:
    x, y = container(sx, zx), container(sy, zy)
    table = arithmetic.requantize_table(x, y)
    for value in range(256):
        ratio = np.float32(np.float32(np.float32(sx) * np.float32(value - zx)) / np.float32(sy))
        assert table[value] == min(max(round(float(ratio)), y.low), y.high)


def test_logistic_is_close_to_the_real_one_but_is_not_it() -> None:
    values = np.linspace(-20, 20, 4001, dtype=np.float32)
    real = np.array([1 / (1 + math.exp(-float(v))) for v in values])
    got = arithmetic.logistic(values)
    assert np.abs(got - real).max() < 1e-6
    assert (got != real.astype(np.float32)).any()
    assert got.min() >= 0
    assert got.max() <= 1


@pytest.mark.parametrize("code", [-128, -1, 0, 255])
def test_constants_fit_their_container(code: int) -> None:
    made = arithmetic.constant_tensor(code, 0.5)
    assert 0 <= code + made.zero_point <= 255
