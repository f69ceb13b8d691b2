"""Work that outlives the connection that started it: one worker a folder, found again by its lock.

A lock of the operating system tells whether the worker lives: unlike a process number it is right
after a crash, ``kill -9`` and a reboot. How the work ended stands in ``outcome.json``, whose space
is taken before the work begins, so that it can be told on a disk that is full.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import BadInput, MissingDependency, QadtrError
from ..files import explained
from ..types import Json

LOCK, LOG, OUTCOME, DEVICE = "lock", "log.txt", "outcome.json", "device.json"
RESULTS, LABELS, BENCH = "results.jsonl", "labels", "bench.json"
PATCHES = "patches"
FOLDERS = (PATCHES, LABELS)
SENT = (RESULTS, BENCH, DEVICE, LOG)
PARTS = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9a-f]{{16}}\.npz")
"""Files of the folders that are whole, and stay."""
OUTCOME_BYTES = 4096
LOG_LINES = 8
PATIENCE_S = 2.0
START_S = 60.0
LOOK_S = 0.5


@contextmanager
def sole_worker(out: Path) -> Iterator[None]:
    """The folder is this process's alone, and how the block ends is kept in it.

    Raises ``BadInput`` when another process works there.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _locked(handle, patience_s=PATIENCE_S):
            raise BadInput(
                f"Another process is working in {out}.", "Wait for it, or give another --out."
            )
        _tell(out, {"state": "started", "pid": os.getpid()})
        try:
            yield
        except QadtrError as error:
            fact, remedy = spoken(error)
            _tell(out, {"state": "failed", "fact": fact, "remedy": remedy})
            raise
        except BaseException as error:
            fact = f"The work on the device ended by {type(error).__name__}: {error}."
            remedy = f"Read {out / LOG} there; run it again to go on."
            _tell(out, {"state": "failed", "fact": fact, "remedy": remedy})
            raise
        _tell(out, {"state": "done"})
    finally:
        os.close(handle)


def start(bundle: Path, out: Path, *, threads: int) -> dict[str, Json]:
    """Starts ``run`` in a session of its own, unless it runs already; what ``status`` then says."""
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        if _is_locked(out):
            return status(out)
        _tell(out, {"state": "started", "pid": None})
        words = [sys.executable, str(bundle), "run", "--out", str(out), "--threads", str(threads)]
        with (out / LOG).open("ab") as log:
            worker = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    end_s = time.monotonic() + START_S
    while worker.poll() is None and not _is_locked(out) and time.monotonic() < end_s:
        time.sleep(0.05)
    return status(out)


def status(out: Path, *, wait_s: float = 0.0) -> dict[str, Json]:
    """How far the work in a folder is; said when there is news of it, or after ``wait_s``.

    Waiting here, asleep, disturbs what is timed less than being asked again and again.

    ``state``: absent, running, stopped (it was killed, or the machine went down), failed (with
    ``fact`` and ``remedy``), done. ``units`` are known once the engines are open.
    """
    said, end_s = _status(out), time.monotonic() + wait_s
    while said["state"] == "running" and time.monotonic() < end_s:
        time.sleep(LOOK_S)
        if (now := _status(out)) != said:
            return now
    return said


def _status(out: Path) -> dict[str, Json]:
    held = _read(out / OUTCOME)
    state = held.get("state", "absent")
    if _is_locked(out):
        state = "running"
    elif state == "started":
        state = "stopped"
    results, log, device = out / RESULTS, out / LOG, _read(out / DEVICE)
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return {
        "state": state,
        "fact": held.get("fact"),
        "remedy": held.get("remedy"),
        "done": results.read_bytes().count(b"\n") if results.is_file() else 0,
        "units": device.get("units"),
        "threads": device.get("threads"),
        "log": [*lines[-LOG_LINES:]],
    }


def send(out: Path, to: BinaryIO) -> None:
    """Writes what there is to ``to``, as a tar file: the files of ``SENT``, patches and labels."""
    with tarfile.open(fileobj=to, mode="w|") as archive:
        for name in SENT:  # the results first: the labels of a line are there before the line
            if (out / name).is_file():
                archive.add(out / name, arcname=name)
        for path in (path for name in FOLDERS for path in sorted((out / name).glob("*.npz"))):
            part = f"{path.parent.name}/{path.name}"
            if PARTS.fullmatch(part):  # what a search has half of may be gone before it is read
                archive.add(path, arcname=part)


def spoken(error: QadtrError) -> tuple[str, str]:
    """What an error says on a device, where this package and its extras are not installed."""
    if isinstance(error, MissingDependency):
        return error.fact, (
            f"Install it for {sys.executable} on this device: "
            f"{sys.executable} -m pip install {error.package}."
        )
    return error.fact, error.remedy


def _tell(out: Path, said: dict[str, Json]) -> None:
    """Writes the outcome over the one before, in the space that is taken already."""
    text = json.dumps(said).encode()[: OUTCOME_BYTES - 1].ljust(OUTCOME_BYTES - 1) + b"\n"
    with explained(out / OUTCOME):
        handle = os.open(out / OUTCOME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.pwrite(handle, text, 0)
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(path: Path) -> dict[str, Json]:
    """The JSON object in a file; empty where there is none, or a torn one."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_locked(out: Path) -> bool:
    """Whether a worker holds the folder."""
    try:
        handle = os.open(out / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _locked(handle, patience_s=0.0)
    finally:
        os.close(handle)


def _locked(handle: int, *, patience_s: float) -> bool:
    """Whether the lock could be had; it goes with the last handle. A look may hold it shortly."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.02)
        else:
            return True
