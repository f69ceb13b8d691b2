"""What a run folder holds, read once: results, facts, parity, latency, manifest.

Whatever was not run is ``None`` here and "not run" on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    ``bench.json`` by batch size. All only when they speak of this very file; ``outdated`` names
    those that speak of another.
    """

    engine: str
    bits: int
    digest: str
    size_bytes: int
    facts: Object | None
    parity: Object | None
    latency: Mapping[int, Object]
    outdated: tuple[str, ...] = ()

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
    stages = read_manifest(run).get("stages")
    bench = _object(run.bench) or {}
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
    facts = _object(folder / "facts.json")
    parity = _object(folder / "verify.json")
    return EngineEvidence(
        engine=name,
        bits=bits,
        digest=sha,
        size_bytes=artefact.stat().st_size,
        facts=facts if _is_of(facts, "digest", sha) else None,
        parity=parity if _is_of(parity, "engine_digest", sha) else None,
        latency={
            batch: row
            for row in latency
            if (row.get("engine"), row.get("bits")) == (name, bits)
            and row.get("engine_digest") == sha
            and isinstance(batch := row.get("batch"), int)
        },
        outdated=tuple(
            name
            for name, found, key in (
                ("facts.json", facts, "digest"),
                ("verify.json", parity, "engine_digest"),
            )
            if found is not None and not _is_of(found, key, sha)
        ),
    )


def _is_of(found: Object | None, key: str, sha: str) -> bool:
    """Whether a JSON file speaks of the engine file with this digest."""
    return found is not None and found.get(key) == sha


def _object(file: Path) -> Object | None:
    """The JSON object in a file, or ``None`` when the file is absent."""
    if not file.is_file():
        return None
    value = read_json(file)
    if not isinstance(value, dict):
        raise BadInput(f"{file} does not hold a JSON object.", "Delete it and run its stage again.")
    return value
