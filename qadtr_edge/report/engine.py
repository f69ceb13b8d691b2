"""The engines of a run folder: exported into it, run as they ship, timed on devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..engines import ARTEFACT
from ..files import digest
from ..runs import Run
from ..types import Result
from .reading import Object, object_in, objects_in

DEVICES = "devices"
SHIPPED = "artefact"


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


def exported(run: Run, *, latency: list[Object], unread: list[str]) -> tuple[EngineEvidence, ...]:
    """Those that have a folder, whichever of them can be run here."""
    found = (re.fullmatch(r"(.+)-(?:w\d+a\d+|fp32)", path.name) for path in run.engines.glob("*"))
    return tuple(
        _engine(run, name, bits=bits, latency=latency, unread=unread)
        for name in sorted({match[1] for match in found if match})
        for bits in run.widths(name)
        if (run.engine(name, bits) / ARTEFACT).is_file()
    )


def shipped(
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


def on_devices(
    run: Run, here: tuple[EngineEvidence, ...], *, unread: list[str]
) -> tuple[EngineEvidence, ...]:
    """The engines that devices timed, as ``ort@NAME``, from what was pulled of each.

    ``here``: those of the run, which know the size of a file that is theirs too.
    """
    sizes = {engine.digest: engine.size_bytes for engine in here}
    found = []
    for folder in sorted((run.folder / DEVICES).glob("*")):
        latency = objects_in((object_in(folder / "bench.json", unread) or {}).get("results"))
        described = objects_in((object_in(folder / "device.json", unread) or {}).get("engines"))
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


def _engine(
    run: Run, name: str, *, bits: int, latency: list[Object], unread: list[str]
) -> EngineEvidence:
    folder = run.engine(name, bits)
    artefact = folder / ARTEFACT
    sha = digest(artefact)
    facts = object_in(folder / "facts.json", unread)
    parity = object_in(folder / "verify.json", unread)
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
