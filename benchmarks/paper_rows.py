"""The cells of the paper table, out of the results of its runs: counts pooled over patch seeds.

ASR is fooled / eligible on the engine that is named; a cell of several patches pools their counts,
and its interval is that of drawing images and patches anew. Excess is over the strongest occlusion
control of the same mask, places and number of tries. Clean accuracy is counted on all test images,
on the engine. What claims are tested on beside the counts lies under ``DRAWN`` and is not stored.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import paper_draws
from paper_cells import TRIES
from paper_draws import Flags, Floats
from paper_scales import Entry, Scale

from qadtr_edge import metrics
from qadtr_edge.attacks.controls import OCCLUSION
from qadtr_edge.data import Dataset, load
from qadtr_edge.engines import open_engine
from qadtr_edge.replay import Subject, mask_digest
from qadtr_edge.results import Store
from qadtr_edge.runs import Run, read_manifest
from qadtr_edge.types import Result

Row = dict[str, object]
CONTROLS = (*OCCLUSION, TRIES)
DRAWN = ("samples", "excess_samples", "right")


@dataclass(frozen=True)
class Cell:
    """What makes rows one cell: everything but the patch seed."""

    attack: str
    victim: str
    placement: str
    patch: str
    bits: int


def rows(scale: Scale, root: Path) -> list[Row]:
    """One row for each network, width and cell; the networks themselves first."""
    found: list[Row] = []
    test = load(scale.data, "test")
    for entry in scale.entries:
        for seed in scale.seeds:
            name = entry.name if seed == scale.seeds[0] else f"{entry.name} seed {seed}"
            run = Run(root / name.replace(" ", "_"))
            if not run.results.is_file():
                found.append({"kind": "network", "defence": entry.name, "seed": seed,
                              "state": "not run"})  # fmt: skip
                continue
            found.append(_network(entry, run, seed=seed, test=test))
            found += _cells(entry, run, seed=seed)
    return found


def samples(row: Row, name: str = "samples") -> Floats:
    """A cell's rate, or its excess, in each draw, ``(RESAMPLES,)``."""
    return cast(Floats, row[name])


def stored(found: list[Row]) -> list[Row]:
    """The rows as they are recorded."""
    return [{name: row[name] for name in row if name not in DRAWN} for row in found]


def _network(entry: Entry, run: Run, *, seed: int, test: Dataset) -> Row:
    """What it cost, and its clean accuracy on the engine at each width."""
    stages = cast(dict[str, dict[str, object]], read_manifest(run).get("stages", {}))
    log = run.log.read_text().splitlines() if run.log.is_file() else []  # none: not trained here
    last = {line["phase"]: line for line in map(json.loads, log)}.values()
    right = {str(bits): _right(run, test, bits=bits) for bits in run.widths("ort")}
    clean = {bits: {"right": int(each.sum()), "n": len(each)} for bits, each in right.items()}
    return {
        "kind": "network", "defence": entry.name, "seed": seed, "state": "run",
        "recipe": entry.recipe, "settings": list(entry.settings), "epochs_factor": entry.epochs,
        "seconds": sum(line["seconds"] for line in last),
        "images_seen": sum(line["images"] for line in last), "clean": clean, "right": right,
        "trained": stages.get("train", {}).get("git"), "last": [*last][-1:],
    }  # fmt: skip


def _right(run: Run, test: Dataset, *, bits: int) -> Flags:
    """Which test images the engine gets right."""
    with open_engine(run, "ort", bits=bits) as engine:
        subject = Subject(engine, engine.facts.digest, test)
        right: Flags = metrics.predicted(subject.clean) == test.labels
    return right


def _cells(entry: Entry, run: Run, *, seed: int) -> list[Row]:
    store = Store(run.results, run.labels)
    by_cell: dict[Cell, list[Result]] = defaultdict(list)
    for row in store.rows():
        patch = f"{row.patch_rows_px}x{row.patch_columns_px}"
        if row.mask_digest != mask_digest(np.ones((row.patch_rows_px, row.patch_columns_px), bool)):
            patch += " circle"
        by_cell[Cell(row.attack, row.victim, row.placement, patch, row.bits)].append(row)
    found = [_row(entry, seed, cell, members, store) for cell, members in by_cell.items()]
    for row in found:
        beside = [other for other in found if other["attack"] in CONTROLS and all(
            other[name] == row[name] for name in ("placement", "patch", "bits"))]  # fmt: skip
        control = max(beside, key=lambda other: cast(float, other["asr"]), default=None)
        row |= {"control_asr": control and control["asr"], "excess": None}
        if control is not None:
            row["excess"] = cast(float, row["asr"]) - cast(float, control["asr"])
            row["excess_samples"] = samples(row) - samples(control)
    return found


def _row(entry: Entry, seed: int, cell: Cell, members: Sequence[Result], store: Store) -> Row:
    counts = [row.counts for row in members]
    fooled, eligible = sum(c.fooled for c in counts), sum(c.eligible for c in counts)
    each = [metrics.rate(c.fooled, c.eligible) for c in counts]
    drawn = _drawn(entry, seed, cell, members, store)
    if len(members) == 1:
        found = metrics.wilson(fooled, eligible)
        low, high = found.low, found.high
    else:
        low, high = paper_draws.middle(drawn)
    row: Row = {
        "kind": "cell", "defence": entry.name, "seed": seed, **asdict(cell),
        "tier": members[0].tier, "threat": members[0].threat, "patches": len(members),
        "n": counts[0].n, "fooled": fooled, "eligible": eligible, "asr": fooled / eligible,
        "low": low, "high": high, "each_patch": [round(rate, 4) for rate in each],
        "samples": drawn, "queries_median": members[0].queries_median,
    }  # fmt: skip
    if all(c.both_eligible is not None for c in counts):
        sim_only = sum(cast(int, c.sim_only) for c in counts)
        engine_only = sum(cast(int, c.engine_only) for c in counts)
        row |= {
            "sim_asr": metrics.rate(
                sum(cast(int, c.sim_fooled) for c in counts),
                sum(cast(int, c.sim_eligible) for c in counts),
            ),
            "sim_only": sim_only, "engine_only": engine_only,
            "both_eligible": sum(cast(int, c.both_eligible) for c in counts),
        }  # fmt: skip
    return row


def _drawn(entry: Entry, seed: int, cell: Cell, members: Sequence[Result], store: Store) -> Floats:
    """The cell's rate in each draw; patches shown to several networks are drawn for all alike."""
    outcomes = [store.outcomes(m.key) for m in sorted(members, key=lambda m: m.patch_digest)]
    truth = outcomes[0].truth
    able = np.stack([metrics.eligible(each.clean.labels, truth) for each in outcomes])
    won = able & np.stack([metrics.succeeded(each.patched.labels, truth) for each in outcomes])
    maker = f"{entry.name} {seed}" if cell.victim.startswith("own ") else ""
    return paper_draws.rates(won, able, patches=f"{cell.victim} {cell.patch} {maker}")
