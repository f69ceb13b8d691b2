"""Rows of ``Placements``: which columns there are, some rows of them, several sets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields

import numpy as np
from numpy.typing import NDArray

from ..types import Placements

Column = NDArray[np.float64]

ALWAYS = tuple(item.name for item in fields(Placements) if item.default is MISSING)
"""The columns every set has, in their order."""

_EACH = {"corners": (4, 2)}
"""What a row of a column is, where it is not one number."""


def columns(places: Placements) -> dict[str, Column]:
    """The columns there are, by name, in the order of the noun."""
    every = {item.name: getattr(places, item.name) for item in fields(Placements)}
    return {name: column for name, column in every.items() if column is not None}


def from_columns(held: Mapping[str, NDArray[np.generic]]) -> Placements:
    """The places of those columns of ``held`` that are any. Raises ``KeyError`` for one missing."""
    names = (*ALWAYS, *(item.name for item in fields(Placements) if item.name in held))
    return Placements(**{name: held[name] for name in names})  # type: ignore[arg-type]


def taken(places: Placements, rows: slice | NDArray[np.int64]) -> Placements:
    """The places of these rows, in their order."""
    return Placements(**{name: column[rows] for name, column in columns(places).items()})


def joined(parts: Sequence[Placements]) -> Placements:
    """The rows of several sets, one after the other. All have the columns of the first."""
    names = columns(parts[0])
    return Placements(
        **{name: np.concatenate([columns(part)[name] for part in parts]) for name in names}
    )


def whole(places: Placements, count: int) -> bool:
    """Whether every column has ``count`` rows of the shape and type the noun asks for."""
    return all(
        column.shape == (count, *_EACH.get(name, ())) and column.dtype == np.float64
        for name, column in columns(places).items()
    )
