"""A run folder made by hand: rows of attacks on 1,000 images whose outcomes are given as flags."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from qadtr_edge import results
from qadtr_edge.results import Answers, Outcomes, Store
from qadtr_edge.types import EngineFacts, Json, Result

N = 1000
ABLE = np.arange(N) < 900
"""Images the engine gets right when clean: the first 900."""

FACTS = EngineFacts(
    engine="ort", runtime="onnxruntime", bits=8, precision="integer", integer_kernels=9,
    float_layers=(), digest="engine", options={}, device={"cpu": "any"},
)  # fmt: skip


def first(count: int, *, skip: int = 0) -> np.ndarray:
    """The images ``skip`` to ``skip + count`` of those the engine gets right."""
    return np.isin(np.arange(N), np.arange(skip, skip + count)) & ABLE


class Folder:
    """A run folder to which rows are added; ``rows`` are those added so far."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path / "results.jsonl", path / "labels")
        self.patches = path / "patches"
        self.patches.mkdir(parents=True)
        self.rows: list[Result] = []

    def add(
        self, tier: str, attack: str, won: np.ndarray, *, knowledge: str = "simulation",
        victim: str = "twin-w8a8", threat: str = "T-C", queries: float | None = None,
        placement: str = "searched", engine_digest: str = "engine", simulated: bool = True,
        data_digest: str = "data", engine: str = "ort", kept: bool = True, size: int = 6,
    ) -> Result:  # fmt: skip
        """One row of which ``won (N,)`` are the images fooled."""
        truth = np.zeros(N, np.int64)
        clean = np.where(ABLE, 0, 1)
        patched = np.where(won | ~ABLE, 1, 0)
        zero = np.zeros(N, np.float32)
        seen = Outcomes(
            np.arange(N), truth, Answers(clean, zero), Answers(patched, zero),
            Answers(clean, zero) if simulated else None,
            Answers(patched, zero) if simulated else None,
        )  # fmt: skip
        number = len(self.rows)
        row = Result(
            key=f"key{number}", engine=engine, bits=8, precision="integer", attack=attack,
            knowledge=knowledge, victim=victim, goal="untargeted", target=None, tier=tier,
            threat=threat, patch_size_px=size, patch_rows_px=size, patch_columns_px=size,
            mask_digest=f"square {size}", patch_seed=0, placement=placement, seed=0,
            counts=results.count(seen, target=None), queries_median=queries,
            engine_digest=engine_digest, patch_digest=f"patch{number}", data_digest=data_digest,
            simulation_digest="simulation" if simulated else None,
        )  # fmt: skip
        self.store.append(row, seen)
        if kept:
            header = np.array(json.dumps({"digest": row.patch_digest}))
            np.savez(self.patches / f"{number}.npz", header=header)
        self.rows.append(row)
        return row

    def suite(self, *, lost: int = 0, alone: int = 0) -> Folder:
        """All that a complete suite leaves, of which ``lost`` images fewer than 500 are fooled.

        ``alone``: images that the searches on the engine fool and the white-box attack does not.
        """
        top = 500 - lost
        self.add("T0", "grey", first(20), knowledge="none", victim="none", kept=False)
        self.add("T1", "gap", first(100), threat="T-A", placement="random")
        self.add("T1", "gap", first(90), threat="T-A", placement="random", victim="fp32",
                 knowledge="surrogate")  # fmt: skip
        self.add("T1", "adaptive", first(95), threat="T-A", placement="random",
                 victim="twin-w8a8+w4a4")  # fmt: skip
        self.add("T2", "sweep", first(300), knowledge="labels", threat="T-B", queries=40.0)
        self.add("T3", "pgd", first(top - alone))
        self.add("T4", "patch_rs", first(top), knowledge="scores", queries=90.0)
        self.add("T6", "label_search", first(250), knowledge="labels", queries=300.0)
        return self


def steps(name: str, *won: Iterable[int], values: Iterable[int]) -> list[Json]:
    """A series of a probe over 200 images, of which the images ``won`` were fooled."""
    return [
        {name: value, "fooled": len(ids), "eligible": 200, "ids": list(ids)}
        for value, ids in zip(values, map(list, won), strict=True)
    ]


def probes() -> dict[str, Json]:
    """What a sound attack leaves of all probes."""
    ids: list[Json] = [*range(100)]
    return {
        "steps": steps("steps", range(10), range(80), values=(1, 100)),
        "sizes": steps("size_px", range(5), range(60), range(199), values=(2, 8, 16)),
        "unbounded": {"fooled": 200, "eligible": 200, "ids": [*range(200)]},
        "random": {"draws": 10_000, "ids": ids, "fooled": ids[:30]},
        "zero_gradients": {
            "images": 200, "straight_through": 1, "cross_entropy": 30, "temperature": 2,
            "plain": 200,
        },
        "loss": {"objective": "margin", "images": 200, "rose": 199, "fooled": 80, "disagree": 0,
                 "softmax": False},
        "eot": [
            {**step, "places": 5}
            for step in steps("samples", range(50), range(60), range(61), values=(1, 5, 20))
            if isinstance(step, dict)
        ],
        "doubled": [
            {"what": what, "eligible": 200, "fooled": 80, "gained": 1, "lost": 0}
            for what in ("steps", "restarts", "queries", "budget")
        ],
        "planted": [
            {"masking": "label-only head", "eligible": 100, "unmasked": 90, "fooled": 85,
             "white_box": 3}
        ],
        "ablation": [
            {"part": part, "tier": tier, "images": 900, "without_only": 90, "with_only": 10}
            for part in ("aqapa", "dbwt", "gir")
            for tier in ("T3", "T4")
        ],
        "randomness": {"images": 200, "repeated": 0, "permuted": 0, "single": 0},
        "indicators": {
            "images": 200, "unavailable_gradients": 0, "unstable_predictions": 0,
            "silent_success": 0, "incomplete_optimisation": 2, "transfer_failure": 4,
            "unconstrained_failure": 0,
        },
        "record": {"fooled": 500, "eligible": 900, "missed": 0},
    }  # fmt: skip
