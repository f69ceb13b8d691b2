"""A bias in int32, on the grid of the products it is added to.

Files keep a bias in float, or make one when a batch norm folds. The grid ``scale_x * weight_scale``
of narrow weights is coarse: at 2 bits half a step of it can be more than a step of the output.
Weights times a whole number, with a scale that much smaller, are the same weights on a finer grid,
and the 8-bit container of a narrow weight has room for that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .reader_values import Product, Unreadable

_CONTAINER = 127
_EXACT = 2**24
"""float32 holds every whole number up to here, so a sum below it is rescaled without rounding."""
_BIAS_LIMIT = 2**30  # accumulator head room: int32 holds the bias and every product sum beside it


def on_grid(product: Product) -> Product:
    """``product`` with its bias in int32. Raises ``Unreadable`` where it does not fit."""
    if product.bias.dtype == np.int32:
        return product
    product = _refined(_with_room(product))
    whole = np.rint(product.bias / _step(product))
    if not (np.abs(whole) < 2**31).all():
        raise Unreadable("has a bias that int32 cannot hold on the grid of its products")
    return replace(product, bias=whole.astype(np.int32))


def _step(product: Product) -> NDArray[np.float64]:
    return np.float64(product.x.scale) * product.weight_scale.astype(np.float64)


def _with_room(product: Product) -> Product:
    """A channel without weights has only its bias, which gets a grid of its own."""
    rows = product.weight.reshape(len(product.weight), -1)
    size = np.abs(product.bias)
    empty = ~rows.any(axis=1) & (size > _step(product) * _BIAS_LIMIT)
    scale = product.weight_scale.copy()
    scale[empty] = 2 * size[empty] / (product.x.scale * _BIAS_LIMIT)
    return replace(product, weight_scale=scale)


def _refined(product: Product) -> Product:
    """Weights times the largest whole number that container and exact sums have room for."""
    rows = np.abs(product.weight.reshape(len(product.weight), -1).astype(np.int64))
    largest = max(-product.x.low, product.x.high, 1)
    sums = (rows.sum(axis=1) * largest + np.abs(product.bias) / _step(product)).max(initial=1)
    factor = min(_CONTAINER // max(int(rows.max(initial=1)), 1), int(_EXACT // max(sums, 1)))
    if factor < 2:
        return product
    return replace(
        product,
        weight=(product.weight.astype(np.int64) * factor).astype(np.int8),
        weight_scale=(product.weight_scale.astype(np.float64) / factor).astype(np.float32),
    )
