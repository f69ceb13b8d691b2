"""What a run folder holds, read once: results, facts, parity, latency, verdict, manifest.

Whatever was not run is ``None`` here and "not run" on the page. A file that cannot be read is left
out and named: a report of the rest is worth more than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..results import Store
from ..runs import Run, read_manifest
from ..types import Result
from .engine import EngineEvidence, exported, on_devices, shipped
from .reading import Object, attempted, object_in, objects_in

VERDICT = "verdict.json"
VERDICT_SCHEMA = 1
CERTIFICATES = "certificates"
CERTIFICATE_SCHEMA = 1


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
    stages = attempted(lambda: read_manifest(run), nothing, unread=unread).get("stages")
    bench = object_in(run.bench, unread) or {}
    plan = bench.get("plan")
    verdict = object_in(run.folder / VERDICT, unread) or {}
    if verdict and verdict.get("schema") != VERDICT_SCHEMA:
        unread.append(
            f"{VERDICT} has schema {verdict.get('schema')}; this version reads {VERDICT_SCHEMA}. "
            "Run the attack suite again."
        )
        verdict = {}
    latency = objects_in(bench.get("results"))
    none: tuple[Result, ...] = ()
    results = attempted(Store(run.results, run.labels).rows, none, unread=unread)
    engines = exported(run, latency=latency, unread=unread)
    engines += shipped(run, results, latency=latency)
    return Evidence(
        home=run,
        stages={
            name: entry
            for name, entry in (stages if isinstance(stages, dict) else {}).items()
            if isinstance(entry, dict)
        },
        results=results,
        engines=engines + on_devices(run, engines, unread=unread),
        bench_plan=str(plan["name"]) if isinstance(plan, dict) and "name" in plan else None,
        cells=tuple(objects_in(verdict.get("cells"))),
        certificates=_certificates(run, unread),
        unread=tuple(unread),
    )


def _certificates(run: Run, unread: list[str]) -> tuple[Object, ...]:
    """The certificates in the folder of this schema, in the order of their files."""
    found = []
    for path in sorted((run.folder / CERTIFICATES).glob("*.json")):
        one = object_in(path, unread)
        if one is not None and one.get("schema") == CERTIFICATE_SCHEMA:
            found.append(one)
        elif one is not None:
            unread.append(
                f"{path.name} of {CERTIFICATES} has schema {one.get('schema')}; this version reads "
                f"{CERTIFICATE_SCHEMA}. Delete it and certify again."
            )
    return tuple(found)
