"""Convolutions and matrix products: weights, bias and geometry, and what folds into them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import Float32, Node, Tensor
from qadtr_edge.integer.graph import Weight as WeightCodes

from .reader_geometry import Geometry
from .reader_values import Constant, Pending, Product, Quantized, Unreadable, Value

_SAME_GRID = 1e-4
"""How far, in relative terms, a bias' own scale may be from scale_x * weight_scale to be on it."""


def convolution(
    name: str, x: Tensor, *, weight: Quantized, bias: Value | None, geometry: Geometry,
    reversed_channels: bool,
) -> Pending:  # fmt: skip
    """A 2-D convolution of ``x``; ``reversed_channels``: x is RGB where the weights expect BGR."""
    codes = weight.codes
    if codes.ndim != 4 or len(x.shape) != 3:
        raise Unreadable("is no convolution of images in two dimensions")
    if x.shape[0] != codes.shape[1] * geometry.groups or len(codes) % geometry.groups:
        raise Unreadable(f"has weights for {codes.shape[1]} channels and reads {x.shape[0]}")
    if reversed_channels:
        if geometry.groups > 1:
            raise Unreadable("reads BGR channels in groups")
        codes = codes[:, ::-1]
    scale = _per_channel(weight.scale, weight.axis, codes=codes, out=0)
    kernel = cast(tuple[int, int], codes.shape[2:])
    padding = geometry.padding(x.shape[1:], kernel)
    out = geometry.out(x.shape[1:], kernel, padding=padding)

    def make(product: Product, node: str, y: str) -> Node:
        return g.Conv(
            node, x.name, y, product.weight, product.weight_scale, _int32(product),
            geometry.stride, padding, geometry.dilation, geometry.groups,
        )  # fmt: skip

    product = Product(_held(codes), scale, _bias(bias, x, scale), make, x)
    return Pending(name, (len(codes), *out), product=product)


def matrix_product(
    name: str, x: Tensor, *, weight: Quantized, bias: Value | None, transposed: bool
) -> Pending:
    """``x (F,)`` times weights ``(F, O)``, or ``(O, F)`` when ``transposed``."""
    codes = weight.codes if transposed else weight.codes.T
    if weight.codes.ndim != 2 or x.shape != codes.shape[1:]:
        raise Unreadable(f"has weights {weight.codes.shape} and reads {x.shape}")
    scale = _per_channel(weight.scale, weight.axis, codes=weight.codes, out=0 if transposed else 1)

    def make(product: Product, node: str, y: str) -> Node:
        return g.Linear(node, x.name, y, product.weight, product.weight_scale, _int32(product))

    product = Product(_held(codes), scale, _bias(bias, x, scale), make, x)
    return Pending(name, (len(codes),), product=product)


def biased(value: Pending, bias: Value) -> Pending:
    """A product without bias, plus a constant; int32 stays what it is in the file."""
    product = value.product
    if product is None or product.bias.any() or not isinstance(bias, Quantized):
        return scaled(value, np.ones(1), plus=_real(bias))
    return replace(
        value, product=replace(product, bias=_bias(bias, product.x, product.weight_scale))
    )


def _real(value: Value) -> NDArray[np.float64]:
    if isinstance(value, Quantized):
        return value.real
    assert isinstance(value, Constant), "only constants fold into a product"
    return value.array.astype(np.float64)


def scaled(value: Pending, factor: NDArray[np.float64], *, plus: NDArray[np.float64]) -> Pending:
    """``value * factor + plus`` per channel, folded into its product: batch norm, a bias."""
    product = value.product
    unlimited = value.low == -np.inf and value.high == np.inf
    if product is None or value.then or not unlimited:
        raise Unreadable("scales or shifts a value that is not the result of a product")
    count = len(product.weight)
    if factor.size not in (1, count) or plus.size not in (1, count):
        raise Unreadable("is not one number a channel")
    factor, plus = (np.broadcast_to(vector.ravel(), count) for vector in (factor, plus))
    if (factor == 1).all() and not plus.any():
        return value
    if not (np.isfinite(factor).all() and np.isfinite(plus).all()):
        raise Unreadable("holds values that are not numbers")
    real = product.bias.astype(np.float64)
    if product.bias.dtype == np.int32:
        real = real * np.float64(product.x.scale) * product.weight_scale.astype(np.float64)
    sign = np.where(factor < 0, -1, 1).reshape(-1, *[1] * (product.weight.ndim - 1))
    weight = product.weight.astype(np.int64) * sign * (factor != 0).reshape(sign.shape)
    size = np.where(factor == 0, 1.0, np.abs(factor))
    made = replace(
        product, weight=_held(weight), bias=real * factor + plus,
        weight_scale=(product.weight_scale.astype(np.float64) * size).astype(np.float32),
    )  # fmt: skip
    return replace(value, product=made)


def _int32(product: Product) -> NDArray[np.int32]:
    assert product.bias.dtype == np.int32, "a product is made once its bias is on its grid"
    return cast(NDArray[np.int32], product.bias)


def _held(codes: NDArray[np.int64]) -> WeightCodes:
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if high - low > 255:
        raise Unreadable(f"has weight codes from {low} to {high}, which no 8-bit container holds")
    contiguous = np.ascontiguousarray(codes)
    if low >= -128 and high <= 127:
        return contiguous.astype(np.int8)
    return contiguous.astype(np.int16)


def _per_channel(scale: Float32, axis: int, *, codes: NDArray[np.int64], out: int) -> Float32:
    """One scale for each output channel, which lies on axis ``out`` of ``codes``."""
    count = codes.shape[out]
    if scale.size > 1 and (axis % codes.ndim != out or scale.size != count):
        raise Unreadable("has weights quantized per something else than output channel")
    made = np.broadcast_to(scale.ravel(), count).astype(np.float32)
    if not (np.isfinite(made).all() and (made > 0).all()):
        raise Unreadable("has weight scales that are not positive")
    return made


def _bias(bias: Value | None, x: Tensor, scale: Float32) -> NDArray[np.int32] | NDArray[np.float64]:
    """int32 as the file has it where that is on the product's grid, else the real values."""
    if bias is None:
        return np.zeros(len(scale), np.int32)
    if isinstance(bias, Quantized):
        grid = np.float64(x.scale) * scale.astype(np.float64)
        own = np.broadcast_to(bias.scale.ravel().astype(np.float64), len(scale))
        on_grid = bool((np.abs(own / grid - 1) < _SAME_GRID).all())
        small = bool((np.abs(bias.codes) < 2**31).all())
        if bias.codes.shape == scale.shape and on_grid and small:
            return bias.codes.astype(np.int32)
        real = bias.real
    elif isinstance(bias, Constant):
        real = bias.array.astype(np.float64)
    else:
        raise Unreadable("has a bias that is not constant")
    if real.size not in (1, len(scale)) or not np.isfinite(real).all():
        raise Unreadable("has a bias that is not one number a channel")
    return np.broadcast_to(real.ravel(), len(scale)).astype(np.float64)
