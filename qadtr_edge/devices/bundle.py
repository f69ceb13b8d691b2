"""A bundle: everything a device needs to replay and time the engines of a run, in one zip file.

    __main__.py  qadtr_edge/…           the torch-free part of this package: Python runs the file
    bundle/plan.json                    units with their keys, engines, timing, digests of the rest
    bundle/data.npz                     images (N, 3, H, W) uint8, labels, ids
    bundle/units/KEY.npz                pixels and mask of a patch, its place on each image
    bundle/pool.npz                     pictures that a search begins with, where one does
    bundle/engines/ort-w8a8/…           the file the engine loads, and its facts

The file ends in ``.pyz`` and is a zip application (PEP 441). Equal contents give equal bytes, so
that a device that has the file is known by its digest. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from .. import replay, timing
from ..data.dataset import Dataset
from ..engines import ARTEFACT, artefact_of
from ..errors import BadInput
from ..files import replacing, write_bytes
from ..replay import Unit
from ..runs import Run
from ..types import Json, Labels, Pixels
from .bundle_search import Sought
from .bundle_unit import arrays, described, packed, packed_unit, unit_key, unpacked_unit
from .carried import sources

SCHEMA = 1
PLAN, DATA, UNITS, ENGINES = "bundle/plan.json", "bundle/data.npz", "bundle/units", "bundle/engines"
FACTS = "facts.json"
PICTURES = "bundle/pool.npz"
MAIN = b"""import sys

def refuse(fact, remedy):
    sys.stderr.write("Error: " + fact + "\\n" + remedy + "\\n")
    sys.exit(2)

if sys.version_info < (3, 10):
    refuse("This is Python %d.%d." % sys.version_info[:2], "Run it with Python 3.10 or newer.")
try:
    import numpy
except ImportError:
    refuse("NumPy is not installed.", "Install it: " + sys.executable + " -m pip install numpy.")
from qadtr_edge.edge import main
sys.exit(main())
"""
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Job:
    """One engine at one width, what is replayed on it, and by what it is searched there.

    With neither it is only timed.
    """

    engine: str
    bits: int
    units: tuple[Unit, ...]
    searches: tuple[Sought, ...] = ()


@dataclass(frozen=True, eq=False)
class Clock:
    """How the engines are timed: the plan of the windows, and the batch sizes.

    ``gaps_ms``: pauses that one image is timed after; ``with_energy``: whether energy is measured.
    """

    plan: timing.Plan
    batches: tuple[int, ...]
    gaps_ms: tuple[int, ...] = ()
    with_energy: bool = False


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle as a device reads it. ``digest``: of its plan, and so of everything in it.

    ``pool``: pictures ``(M, 3, H, W) uint8`` that searches begin with, ``None`` without one.
    """

    path: Path
    digest: str
    run: str
    classes: int
    data: Dataset
    jobs: tuple[Job, ...]
    clock: Clock
    pool: Pixels | None

    @property
    def units(self) -> int:
        """How many rows of results its work leaves."""
        return sum(len(job.units) + len(job.searches) for job in self.jobs)


def write(
    path: Path, jobs: Sequence[Job], *, run: Run, data: Dataset, classes: int, clock: Clock,
    pool: Pixels | None = None,
) -> str:  # fmt: skip
    """Writes the bundle, whole or not at all; returns the digest of its plan.

    ``pool`` travels only where a search begins with it. Raises ``BadInput`` for an engine the run
    does not hold.
    """
    parts: dict[str, bytes] = {"__main__.py": MAIN, **sources()}
    parts[DATA] = packed({"images": data.images, "labels": data.labels, "ids": data.ids})
    if any(sought.pooled for job in jobs for sought in job.searches):
        assert pool is not None
        parts[PICTURES] = packed({"images": pool})
    units: dict[str, Json] = {}
    engines: list[Json] = []
    for job in jobs:
        artefact = artefact_of(run, job.engine, bits=job.bits)
        folder = f"{ENGINES}/{artefact.parent.name}"
        for name in (ARTEFACT, FACTS):
            if (file := artefact.parent / name).is_file():
                parts[f"{folder}/{name}"] = file.read_bytes()
        keys = []
        for unit in job.units:
            key = unit_key(unit, data)
            placed = replace(unit, places=replay.places_of(unit, data))
            parts[f"{UNITS}/{key}.npz"] = packed_unit(placed, data)
            units[key] = described(placed, data)
            keys.append(key)
        engines.append({
            "engine": job.engine, "bits": job.bits, "units": [*keys],
            "searches": [asdict(sought) for sought in job.searches],
        })  # fmt: skip
    plan = {
        "schema": SCHEMA,
        "run": run.name,
        "classes": classes,
        "data": {
            "name": data.name, "split": data.split, "class_names": list(data.class_names),
            "flip_allowed": data.flip_allowed, "digest": replay.data_digest(data),
        },
        "engines": engines,
        "units": units,
        "timing": {
            **asdict(clock.plan), "batches": list(clock.batches), "gaps_ms": list(clock.gaps_ms),
            "with_energy": clock.with_energy,
        },
        "digests": {name: _sha(content) for name, content in sorted(parts.items())},
    }  # fmt: skip
    parts[PLAN] = json.dumps(plan, indent=1, sort_keys=True, allow_nan=False).encode()
    with replacing(path) as temporary, temporary.open("wb") as raw:
        raw.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(raw, "w") as archive:
            for name, content in sorted(parts.items()):
                entry = zipfile.ZipInfo(name, EPOCH)
                is_packed = name.endswith(".npz")
                entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
    return _sha(parts[PLAN])


