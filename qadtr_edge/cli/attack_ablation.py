"""``--ablation PART=RUN``: what the same suite found of runs trained without a part of QADT-R."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import replay
from ..errors import BadInput, UnknownName
from ..results import Store
from ..runs import Run, open_run
from ..types import Json
from ..verdict.ablation import PARTS, gains
from ..verdict.case import Case
from . import attack_verdict
from .attack_plan import Plan
from .attack_replay import Cell


@dataclass(frozen=True, eq=False)
class Without:
    """What a suite found of the engine of a run that lacks ``part``; ``run`` is its name."""

    part: str
    run: str
    case: Case


def named(given: Sequence[str], *, root: Path, suite: str | None) -> dict[str, Run]:
    """The runs of ``PART=RUN`` by part. Raises ``BadInput`` for anything else, or twice one part.

    ``root``: where runs lie. Only a suite has the check they are for.
    """
    found: dict[str, Run] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign or not path:
            raise BadInput(
                f"--ablation {text} names no run.",
                f"Give the part that is missing and its run: --ablation {PARTS[-1]}=RUN.",
            )
        if part(name) in found:
            raise BadInput(f"--ablation names {name} twice.", "Give one run for each part.")
        found[name] = open_run(Path(path), root)
    if found and suite is None:
        raise BadInput(
            "--ablation is for the checks of a suite, and attacks were named one by one.",
            "Add --suite default, or leave --ablation out.",
        )
    return found


def part(name: str) -> str:
    """``name`` itself; raises ``UnknownName`` when no part of QADT-R is called so."""
    if name not in PARTS:
        raise UnknownName("part of QADT-R", name, PARTS)
    return name


def read(
    runs: Mapping[str, Run], plan: Plan, *, engine: str, bits: int, suite: str
) -> list[Without]:
    """What ``suite`` found of each run on that engine.

    Raises ``BadInput`` where it did not run there, ran on other images or with patches of another
    size: unions of different attacks cannot be compared.
    """
    found = []
    for part, run in runs.items():
        again = f"qadtr-edge attack --run {run.folder} --engine {engine} --bits {bits} --suite"
        again = f"Attack it alike: {again} {suite} --images {len(plan.test)}"
        keys = attack_verdict.rows_of(run, engine=engine, bits=bits, suite=suite)
        store = Store(run.results, run.labels)
        rows = [row for row in store.rows() if row.key in keys]
        if not rows:
            raise BadInput(
                f"{run.folder}, the run without {part}, was not attacked by the {suite} suite on "
                f"{engine} at {bits} bits by this version.",
                f"{again}.",
            )
        size = tuple(plan.patch_px)
        alike = [row for row in rows if row.data_digest == replay.data_digest(plan.test)]
        if not alike:
            raise BadInput(
                f"{run.folder}, the run without {part}, was attacked on other images.",
                f"{again}, with the same --data.",
            )
        if all((row.patch_rows_px, row.patch_columns_px) != size for row in alike):
            raise BadInput(
                f"{run.folder}, the run without {part}, was attacked with patches of another size.",
                f"{again} --patch-size {size[0]}x{size[1]}.",
            )
        found.append(Without(part, run.name, Case(tuple(alike), store)))
    return found


def compared(cell: Cell, store: Store, *, without: Sequence[Without]) -> list[Json]:
    """The probe ``ablation`` of an engine: what each part gained against each tier."""
    case = Case(cell.rows, store)
    return [
        {**step, "run": one.run}
        for one in without
        for step in gains(one.part, case, without=one.case)
        if isinstance(step, dict)
    ]
