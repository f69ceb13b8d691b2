"""Finished work on disk: one JSON line of counts per unit, and the labels behind it.

``results.jsonl`` is append-only; a line is written and flushed to the disk only after its labels
file stands. So whatever stops the process, every line is whole but perhaps the last, whose torn
rest is cut before the next append, and a run that goes on ends with the same file as one that was
never stopped. Lines hold no clock times for that reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import metrics, results_line
from .errors import BadInput
from .files import explained, replacing
from .results_line import SCHEMA
from .types import Counts, Json, Labels, Result

KEY_DIGITS = 16


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model said about N images: labels ``(N,) int64``, margins ``(N,) float32``.

    Margins are the attacker's lead in logits, as ``metrics.margins`` defines them.
    """

    labels: Labels
    margins: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Everything one unit of work observed, per image. ``count`` turns it into ``Counts``."""

    ids: Labels
    truth: Labels
    clean: Answers
    patched: Answers
    sim_clean: Answers | None = None
    sim_patched: Answers | None = None
    float_clean: Answers | None = None
    float_patched: Answers | None = None


_SIDES = ("clean", "patched", "sim_clean", "sim_patched", "float_clean", "float_patched")


def key(identity: Mapping[str, Json]) -> str:
    """16 hexadecimal digits that stand for ``identity``: all that can change a unit's counts."""
    text = json.dumps(
        {"schema": SCHEMA, **identity}, sort_keys=True, allow_nan=False, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def count(outcomes: Outcomes, *, target: int | None) -> Counts:
    """The counts of one unit of work."""
    truth, clean, patched = outcomes.truth, outcomes.clean.labels, outcomes.patched.labels
    able = metrics.eligible(clean, truth, target=target)
    won = metrics.succeeded(patched, truth, target=target)
    counts = Counts(
        n=len(truth),
        clean_correct=int((clean == truth).sum()),
        eligible=int(able.sum()),
        fooled=int((able & won).sum()),
        patched_correct=int((patched == truth).sum()),
        changed=int((patched != clean).sum()),
        target_hits=None if target is None else int((patched == target).sum()),
    )
    if outcomes.float_clean is not None and outcomes.float_patched is not None:
        both = able & (outcomes.float_clean.labels == truth)
        counts = replace(
            counts,
            differential_eligible=int(both.sum()),
            differential_fooled=int((both & won & (outcomes.float_patched.labels == truth)).sum()),
        )
    if outcomes.sim_clean is None or outcomes.sim_patched is None:
        return counts
    sim_able = metrics.eligible(outcomes.sim_clean.labels, truth, target=target)
    sim_won = metrics.succeeded(outcomes.sim_patched.labels, truth, target=target)
    common = able & sim_able
    table = metrics.paired(sim_won[common], won[common])
    return replace(
        counts,
        sim_eligible=int(sim_able.sum()),
        sim_fooled=int((sim_able & sim_won).sum()),
        both_eligible=table.n,
        both_fooled=table.both,
        sim_only=table.first_only,
        engine_only=table.second_only,
    )


@dataclass
class _Read:
    """What a store knows of its file: the rows by key, and how many bytes their lines are.

    ``stamp``: of the file as it was then; while it has not changed it is not read again.
    """

    rows: dict[str, Result] = field(default_factory=dict)
    whole_bytes: int = 0
    stamp: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Store:
    """The results of a run: ``lines`` is its ``results.jsonl``, ``labels`` the folder beside it.

    The file is read once, and again when something else has written it; what an append costs does
    not grow with it.
    """

    lines: Path
    labels: Path
    _known: _Read = field(default_factory=_Read, init=False, repr=False, compare=False)

    def rows(self) -> tuple[Result, ...]:
        """Every finished unit, oldest first; one written twice counts once, as last written.

        A torn last line is passed over. Raises ``BadInput`` for a damaged line or a newer schema.
        """
        return tuple(self._read().rows.values())

    def finished(self, key: str) -> Result | None:
        """The finished unit ``key``, or ``None`` when its line or its labels are missing."""
        row = self._read().rows.get(key)
        return row if row is not None and self._labels_of(key).is_file() else None

    def append(self, row: Result, outcomes: Outcomes) -> None:
        """Writes the labels, then the line, each flushed to the disk. A full disk loses nothing."""
        known = self._read()  # never write behind lines of a schema this version cannot read
        line = results_line.written(row)
        self._write_labels(row.key, outcomes)
        with explained(self.lines):
            self.lines.parent.mkdir(parents=True, exist_ok=True)
            with self.lines.open("ab", buffering=0) as file:
                handle = file.fileno()
                alone = _stamp(os.fstat(handle)) == known.stamp
                whole = known.whole_bytes if alone else self.lines.read_bytes().rfind(b"\n") + 1
                if whole < os.fstat(handle).st_size:
                    os.ftruncate(handle, whole)  # a torn last line
                try:
                    _write_all(handle, line)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, whole)
                    raise
                after = _stamp(os.fstat(handle))
        known.rows[row.key] = row
        known.whole_bytes, known.stamp = whole + len(line), after if alone else None

    def _read(self) -> _Read:
        """What the file holds, read anew unless it is as this store last saw it."""
        known = self._known
        if not self.lines.is_file():
            known.rows, known.whole_bytes, known.stamp = {}, 0, None
            return known
        stamp = _stamp(self.lines.stat())
        if stamp == known.stamp:
            return known
        known.stamp = None  # until all of it is read
        content = self.lines.read_bytes()
        whole = content.split(b"\n")[:-1]
        rows = (
            results_line.read(text, number=number, file=self.lines)
            for number, text in enumerate(whole, start=1)
        )
        known.rows = {row.key: row for row in rows}
        known.whole_bytes, known.stamp = content.rfind(b"\n") + 1, stamp
        return known

    def outcomes(self, key: str) -> Outcomes:
        """The labels and margins behind a row. Raises ``BadInput`` when they cannot be read."""
        path = self._labels_of(key)
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                sides = {
                    side: Answers(file[f"{side}_label"], file[f"{side}_margin"])
                    for side in _SIDES
                    if f"{side}_label" in file
                }
                return Outcomes(ids=file["ids"], truth=file["truth"], **sides)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError) as error:
            raise BadInput(
                f"{path} is missing or damaged ({error}).",
                "Delete it and run the same attack command again: only that unit is redone.",
            ) from error

    def _labels_of(self, key: str) -> Path:
        return self.labels / f"{key}.npz"

    def _write_labels(self, key: str, outcomes: Outcomes) -> None:
        columns: dict[str, NDArray[np.generic]] = {"ids": outcomes.ids, "truth": outcomes.truth}
        for side in _SIDES:
            answers: Answers | None = getattr(outcomes, side)
            if answers is not None:
                columns[f"{side}_label"] = answers.labels
                columns[f"{side}_margin"] = answers.margins.astype(np.float32, copy=False)
        with replacing(self._labels_of(key)) as temporary:
            np.savez_compressed(temporary, **columns)  # type: ignore[arg-type]


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does: which it is, its size, when it was written."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def _write_all(handle: int, content: bytes) -> None:
    """A nearly full disk may take only a part of a write; the rest then raises."""
    while content:
        content = content[os.write(handle, content) :]
