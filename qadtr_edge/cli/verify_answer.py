"""What ``verify`` answers: one row an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from .. import console, registry
from ..runs import width_name
from ..types import EngineFacts, Json, Parity
from . import verify_isa


class _Tolerance(Protocol):
    """``export.tolerance.Tolerance``."""

    @property
    def classes_share(self) -> float: ...
    @property
    def reason(self) -> str: ...


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
        return self.facts.precision == "integer" and self.is_near

    @property
    def is_near(self) -> bool:
        """Whether the answers are the judge's, as exactly as the engine says they can be.

        Every bit, unless the registry has a tolerance for it: then by the classes that differ.
        """
        if self.tolerance is None:
            return self.parity.logit_mismatches == 0
        return self.parity.argmax_mismatches <= self.tolerance.classes_share * self.parity.images

    @property
    def tolerance(self) -> _Tolerance | None:
        """What the engine says of its own arithmetic; ``None`` for one that must be exact."""
        if self.facts.engine not in registry.names("tolerance"):
            return None
        return cast(_Tolerance, registry.resolve("tolerance", self.facts.engine))

    def as_json(
        self, *, layers: bool, elsewhere: Sequence[verify_isa.Row] = (), saturation: Json = None
    ) -> dict[str, Json]:
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
            "tolerance": None if self.tolerance is None else self.tolerance.reason,
            **self.more,
        }
        there = [other.document for other in elsewhere if other.bits == self.bits]
        if there and self.facts.engine == "ort":
            row["isa"] = [*there]
        if saturation is not None:
            row["saturation"] = saturation
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
        called = f"{row.facts.engine} {width_name(row.bits)}"
        if not row.holds:
            console.say(f"{called} does not hold: {_reason(row)}.")
        elif row.parity.logit_mismatches and row.tolerance:
            console.say(f"{called} runs integers in arithmetic of its own. {row.tolerance.reason}")


def _reason(row: Row) -> str:
    reasons = []
    if row.facts.precision != "integer":
        named = ", ".join(row.facts.float_layers) or "all layers"
        ran = f"it ran in {row.facts.precision} precision ({named})"
        reasons.append(f"{ran} and may not be called INT8")
    if not row.is_near:
        where = row.parity.first_divergent_layer or "an unknown layer"
        reasons.append(f"its logits differ from {where} on")
    return " and ".join(reasons)
