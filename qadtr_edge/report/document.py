"""The report as data: one row per engine and width, one per result, the warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BadInput
from ..types import Json
from ..verdict.worst import Worst
from .engine import EngineEvidence
from .evidence import Evidence
from .reading import Object
from .rows import Row, rows, worst
from .warnings import warnings
from .worst import quotable, worst_case


@dataclass(frozen=True, eq=False)
class Line:
    """One engine at one width: what was observed of it, and the strongest attack on it.

    ``rows``: all that was measured on the file that stands; ``worst``: the per-image worst case.
    ``white_box_left``: the strongest attack is named without the white-box one, which searches on
    the engine beat.
    """

    engine: EngineEvidence
    rows: tuple[Row, ...]
    strongest: Row | None
    worst: Worst | None
    white_box_left: bool = False

    def timed(self, batch: int) -> Object | None:
        """Its latency row at a batch size, or ``None`` when it was not measured."""
        return self.engine.latency.get(batch)

    def as_json(self) -> dict[str, Json]:
        """The line by stable names; what was not run is null."""
        parity = self.engine.parity or {}
        facts = self.engine.facts or {}
        return {
            "engine": self.engine.engine,
            "bits": self.engine.bits,
            "precision": self.engine.precision,
            "runtime": facts.get("runtime"),
            "size_bytes": self.engine.size_bytes,
            "engine_digest": self.engine.digest,
            "integer_kernels": parity.get("integer_kernels", facts.get("integer_kernels")),
            "float_layers": parity.get("float_layers", facts.get("float_layers")),
            "images_verified": parity.get("images"),
            "logits_compared": parity.get("logits_compared"),
            "logit_mismatches": parity.get("logit_mismatches"),
            "latency": [
                {
                    key: row.get(key)
                    for key in (
                        "batch", "p50_ms", "p90_ms", "p99_ms", "images_per_s", "cov", "stable",
                        "speedup_vs_fp32",
                    )
                }
                for _, row in sorted(self.engine.latency.items())
            ],
            "worst_case_asr": None if self.worst is None else self.worst.asr,
            "white_box_leaves_headline": self.white_box_left,
            "strongest": None if self.strongest is None else self.strongest.as_json(),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Document:
    """A report. ``rows`` are only those measured on an engine file that still stands."""

    evidence: Evidence
    lines: tuple[Line, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        return {
            "run": self.evidence.run,
            "engines": [line.as_json() for line in self.lines],
            "results": [row.as_json() for row in self.rows],
            "warnings": list(self.warnings),
        }


def compose(evidence: Evidence) -> Document:
    """The report of what is there; nothing is run, nothing is filled in."""
    found = rows(evidence.results)
    standing = tuple(row for row in found if evidence.stands(row.result))
    return Document(
        evidence=evidence,
        lines=tuple(_line(engine, standing, evidence=evidence) for engine in evidence.engines),
        rows=found,
        warnings=warnings(evidence, found),
    )


def _line(engine: EngineEvidence, standing: Sequence[Row], *, evidence: Evidence) -> Line:
    mine = tuple(row for row in standing if _of(row, engine))
    try:
        union, quoted = worst_case(mine, evidence.store), quotable(mine, evidence.store)
    except BadInput:  # damaged labels: the rows still stand, their union does not
        union, quoted = None, mine
    return Line(engine, mine, worst(quoted), union, white_box_left=len(quoted) < len(mine))


def _of(row: Row, engine: EngineEvidence) -> bool:
    return (row.result.engine, row.result.bits) == (engine.engine, engine.bits)
