"""What ``verify`` answers: one row an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import console
from ..runs import width_name
from ..types import EngineFacts, Json, Parity
from . import verify_isa


@dataclass(frozen=True)
class Row:
    """One engine: ``bits`` is the width asked for; what the file says of itself is in ``facts``.

    ``more``: what is told of it besides, by its name in JSON.
    """

    bits: int
    facts: EngineFacts
    parity: Parity
    more: Mapping[str, Json] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.facts.precision == "integer" and self.parity.logit_mismatches == 0

    def as_json(self, *, layers: bool, elsewhere: Sequence[verify_isa.Row] = ()) -> dict[str, Json]:
        parity = self.parity
        row: dict[str, Json] = {
            "engine": self.facts.engine,
            "bits": self.bits,
            "precision": self.facts.precision,
            "integer_kernels": self.facts.integer_kernels,
            "float_layers": list(self.facts.float_layers),
            "images": parity.images,
            "logits_compared": parity.logits_compared,
            "logit_mismatches": parity.logit_mismatches,
            "max_abs_diff": parity.max_abs_diff,
            "argmax_mismatches": parity.argmax_mismatches,
            "first_divergent_layer": parity.first_divergent_layer,
            "engine_digest": self.facts.digest,
            "runtime": self.facts.runtime,
            "notes": [*self.facts.notes, *parity.notes],
            **self.more,
        }
        there = [other.document for other in elsewhere if other.bits == self.bits]
        if there and self.facts.engine == "ort":
            row["isa"] = [*there]
        if layers:
            row["layers"] = [
                {
                    "layer": layer.layer,
                    "elements": layer.elements,
                    "mismatches": layer.mismatches,
                    "max_abs_diff": layer.max_abs_diff,
                }
                for layer in parity.layers
            ]
        return row


def show(rows: Sequence[Row]) -> None:
    """The rows as a table, and in words what a reader must know of them."""
    columns = [
        "engine", "values", "ran as", "integer kernels", "float layers", "images",
        "logits that differ", "largest difference", "classes that differ", "first in",
    ]  # fmt: skip
    table = [
        [
            row.facts.engine,
            width_name(row.bits),
            row.facts.precision,
            str(row.facts.integer_kernels),
            ", ".join(row.facts.float_layers) or "none",
            f"{row.parity.images:,}",
            f"{row.parity.logit_mismatches:,} of {row.parity.logits_compared:,}",
            f"{row.parity.max_abs_diff:g}",
            f"{row.parity.argmax_mismatches:,}",
            row.parity.first_divergent_layer or "-",
        ]
        for row in rows
    ]
    console.print_table(columns, table, title="Engine against the exact integer graph")
    for row in rows:
        for note in (*row.facts.notes, *row.parity.notes):
            console.say(f"{row.facts.engine} {width_name(row.bits)}: {note}.")
        if not row.holds:
            console.say(
                f"{row.facts.engine} {width_name(row.bits)} does not hold: "
                f"{_reason(row)}. It may not be called INT8."
            )


def _reason(row: Row) -> str:
    reasons = []
    if row.facts.precision != "integer":
        named = ", ".join(row.facts.float_layers) or "all layers"
        reasons.append(f"it ran in {row.facts.precision} precision ({named})")
    if row.parity.logit_mismatches:
        where = row.parity.first_divergent_layer or "an unknown layer"
        reasons.append(f"its logits differ from {where} on")
    return " and ".join(reasons)
