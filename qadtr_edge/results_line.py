"""One line of ``results.jsonl``: a row as JSON and back, and what no row can hold."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeGuard

from .errors import BadInput
from .types import Counts, Json, Result

SCHEMA = 1

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


def written(row: Result) -> bytes:
    """The line of a row, its newline included. Raises ``ValueError`` for NaN."""
    value = {"schema": SCHEMA, **asdict(row)}
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def read(text: bytes, *, number: int, file: Path) -> Result:
    """The row in line ``number`` of ``file``. Raises ``BadInput`` where it holds none."""
    try:
        value = json.loads(text)
        schema = value["schema"]
        found = set(value) - {"schema"}, set(value.get("counts", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"Line {number} of {file} is not a result.",
            "Remove that line; its unit is then run again.",
        ) from error
    if schema != SCHEMA:
        raise BadInput(
            f"Line {number} of {file} has schema {schema}; this version reads {SCHEMA}.",
            "Update qadtr-edge (pip install --upgrade qadtr-edge), or start a new run.",
        )
    if odd := ((found[0] ^ _COLUMNS) | (found[1] ^ _COUNTS)) - (_LATER - found[0] - found[1]):
        raise BadInput(
            f"Line {number} of {file} lacks or adds columns: {', '.join(sorted(odd))}.",
            "Remove that line; its unit is then run again.",
        )
    if wrong := _wrong(value):
        raise BadInput(
            f"Line {number} of {file} holds values no unit can have: {wrong}.",
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
