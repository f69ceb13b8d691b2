"""Rows of ``Placements``: which columns there are, some rows of them, several sets as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace

import numpy as np
from numpy.typing import NDArray

from ..types import Placements

Column = NDArray[np.float64]

NAMES = tuple(item.name for item in fields(Placements) if item.name != "more")
ALWAYS = tuple(item.name for item in fields(Placements) if item.default is MISSING)
"""The columns there may be, and those that every set has, in their order."""

_EACH = {"corners": (4, 2)}
"""What a row of a column is, where it is not one number."""


def copies(places: Placements) -> tuple[Placements, ...]:
    """The places of each copy of the patch, the first one's first."""
    return (replace(places, more=()), *places.more) if places.more else (places,)


def columns(places: Placements) -> dict[str, Column]:
    """The columns there are, by name, in the order of the noun; a further copy's are numbered."""
    found: dict[str, Column] = {}
    for number, one in enumerate(copies(places)):
        for name in NAMES:
            if (column := getattr(one, name)) is not None:
                found[_named(name, number)] = column
    return found


def from_columns(held: Mapping[str, NDArray[np.generic]]) -> Placements:
    """The places of those columns of ``held`` that are any. Raises ``KeyError`` for one missing."""
    found: list[Placements] = []
    while not found or _named(ALWAYS[0], len(found)) in held:
        given = {name: _named(name, len(found)) for name in NAMES}
        there = {name: held[key] for name, key in given.items() if name in ALWAYS or key in held}
        found.append(Placements(**there))  # type: ignore[arg-type]
    return replace(found[0], more=tuple(found[1:]))


def taken(places: Placements, rows: slice | NDArray[np.int64]) -> Placements:
    """The places of these rows, in their order."""
    return _each([places], lambda parts: parts[0][rows])


def joined(parts: Sequence[Placements]) -> Placements:
    """The rows of several sets, one after the other. All have the columns of the first."""
    return _each(parts, np.concatenate)


def replaced(places: Placements, rows: NDArray[np.int64], *, by: Placements) -> Placements:
    """The places with those of ``by`` in these rows."""

    def put(parts: Sequence[Column]) -> Column:
        column = parts[0].copy()
        column[rows] = parts[1]
        return column

    return _each([places, by], put)


def whole(places: Placements, count: int) -> bool:
    """Whether every column has ``count`` rows of the shape and type the noun asks for."""
    return all(
        column.shape == (count, *_EACH.get(name.partition(".")[0], ()))
        and column.dtype == np.float64
        for name, column in columns(places).items()
    )


def _each(sets: Sequence[Placements], made: Callable[[Sequence[Column]], Column]) -> Placements:
    """What ``made`` gives of each column of the sets, which have those of the first."""
    held = [columns(one) for one in sets]
    return from_columns({name: made([one[name] for one in held]) for name in held[0]})


def _named(name: str, copy: int) -> str:
    return f"{name}.{copy}" if copy else name
