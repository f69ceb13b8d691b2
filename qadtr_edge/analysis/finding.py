"""What an analysis found: numbers for machines, tables for the terminal, a figure for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files import write_bytes, write_json
from ..types import Json
from . import figure

SCHEMA = 1


@dataclass(frozen=True)
class Table:
    """A table of the answer."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Finding:
    """``numbers`` by name, ``tables``, and ``draw``, which fills a figure of ``size_in`` inches.

    ``notes``: what a reader must know to read them rightly, one sentence each.
    """

    numbers: Mapping[str, Json]
    tables: tuple[Table, ...]
    draw: figure.Draw
    size_in: tuple[float, float]
    notes: tuple[str, ...] = ()


def write(
    finding: Finding, folder: Path, *, name: str, head: Mapping[str, Json]
) -> dict[str, Json]:
    """Writes ``name.svg`` and ``name.json`` into ``folder``; returns the document.

    ``head`` says what was analysed (run, options, digests, number of images); it comes first.
    """
    document: dict[str, Json] = {
        "schema": SCHEMA,
        "analysis": name,
        **head,
        **finding.numbers,
        "notes": list(finding.notes),
    }
    write_bytes(folder / f"{name}.svg", figure.svg(finding.draw, size_in=finding.size_in))
    write_json(folder / f"{name}.json", document)
    return document
