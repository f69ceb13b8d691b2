"""What a run folder holds, read once: results, facts, parity, latency, manifest.

Whatever was not run is ``None`` here and "not run" on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engines import ARTEFACT
from ..errors import BadInput
from ..files import digest, read_json
from ..registry import names
from ..results import Store
from ..runs import Run, read_manifest
from ..types import Json, Result

Object = Mapping[str, Json]


@dataclass(frozen=True, eq=False)
class EngineEvidence:
    """One engine at one width, as it stands in the folder now.

    ``facts``, ``parity``: its ``facts.json`` and ``verify.json``. ``latency``: its rows of
    ``bench.json`` by batch size, only those measured on this very file.
    """

    engine: str
    bits: int
    digest: str
    size_bytes: int
    facts: Object | None
    parity: Object | None
    latency: Mapping[int, Object]

    @property
    def precision(self) -> str | None:
        """integer, mixed or float as observed by the last ``verify`` or at export."""
        for source in (self.parity, self.facts):
            if source is not None and isinstance(source.get("precision"), str):
                return str(source["precision"])
        return None


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a report is made of. ``results`` are in the order they were finished."""

    run: str
    stages: Mapping[str, Object]
    results: tuple[Result, ...]
    engines: tuple[EngineEvidence, ...]
    bench_plan: str | None

    def engine(self, name: str, bits: int) -> EngineEvidence | None:
        found = (item for item in self.engines if (item.engine, item.bits) == (name, bits))
        return next(found, None)

    def stands(self, result: Result) -> bool:
        """Whether the engine file a result was measured on is still the one in the folder."""
        engine = self.engine(result.engine, result.bits)
        return engine is not None and engine.digest == result.engine_digest


def read(run: Run) -> Evidence:
    """The evidence of ``run``. Raises ``BadInput`` for files that cannot be read."""
    stages = read_manifest(run)["stages"]
    bench = _object(run, "bench.json") or {}
    rows = bench.get("results")
    latency = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    plan = bench.get("plan")
    return Evidence(
        run=run.name,
        stages={
            name: entry
            for name, entry in (stages if isinstance(stages, dict) else {}).items()
            if isinstance(entry, dict)
        },
        results=Store(run.results, run.labels).rows(),
        engines=tuple(
            _engine(run, name, bits=bits, latency=latency)
            for name in sorted(names("engine"))
            for bits in run.widths(name)
            if (run.engine(name, bits) / ARTEFACT).is_file()
        ),
        bench_plan=str(plan["name"]) if isinstance(plan, dict) and "name" in plan else None,
    )


def _engine(run: Run, name: str, *, bits: int, latency: list[dict[str, Json]]) -> EngineEvidence:
    folder = run.engine(name, bits)
    artefact = folder / ARTEFACT
    sha = digest(artefact)
    place = folder.relative_to(run.folder)
    return EngineEvidence(
        engine=name,
        bits=bits,
        digest=sha,
        size_bytes=artefact.stat().st_size,
        facts=_object(run, f"{place}/facts.json"),
        parity=_object(run, f"{place}/verify.json"),
        latency={
            batch: row
            for row in latency
            if (row.get("engine"), row.get("bits")) == (name, bits)
            and row.get("engine_digest") == sha
            and isinstance(batch := row.get("batch"), int)
        },
    )


def _object(run: Run, path: str) -> Object | None:
    """A JSON object of the run folder, or ``None`` when the file is absent."""
    file = run.folder / path
    if not file.is_file():
        return None
    value = read_json(file)
    if not isinstance(value, dict):
        raise BadInput(f"{file} does not hold a JSON object.", "Delete it and run its stage again.")
    return value
