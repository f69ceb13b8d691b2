"""What a run folder holds, read once: results, facts, parity, latency, verdict, manifest.

Whatever was not run is ``None`` here and "not run" on the page. A file that cannot be read is left
out and named: a report of the rest is worth more than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..engines import ARTEFACT
from ..errors import BadInput
from ..files import digest, read_json
from ..results import Store
from ..runs import Run, read_manifest
from ..types import Json, Result

Object = Mapping[str, Json]
T = TypeVar("T")

VERDICT = "verdict.json"
DEVICES = "devices"
VERDICT_SCHEMA = 1
SHIPPED = "artefact"
CERTIFICATES = "certificates"
CERTIFICATE_SCHEMA = 1


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
    """Everything a report is made of. ``results`` are in the order they were finished.

    ``cells``: the automatic checks of each engine and width, as the attack suite wrote them;
    ``certificates``: what two masks certify around engines, outside any success rate; ``unread``:
    what could not be read of this folder, and what to do about it.
    """

    home: Run
    stages: Mapping[str, Object]
    results: tuple[Result, ...]
    engines: tuple[EngineEvidence, ...]
    bench_plan: str | None
    cells: tuple[Object, ...] = ()
    certificates: tuple[Object, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        return self.home.name

    @property
    def store(self) -> Store:
        """The rows and the labels behind them."""
        return Store(self.home.results, self.home.labels)

    def engine(self, name: str, bits: int) -> EngineEvidence | None:
        found = (item for item in self.engines if (item.engine, item.bits) == (name, bits))
        return next(found, None)

    def stands(self, result: Result) -> bool:
        """Whether the engine file a result was measured on is still the one in the folder.

        ``ort@NAME`` is the engine ``ort`` on the device of that name.
        """
        engine = self.engine(result.engine, result.bits) or self.engine(
            result.engine.partition("@")[0], result.bits
        )
        return engine is not None and engine.digest == result.engine_digest


def read(run: Run) -> Evidence:
    """The evidence of ``run``. Never fails over a file: ``unread`` says what was left out."""
    unread: list[str] = []
    nothing: Object = {}
    stages = _try(lambda: read_manifest(run), nothing, unread=unread).get("stages")
    bench = _object(run.bench, unread) or {}
    plan = bench.get("plan")
    verdict = _object(run.folder / VERDICT, unread) or {}
    if verdict and verdict.get("schema") != VERDICT_SCHEMA:
        unread.append(
            f"{VERDICT} has schema {verdict.get('schema')}; this version reads {VERDICT_SCHEMA}. "
            "Run the attack suite again."
        )
        verdict = {}
    latency = _objects(bench.get("results"))
    exported = tuple(
        _engine(run, name, bits=bits, latency=latency, unread=unread)
        for name in _exported(run)
        for bits in run.widths(name)
        if (run.engine(name, bits) / ARTEFACT).is_file()
    )
    none: tuple[Result, ...] = ()
    results = _try(Store(run.results, run.labels).rows, none, unread=unread)
    engines = exported + _shipped(run, results, latency=latency)
    return Evidence(
        home=run,
        stages={
            name: entry
            for name, entry in (stages if isinstance(stages, dict) else {}).items()
            if isinstance(entry, dict)
        },
        results=results,
        engines=engines + _on_devices(run, engines, unread=unread),
        bench_plan=str(plan["name"]) if isinstance(plan, dict) and "name" in plan else None,
        cells=tuple(_objects(verdict.get("cells"))),
        certificates=_certificates(run, unread),
        unread=tuple(unread),
    )


def _exported(run: Run) -> list[str]:
    """Engines that have a folder, whichever of them can be run here."""
    found = (re.fullmatch(r"(.+)-(?:w\d+a\d+|fp32)", path.name) for path in run.engines.glob("*"))
    return sorted({match[1] for match in found if match})


def _shipped(
    run: Run, results: tuple[Result, ...], *, latency: list[Object]
) -> tuple[EngineEvidence, ...]:
    """The engines that ran a file as it ships, which stays where it is.

    What is measured of such a file lies in a folder named after its digest, and speaks of it alone.
    """
    name, _, start = run.folder.resolve().name.partition("-")
    if name != SHIPPED or not start:
        return ()
    rows = {(row.engine, row.bits): row for row in results if row.engine_digest.startswith(start)}
    return tuple(
        EngineEvidence(
            engine=engine,
            bits=bits,
            digest=row.engine_digest,
            size_bytes=0,
            facts={"precision": row.precision},
            parity=None,
            latency={
                batch: one
                for one in latency
                if (one.get("engine"), one.get("bits")) == (engine, bits)
                and one.get("engine_digest") == row.engine_digest
                and isinstance(batch := one.get("batch"), int)
            },
        )
        for (engine, bits), row in rows.items()
    )


def _engine(
    run: Run, name: str, *, bits: int, latency: list[Object], unread: list[str]
) -> EngineEvidence:
    folder = run.engine(name, bits)
    artefact = folder / ARTEFACT
    sha = digest(artefact)
    facts = _object(folder / "facts.json", unread)
    parity = _object(folder / "verify.json", unread)
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


def _on_devices(
    run: Run, here: tuple[EngineEvidence, ...], *, unread: list[str]
) -> tuple[EngineEvidence, ...]:
    """The engines that devices timed, as ``ort@NAME``, from what was pulled of each.

    ``here``: those of the run, which know the size of a file that is theirs too.
    """
    sizes = {engine.digest: engine.size_bytes for engine in here}
    found = []
    for folder in sorted((run.folder / DEVICES).glob("*")):
        latency = _objects((_object(folder / "bench.json", unread) or {}).get("results"))
        described = _objects((_object(folder / "device.json", unread) or {}).get("engines"))
        for name, bits, sha in dict.fromkeys(
            (str(row.get("engine")), row.get("bits"), str(row.get("engine_digest")))
            for row in latency
        ):
            if not isinstance(bits, int):
                continue
            own = [row for row in latency if row.get("engine_digest") == sha]
            facts = (each for each in described if _is_of(each, "digest", sha))
            found.append(
                EngineEvidence(
                    engine=f"{name}@{folder.name}",
                    bits=bits,
                    digest=sha,
                    size_bytes=sizes.get(sha, 0),
                    facts=next(facts, own[0]),
                    parity=None,
                    latency={
                        batch: row for row in own if isinstance(batch := row.get("batch"), int)
                    },
                )
            )
    return tuple(found)


def _certificates(run: Run, unread: list[str]) -> tuple[Object, ...]:
    """The certificates in the folder of this schema, in the order of their files."""
    found = []
    for path in sorted((run.folder / CERTIFICATES).glob("*.json")):
        one = _object(path, unread)
        if one is not None and one.get("schema") == CERTIFICATE_SCHEMA:
            found.append(one)
        elif one is not None:
            unread.append(
                f"{path.name} of {CERTIFICATES} has schema {one.get('schema')}; this version reads "
                f"{CERTIFICATE_SCHEMA}. Delete it and certify again."
            )
    return tuple(found)


def _try(read: Callable[[], T], otherwise: T, *, unread: list[str]) -> T:
    """What ``read`` gives, or ``otherwise`` with the reason noted when it cannot be read."""
    try:
        return read()
    except BadInput as error:
        unread.append(f"{error.fact} {error.remedy}")
        return otherwise


def _is_of(found: Object | None, key: str, sha: str) -> bool:
    """Whether a JSON file speaks of the engine file with this digest."""
    return found is not None and found.get(key) == sha


def _object(file: Path, unread: list[str]) -> Object | None:
    """The JSON object in a file, or ``None`` when it is absent or cannot be read."""
    if not file.is_file():
        return None
    value = _try(lambda: read_json(file), None, unread=unread)
    if isinstance(value, dict):
        return value
    if value is not None:
        unread.append(f"{file} does not hold a JSON object. Delete it and run its stage again.")
    return None


def _objects(value: Json) -> list[Object]:
    """The objects in a list, or none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
