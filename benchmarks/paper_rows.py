"""The cells of the paper table, out of the results of its runs: counts pooled over patch seeds.

ASR is fooled / eligible on the engine that is named; a cell of several patches pools their counts,
while its interval is that of a bootstrap over images, with all patches of an image one cluster.
Excess is over the strongest occlusion control of the same mask, places and number of tries. Clean
accuracy is counted on all test images, on the engine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
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
RESAMPLES = 2000


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


def _network(entry: Entry, run: Run, *, seed: int, test: Dataset) -> Row:
    """What it cost, and its clean accuracy on the engine at each width."""
    stages = cast(dict[str, dict[str, object]], read_manifest(run).get("stages", {}))
    log = run.log.read_text().splitlines() if run.log.is_file() else []  # none: not trained here
    last = {line["phase"]: line for line in map(json.loads, log)}.values()
    clean = {str(bits): _clean(run, test, bits=bits) for bits in run.widths("ort")}
    return {
        "kind": "network", "defence": entry.name, "seed": seed, "state": "run",
        "recipe": entry.recipe, "settings": list(entry.settings), "epochs_factor": entry.epochs,
        "seconds": sum(line["seconds"] for line in last),
        "images_seen": sum(line["images"] for line in last), "clean": clean,
        "trained": stages.get("train", {}).get("git"), "last": [*last][-1:],
    }  # fmt: skip


def _clean(run: Run, test: Dataset, *, bits: int) -> dict[str, int]:
    with open_engine(run, "ort", bits=bits) as engine:
        subject = Subject(engine, engine.facts.digest, test)
        right = metrics.predicted(subject.clean) == test.labels
    return {"right": int(right.sum()), "n": len(test)}


def _cells(entry: Entry, run: Run, *, seed: int) -> list[Row]:
    store = Store(run.results, run.labels)
    by_cell: dict[Cell, list[Result]] = defaultdict(list)
    for row in store.rows():
        patch = f"{row.patch_rows_px}x{row.patch_columns_px}"
        if row.mask_digest != mask_digest(np.ones((row.patch_rows_px, row.patch_columns_px), bool)):
            patch += " circle"
        by_cell[Cell(row.attack, row.victim, row.placement, patch, row.bits)].append(row)
    occlusion: dict[tuple[str, str, int], float] = {}
    for cell, members in by_cell.items():
        if cell.attack in OCCLUSION:
            key = (cell.placement, cell.patch, cell.bits)
            counts = members[0].counts
            rate = metrics.rate(counts.fooled, counts.eligible)
            occlusion[key] = max(occlusion.get(key, 0.0), rate)
    return [
        _row(entry, seed, cell, members, store, occlusion.get(
            (cell.placement, cell.patch, cell.bits)
        ))
        for cell, members in by_cell.items()
    ]  # fmt: skip


def _row(
    entry: Entry, seed: int, cell: Cell, members: Sequence[Result], store: Store,
    control: float | None,
) -> Row:  # fmt: skip
    counts = [row.counts for row in members]
    fooled, eligible = sum(c.fooled for c in counts), sum(c.eligible for c in counts)
    each = [metrics.rate(c.fooled, c.eligible) for c in counts]
    low, high = _interval(members, store)
    row: Row = {
        "kind": "cell", "defence": entry.name, "seed": seed, **asdict(cell),
        "tier": members[0].tier, "threat": members[0].threat, "patches": len(members),
        "n": counts[0].n, "fooled": fooled, "eligible": eligible, "asr": fooled / eligible,
        "low": low, "high": high, "each_patch": [round(rate, 4) for rate in each],
        "control_asr": control, "excess": None if control is None else fooled / eligible - control,
        "queries_median": members[0].queries_median,
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


def _interval(members: Sequence[Result], store: Store) -> tuple[float, float]:
    """95 % of the pooled rate: Wilson for one patch, else a bootstrap over images."""
    if len(members) == 1:
        found = metrics.wilson(members[0].counts.fooled, members[0].counts.eligible)
        return found.low, found.high
    outcomes = [store.outcomes(row.key) for row in members]
    truth = outcomes[0].truth
    able = np.stack([metrics.eligible(each.clean.labels, truth) for each in outcomes])
    won = able & np.stack([metrics.succeeded(each.patched.labels, truth) for each in outcomes])
    fooled, eligible = won.sum(0), able.sum(0)
    chosen = np.random.default_rng(0).integers(0, len(truth), (RESAMPLES, len(truth)))
    rates = fooled[chosen].sum(1) / np.maximum(1, eligible[chosen].sum(1))
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)
