"""The exact arithmetic of every rounding operation, in NumPy, as onnxruntime computes it.

``f32(.)`` rounds to binary32, ``rint`` is half-to-even, ``fma`` rounds once. A container value is
``code + zero_point``. Each formula was found by running the operator (onnxruntime 1.31.1, x86-64
and, where said, aarch64) on every pair of 8-bit inputs over scales chosen to hit rounding ties,
and is held to it by ``tests/engines/test_operators.py``.

Codes are carried as float32, which holds every integer below 2**24 exactly.
"""

from __future__ import annotations

import numpy as np

from .graph import AddRounding, Float32, Tensor

Real = Float32 | np.float32

_CODES = np.arange(256, dtype=np.float32)


def clamp(codes: Float32, y: Tensor) -> Float32:
    """``codes`` limited in place to the range of ``y``."""
    return np.clip(codes, np.float32(y.low), np.float32(y.high), out=codes)


def multiplier(scale_x: float, scale_w: Real, *, scale_y: float) -> Float32:
    """``f32(f32(scale_x * scale_w) / scale_y)``: what an accumulator is multiplied with."""
    return np.asarray((np.float32(scale_x) * scale_w) / np.float32(scale_y))


def pooled_multiplier(x: Tensor, y: Tensor, *, count: int) -> np.float32:
    """``f32(scale_x / f32(scale_y * count))``: QLinearGlobalAveragePool's only constant."""
    return np.float32(np.float32(x.scale) / (np.float32(y.scale) * np.float32(count)))


def fma(a: Real, b: Real, *, plus: Real) -> Float32:
    """``a * b + plus`` rounded once to float32, exactly.

    The product of two float32 is exact in float64; the sum is rounded to odd there, after which
    the second rounding is harmless (Boldo and Melquiond 2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(plus, np.float64)
    total = np.asarray(product + addend)
    back = total - product  # Knuth's TwoSum: the rounding error of the sum, exactly
    error = (product - (total - back)) + (addend - back)
    even = (total.view(np.int64) & 1) == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)


def values_of(x: Tensor) -> Float32:
    """``f32(scale * code)`` of all 256 container values, in container order."""
    return np.float32(x.scale) * (_CODES - np.float32(x.zero_point))


def quantized(values: Float32, y: Tensor) -> Float32:
    """Codes of real ``values``: ``rint(f32(values / scale))``, clamped (QuantizeLinear)."""
    return clamp(np.rint(values / np.float32(y.scale)), y)


def requantize_table(x: Tensor, y: Tensor) -> Float32:
    """Code of ``y`` for each of the 256 container values of ``x``; equal scales pass it on.

    QLinearConcat and QLinearLeakyRelu are this table.
    """
    if x.scale == y.scale:
        return clamp(_CODES - np.float32(x.zero_point), y)
    return quantized(values_of(x), y)


# Rational approximation x * P(x^2) / Q(x^2) + 1/2 on [-18, 18], highest power first; the
# coefficients are those of Eigen's and MLAS' logistic function.
_LOGISTIC_P = np.array(
    [4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
     2.48287947061529e-01], np.float32)  # fmt: skip
_LOGISTIC_Q = np.array(
    [6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
     1.16817656904453e-01, 9.93151921023180e-01], np.float32)  # fmt: skip


def logistic(values: Float32) -> Float32:
    """``1 / (1 + exp(-x))`` to the last bit as MLAS' FMA kernel computes it (not the exact one)."""
    x = np.clip(values, np.float32(-18), np.float32(18))
    square = x * x
    p = np.full_like(x, _LOGISTIC_P[0])
    for coefficient in _LOGISTIC_P[1:]:
        p = fma(p, square, plus=coefficient)
    q = np.full_like(x, _LOGISTIC_Q[0])
    for coefficient in _LOGISTIC_Q[1:]:
        q = fma(q, square, plus=coefficient)
    made: Float32 = np.clip((p * x) / q + np.float32(0.5), np.float32(0), np.float32(1))
    return made


def sigmoid_table(x: Tensor, y: Tensor) -> Float32:
    """Code of ``y`` for each of the 256 container values of ``x`` (QLinearSigmoid)."""
    return quantized(logistic(values_of(x)), y)


def product(a: Float32, b: Float32, *, x_a: Tensor, x_b: Tensor, y: Tensor) -> Float32:
    """Codes of the product of two code arrays (QLinearMul).

    ``rint(f32(f32(a * b * m) + zy)) - zy`` with ``m = f32(f32(sa * sb) / sy)``: the zero point is
    added before rounding, so it decides the ties.
    """
    factor = multiplier(x_a.scale, np.float32(x_b.scale), scale_y=y.scale)
    zero = np.float32(y.zero_point)
    return clamp(np.rint((a * b) * factor + zero) - zero, y)


def sum_table(a: Tensor, b: Tensor, *, y: Tensor, rounding: AddRounding) -> Float32:
    """Codes of ``y`` for all 256 x 256 container values of ``a`` and ``b`` (QLinearAdd)."""
    left, right = _CODES[:, None], _CODES[None, :]
    ratio_a, ratio_b = (np.float32(np.float32(x.scale) / np.float32(y.scale)) for x in (a, b))
    zero_a, zero_b, zero_y = (np.float32(x.zero_point) for x in (a, b, y))
    if rounding == "x86 int8":
        left, right = left - np.float32(128), right - np.float32(128)
        zero_a, zero_b, zero_y = (zero - np.float32(128) for zero in (zero_a, zero_b, zero_y))
    if rounding != "aarch64":
        # k = f32(zy - fma(ra, za, f32(rb zb))); rint(fma(a, ra, fma(b, rb, k))) - zy
        offset = zero_y - fma(ratio_a, zero_a, plus=ratio_b * zero_b)
        total = np.rint(fma(left, ratio_a, plus=fma(right, ratio_b, plus=offset))) - zero_y
    else:
        # 22-bit fixed point, ties away from zero: M = rint(r * 2**(21 - e))
        exponent = int(np.floor(np.log2(max(float(ratio_a), float(ratio_b)))))
        unit = 2.0 ** (21 - exponent)
        whole_a, whole_b = np.rint(float(ratio_a) * unit), np.rint(float(ratio_b) * unit)
        fixed = (left.astype(np.float64) - zero_a) * whole_a
        fixed = (fixed + (right.astype(np.float64) - zero_b) * whole_b) / unit
        total = (np.sign(fixed) * np.floor(np.abs(fixed) + 0.5)).astype(np.float32)
    return clamp(total, y)


def constant_tensor(code: int, scale: float) -> Tensor:
    """The one-element tensor that AddConstant adds: zero point 0, or 128 for a negative code."""
    zero_point = 128 if code < 0 else 0
    return Tensor("constant", (), scale, code, code, zero_point)
