"""What a page is made of: sections of sentences, tables, figures and exhibits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..analysis.figure import Draw
from ..analysis.finding import Table


@dataclass(frozen=True, eq=False)
class Figure:
    """A drawing of ``size_in`` inches. ``name``: its file; ``said``: what it shows, in words."""

    name: str
    title: str
    said: str
    draw: Draw
    size_in: tuple[float, float] = (6.4, 3.2)


@dataclass(frozen=True)
class Picture:
    """A picture in a file of its own kind, ``image/png`` or ``image/svg+xml``."""

    content: bytes
    kind: str
    said: str


@dataclass(frozen=True)
class Exhibit:
    """Pictures side by side under one caption."""

    pictures: tuple[Picture, ...]
    caption: str


@dataclass(frozen=True, eq=False)
class Section:
    """One section. ``missing``: what is not in it and the command that would put it there."""

    name: str
    title: str
    said: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()


def table(title: str, columns: Sequence[str], *, rows: Sequence[Sequence[str]]) -> Table:
    return Table(title, tuple(columns), tuple(tuple(row) for row in rows))
