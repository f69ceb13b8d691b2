"""Finished work on disk: one JSON line of counts per unit, and the labels behind it.

``results.jsonl`` is append-only; a line is written and flushed to the disk only after its labels
file stands. So whatever stops the process, every line is whole but perhaps the last, whose torn
rest is cut before the next append, and a run that goes on ends with the same file as one that was
never stopped. Lines hold no clock times for that reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .errors import BadInput
from .files import explained, replacing
from .types import Counts, Json, Labels, Result

SCHEMA = 1
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
_COLUMNS = {item.name for item in fields(Result)}
_COUNTS = {item.name for item in fields(Counts)}
_LATER = {"kappa", "differential_eligible", "differential_fooled"}
"""Columns that rows of older versions lack; they hold ``None`` there."""
_KINDS = {item.name: str(item.type) for item in (*fields(Result), *fields(Counts))}
_OPTIONAL = {name for name, kind in _KINDS.items() if kind.endswith("| None")}
_INTEGERS = {name for name in _COLUMNS if _KINDS[name].startswith("int")}
_TEXTS = {name for name in _COLUMNS if _KINDS[name].startswith("str")}
_ORDERED = (
    ("fooled", "eligible"), ("eligible", "clean_correct"), ("clean_correct", "n"),
    ("patched_correct", "n"), ("changed", "n"), ("target_hits", "n"),
    ("sim_fooled", "sim_eligible"), ("sim_eligible", "n"), ("both_eligible", "eligible"),
    ("both_fooled", "both_eligible"), ("sim_only", "both_eligible"),
    ("engine_only", "both_eligible"), ("differential_eligible", "eligible"),
    ("differential_fooled", "differential_eligible"), ("differential_fooled", "fooled"),
)  # fmt: skip
"""Counts of images among which the images of the first are a part of those of the second."""


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


@dataclass(frozen=True)
class Store:
    """The results of a run: ``lines`` is its ``results.jsonl``, ``labels`` the folder beside it."""

    lines: Path
    labels: Path

    def rows(self) -> tuple[Result, ...]:
        """Every finished unit, oldest first; one written twice counts once, as last written.

        A torn last line is passed over. Raises ``BadInput`` for a damaged line or a newer schema.
        """
        if not self.lines.is_file():
            return ()
        whole = self.lines.read_bytes().split(b"\n")[:-1]
        rows = (self._row(text, number) for number, text in enumerate(whole, start=1))
        return tuple({row.key: row for row in rows}.values())

    def finished(self, key: str) -> Result | None:
        """The finished unit ``key``, or ``None`` when its line or its labels are missing."""
        row = next((row for row in self.rows() if row.key == key), None)
        return row if row is not None and self._labels_of(key).is_file() else None

    def append(self, row: Result, outcomes: Outcomes) -> None:
        """Writes the labels, then the line, each flushed to the disk. A full disk loses nothing."""
        self.rows()  # never write behind lines of a schema this version cannot read
        self._write_labels(row.key, outcomes)
        text = json.dumps({"schema": SCHEMA, **asdict(row)}, allow_nan=False, separators=(",", ":"))
        with explained(self.lines):
            self.lines.parent.mkdir(parents=True, exist_ok=True)
            with self.lines.open("ab", buffering=0) as file:
                whole = _cut_torn_line(file.fileno(), self.lines)
                try:
                    _write_all(file.fileno(), text.encode() + b"\n")
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), whole)
                    raise

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

    def _row(self, text: bytes, number: int) -> Result:
        """The row in one line of the file."""
        try:
            value = json.loads(text)
            schema = value["schema"]
            found = set(value) - {"schema"}, set(value.get("counts", ()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"Line {number} of {self.lines} is not a result.",
                "Remove that line; its unit is then run again.",
            ) from error
        if schema != SCHEMA:
            raise BadInput(
                f"Line {number} of {self.lines} has schema {schema}; this version reads {SCHEMA}.",
                "Update qadtr-edge (pip install --upgrade qadtr-edge), or start a new run.",
            )
        if odd := ((found[0] ^ _COLUMNS) | (found[1] ^ _COUNTS)) - (_LATER - found[0] - found[1]):
            raise BadInput(
                f"Line {number} of {self.lines} lacks or adds columns: {', '.join(sorted(odd))}.",
                "Remove that line; its unit is then run again.",
            )
        if wrong := _wrong(value):
            raise BadInput(
                f"Line {number} of {self.lines} holds values no unit can have: {wrong}.",
                "Remove that line; its unit is then run again.",
            )
        columns = {name: value[name] for name in _COLUMNS & found[0]}
        return Result(**{**columns, "counts": Counts(**value["counts"])})


def _wrong(line: dict[str, Json]) -> str | None:
    """What is wrong with the values of a line that has every column, or ``None``."""
    counts = line["counts"]
    if not isinstance(counts, dict):
        return "counts is not an object"
    for name, value in line.items():
        if name in _INTEGERS and not _is_count(value, optional=name in _OPTIONAL):
            return f"{name} is {value!r}"
        if name in _TEXTS and not (isinstance(value, str) or (value is None and name in _OPTIONAL)):
            return f"{name} is {value!r}"
    for name in ("queries_median", "kappa"):
        value = line.get(name)
        if value is not None and not (_is_number(value) and 0 <= value < math.inf):
            return f"{name} is {value!r}"
    if line["goal"] != ("untargeted" if line["target"] is None else "targeted"):
        return f"goal is {line['goal']!r} and target {line['target']!r}"
    for name, value in counts.items():
        if not _is_count(value, optional=name in _OPTIONAL):
            return f"counts.{name} is {value!r}"
    if not counts["eligible"]:
        return "counts.eligible is 0"
    for small, large in _ORDERED:
        low, high = counts.get(small), counts.get(large)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            return f"counts.{small} is {low} and counts.{large} {high}"
    return None


def _is_count(value: Json, *, optional: bool) -> bool:
    """A non-negative integer; JSON's true and false are none."""
    if value is None:
        return optional
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cut_torn_line(handle: int, path: Path) -> int:
    """Cuts what follows the last newline; the size of the file that is left, in bytes."""
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < os.fstat(handle).st_size:
        os.ftruncate(handle, whole)
    return whole


def _write_all(handle: int, content: bytes) -> None:
    """A nearly full disk may take only a part of a write; the rest then raises."""
    while content:
        content = content[os.write(handle, content) :]