def read(path: Path) -> Bundle:
    """The bundle in ``path``, every part checked against its digest. Raises ``BadInput``."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(PLAN)
            plan = json.loads(text)
            if plan["schema"] != SCHEMA:
                raise BadInput(
                    f"{path} is a bundle of schema {plan['schema']}; this version reads {SCHEMA}.",
                    "Make it and run it with one version of qadtr-edge.",
                )
            there = set(archive.namelist()) - {PLAN}
            if there != set(plan["digests"]):
                raise _damaged(path, f"parts {sorted(there ^ set(plan['digests']))} do not match")
            for name, sha in plan["digests"].items():
                if _sha(archive.read(name)) != sha:
                    raise _damaged(path, f"{name} is not what was packed")
            data = _data(archive, plan["data"])
            jobs = tuple(_job(archive, job, plan=plan, data=data) for job in plan["engines"])
            pooled = PICTURES in there
            pool = cast(Pixels, arrays(archive, PICTURES)["images"]) if pooled else None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    shown = dict(plan["timing"])
    batches, gaps_ms = tuple(shown.pop("batches")), tuple(shown.pop("gaps_ms"))
    with_energy = shown.pop("with_energy") is True
    return Bundle(
        path=path,
        digest=_sha(text),
        run=plan["run"],
        classes=plan["classes"],
        data=data,
        jobs=jobs,
        clock=Clock(timing.Plan(**shown), batches, gaps_ms, with_energy),
        pool=pool,
    )


def digest_of(path: Path) -> tuple[str, str]:
    """The digest of the plan in ``path``, and the name of its run; nothing else is checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(PLAN)
            return _sha(text), str(json.loads(text)["run"])
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def unpack_engines(bundle: Bundle, run: Run) -> None:
    """Writes the engines' files into ``run``, where ``open_engine`` finds them.

    Where the model is there already, its facts are left alone too: what was built from it on the
    device is told there.
    """
    with zipfile.ZipFile(bundle.path) as archive:
        for job in bundle.jobs:
            folder = run.engine(job.engine, job.bits)
            home = f"{ENGINES}/{folder.name}"
            model = archive.read(f"{home}/{ARTEFACT}")
            if (folder / ARTEFACT).is_file() and (folder / ARTEFACT).read_bytes() == model:
                continue
            if f"{home}/{FACTS}" in archive.namelist():
                write_bytes(folder / FACTS, archive.read(f"{home}/{FACTS}"))
            write_bytes(folder / ARTEFACT, model)


def _data(archive: zipfile.ZipFile, said: Mapping[str, Json]) -> Dataset:
    held = arrays(archive, DATA)
    names = said["class_names"]
    assert isinstance(names, list)
    return Dataset(
        name=str(said["name"]),
        split=str(said["split"]),
        images=cast(Pixels, held["images"]),
        labels=cast(Labels, held["labels"]),
        ids=cast(Labels, held["ids"]),
        class_names=tuple(map(str, names)),
        flip_allowed=said["flip_allowed"] is True,
    )


def _job(
    archive: zipfile.ZipFile, said: Mapping[str, Json], *, plan: dict[str, dict[str, object]],
    data: Dataset,
) -> Job:  # fmt: skip
    keys = cast("list[str]", said["units"])
    units = tuple(
        unpacked_unit(
            arrays(archive, f"{UNITS}/{key}.npz"), key, said=plan["units"][key], data=data
        )
        for key in keys
    )
    searches = tuple(Sought(**each) for each in cast("list[dict[str, Json]]", said["searches"]))  # type: ignore[arg-type]
    return Job(str(said["engine"]), int(str(said["bits"])), units, searches)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _damaged(path: Path, why: str) -> BadInput:
    return BadInput(
        f"{path} is no whole bundle ({why}).",
        "Make it again: qadtr-edge bundle --out FILE.pyz; then copy it again.",
    )
