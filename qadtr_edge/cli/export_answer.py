"""What ``export`` answers: one row an engine file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import console
from ..runs import Run, width_name
from ..types import EngineFacts, Json, Parity


@dataclass(frozen=True)
class Row:
    """One engine file: what was observed of it, and its parity on a few images (not for float).

    ``more``: what is told of it besides, by its name in JSON.
    """

    facts: EngineFacts
    file: str
    size_bytes: int
    parity: Parity | None
    more: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        row: dict[str, Json] = {
            "engine": self.facts.engine,
            "bits": self.facts.bits,
            "file": self.file,
            "size_bytes": self.size_bytes,
            "engine_digest": self.facts.digest,
            "precision": self.facts.precision,
            "integer_kernels": self.facts.integer_kernels,
            "float_layers": list(self.facts.float_layers),
            "notes": list(self.facts.notes),
        }
        if self.parity is not None:
            row |= {
                "images": self.parity.images,
                "logits_compared": self.parity.logits_compared,
                "logit_mismatches": self.parity.logit_mismatches,
                "first_divergent_layer": self.parity.first_divergent_layer,
            }
        return row | dict(self.more)


def answer(run: Run, rows: Sequence[Row], *, json: bool) -> None:
    """Prints the rows: for a reader, or as one JSON document."""
    if json:
        console.print_json({"run": str(run.folder), "results": [row.as_json() for row in rows]})
    else:
        show(run, rows)


def show(run: Run, rows: Sequence[Row]) -> None:
    """The rows as a table, and their notes in words."""
    columns = ["engine", "values", "kB", "ran as", "integer kernels", "float layers", "parity"]
    table = [
        [
            row.facts.engine,
            width_name(row.facts.bits),
            f"{row.size_bytes / 1000:,.0f}",
            row.facts.precision,
            str(row.facts.integer_kernels),
            str(len(row.facts.float_layers)),
            _parity(row),
        ]
        for row in rows
    ]
    console.print_table(columns, table, title=f"Engines of {run.folder}")
    for note in dict.fromkeys(note for row in rows for note in row.facts.notes):
        console.say(f"Note: {note}.")


def _parity(row: Row) -> str:
    parity = row.parity
    if parity is None:
        return "not run" if row.facts.precision == "unknown" else "yardstick"
    found = f"{parity.logit_mismatches} of {parity.logits_compared} logits differ"
    return f"{found}, first in {parity.first_divergent_layer}" if parity.logit_mismatches else found
