"""What a device found, brought into the run: as it came, and among the run's own results.

``devices/NAME/`` of the run holds what the device wrote, byte for byte: two devices that compute
alike have equal ``results.jsonl`` there. In the run's results its rows stand as engine ``ort@NAME``
under a key of their own, so that a row says on which machine it was measured.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

from ..errors import BadInput
from ..files import write_bytes
from ..results import Store, key
from ..runs import Run
from .background import LABELS, PARTS, PATCHES, RESULTS, SENT


def folder_of(run: Run, device: str) -> Path:
    """Where what a device found is kept in a run."""
    return run.folder / "devices" / device


def keep(run: Run, device: str, *, tar: bytes) -> int:
    """Writes what the device sent into the run's folder of it; returns the results' number.

    Only names a device has to send are written. Raises ``BadInput`` for what is no whole tar file.
    """
    home = folder_of(run, device)
    try:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            for member in archive:
                named = member.name in SENT or PARTS.fullmatch(member.name)
                if named and member.isreg() and (file := archive.extractfile(member)):
                    write_bytes(home / member.name, file.read())
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(
            f"What {device} sent is no whole archive ({error}).", "Pull again."
        ) from error
    return len(Store(home / RESULTS, home / LABELS).rows())


def merge(run: Run, device: str) -> int:
    """Appends the device's results to the run's; returns how many were new.

    Patches that were found there go to the run's own: their names say on which engine.
    """
    home = folder_of(run, device)
    there = Store(home / RESULTS, home / LABELS)
    store = Store(run.results, run.labels)
    for path in (home / PATCHES).glob("*.npz"):
        if not (known := run.patches / path.name).is_file():
            write_bytes(known, path.read_bytes())
    new = 0
    for row in there.rows():
        own = key({"device": device, "unit": row.key})
        if store.finished(own) is None:
            named = replace(row, key=own, engine=f"{row.engine}@{device}")
            store.append(named, there.outcomes(row.key))
            new += 1
    return new
