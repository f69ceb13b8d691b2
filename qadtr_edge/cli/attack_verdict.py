"""``verdict.json`` of a run: what each suite found of each engine, and the runs compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadInput
from ..files import read_json, write_json
from ..report.evidence import VERDICT, VERDICT_SCHEMA
from ..results import Store
from ..runs import Run
from ..types import Json, Result
from ..verdict import record
from .attack_answer import AtWidth
from .attack_replay import Cell


def write(
    run: Run, cells: Sequence[Cell], *, widths: Sequence[AtWidth], suite: str,
    baseline: Run | None = None,
) -> None:  # fmt: skip
    """Adds a cell for each engine; one of the same engine file and suite is replaced."""
    store = Store(run.results, run.labels)
    before = None if baseline is None else baseline.name
    made = [_cell(cell, store, found=found, suite=suite, baseline=before)
            for cell, found in zip(cells, widths, strict=True)]  # fmt: skip
    standing = {_identity(cell) for cell in made}
    kept = [cell for cell in _cells(run) if _identity(cell) not in standing]
    write_json(run.folder / VERDICT, {"schema": VERDICT_SCHEMA, "cells": [*kept, *made]})


def recorded(run: Run, *, engine: str, bits: int, suite: str | None) -> Json:
    """What is remembered of a baseline run, for the check that its attacks still work.

    ``None`` when that suite never ran on that engine there.
    """
    return _newest(run, engine=engine, bits=bits, suite=suite).get("record")


def rows_of(run: Run, *, engine: str, bits: int, suite: str) -> frozenset[str]:
    """Keys of the rows that suite left of an engine; none where it never ran there."""
    return _rows(_newest(run, engine=engine, bits=bits, suite=suite))


def _newest(run: Run, *, engine: str, bits: int, suite: str | None) -> Mapping[str, Json]:
    """The last cell of a suite on that engine, whichever file of it; empty where there is none."""
    wanted = (engine, bits, suite)
    found = [cell for cell in _cells(run)
             if (cell.get("engine"), cell.get("bits"), cell.get("suite")) == wanted]  # fmt: skip
    return found[-1] if found else {}


def _cell(
    cell: Cell, store: Store, *, found: AtWidth, suite: str, baseline: str | None
) -> dict[str, Json]:
    """``compared``: the runs compared with, by name, and what the ablation counted."""
    checks: list[Json] = [*found.checks_json()]
    return {
        "engine": found.engine,
        "bits": found.bits,
        "engine_digest": found.digest,
        "suite": suite,
        "verdict": found.verdict.name,
        "reason": found.verdict.reason,
        "checks": checks,
        **found.unions_json(),
        "worst_case_asr": found.worst_case_asr,
        "white_box_leaves_headline": found.white_box_leaves,
        "record": record(cell.rows, store, facts=cell.facts),
        "compared": {"baseline": baseline, "ablation": cell.probes.get("ablation")},
        "rows": [row.key for row in cell.rows],
    }


def _identity(cell: Mapping[str, Json]) -> tuple[Json, ...]:
    return cell.get("engine"), cell.get("bits"), cell.get("engine_digest"), cell.get("suite")


def _cells(run: Run) -> list[dict[str, Json]]:
    path: Path = run.folder / VERDICT
    if not path.is_file():
        return []
    value = read_json(path)
    cells = value.get("cells") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("schema") != VERDICT_SCHEMA:
        raise BadInput(
            f"{path} is none this version reads, schema {VERDICT_SCHEMA}.",
            "Update qadtr-edge, or move that file away and run the suite again.",
        )
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []


def baseline(run: Run, *, suite: str | None) -> tuple[Sequence[Result], Store]:
    """The rows of a run that is compared with, and their store. Raises ``BadInput`` for none.

    Of the same ``suite`` alone where it ran there: a union over more attacks is another number.
    """
    store = Store(run.results, run.labels)
    rows = store.rows()
    if not rows:
        raise BadInput(
            f"{run.folder} holds no results to compare with.",
            f"Attack it first: qadtr-edge attack --run {run.folder} --suite quick.",
        )
    keys = {key for cell in _cells(run) if cell.get("suite") == suite for key in _rows(cell)}
    return [row for row in rows if row.key in keys] or rows, store


def _rows(cell: Mapping[str, Json]) -> frozenset[str]:
    """Keys of the rows a cell was made of; none where it does not say."""
    keys = cell.get("rows")
    return frozenset(map(str, keys if isinstance(keys, list) else ()))
