"""What ``analyze`` found: its figures as it drew them, its numbers and notes."""

from __future__ import annotations

from pathlib import Path

from ..analysis import ANALYSES
from ..analysis.finding import Table
from ..errors import BadInput
from ..files import read_json
from ..types import Json
from .document import Document
from .section import Exhibit, Picture, Section, table

ROWS = 60
"""Rows of a list that are shown; the JSON file holds all."""


def analysed(document: Document) -> Section:
    """One figure and the tables of each analysis in the folder."""
    folder = document.evidence.home.analysis
    said, missing, tables, exhibits = [], [], [], []
    for name in ANALYSES:
        path = folder / f"{name}.json"
        if not path.is_file():
            missing.append(f"{name}: not run (qadtr-edge analyze {name}).")
            continue
        try:
            found = read_json(path)
        except BadInput as error:
            missing.append(f"{name}: {error.fact} {error.remedy}")
            continue
        if not isinstance(found, dict):
            missing.append(f"{name}: {path.name} does not hold a JSON object.")
            continue
        notes = found.get("notes")
        said += [f"{name}: {note}" for note in (notes if isinstance(notes, list) else ())]
        tables += _tables(name, found)
        drawn = _drawn(folder / f"{name}.svg", name)
        if drawn is None:
            missing.append(f"{name}: its figure is missing or damaged.")
        else:
            exhibits.append(drawn)
    return Section("analyses", "Analyses", tuple(said), tuple(missing), tuple(tables), (),
                   tuple(exhibits))  # fmt: skip


def _drawn(path: Path, name: str) -> Exhibit | None:
    """The figure as a picture: whatever its file holds, a picture runs no script."""
    content = path.read_bytes() if path.is_file() else b""
    if b"</svg>" not in content:
        return None
    said = f"Figure of the analysis {name}; its numbers are in the tables of this section."
    return Exhibit((Picture(content, "image/svg+xml", said),), f"Analysis: {name}")


def _tables(name: str, found: dict[str, Json]) -> list[Table]:
    """A table of each list of objects in a document: its plain values by name."""
    tables = []
    for key, value in found.items():
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        columns = [
            column
            for column in dict.fromkeys(column for row in rows for column in row)
            if all(not isinstance(row.get(column), dict | list) for row in rows)
        ]
        if len(columns) > 1:  # a name without a number says nothing
            shown = [[_text(row.get(column)) for column in columns] for row in rows[:ROWS]]
            more = f", the first {ROWS} of {len(rows)}" if len(rows) > ROWS else ""
            tables.append(table(f"{name}: {key}{more}", columns, rows=shown))
    return tables


def _text(value: Json) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
