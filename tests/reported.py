"""Run folders of made-up outcomes: real labels, counts that follow from them, no engine at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from qadtr_edge import files, metrics, results, runs
from qadtr_edge.data import signs
from qadtr_edge.patch import bank, placed
from qadtr_edge.replay import data_digest
from qadtr_edge.results import Answers, Outcomes, Store
from qadtr_edge.types import Patch, PlacedPatches, Placements, Result

CLASSES = 12
TIERS = {"grey": "T0", "noise": "T0", "crop": "T0", "sweep": "T2", "pgd": "T3", "patch_rs": "T4"}
THREATS = {"T2": "T-B", "T3": "T-C", "T4": "T-C"}


def folder(
    at: Path,
    *,
    engines: tuple[str, ...] = ("ort",),
    widths: tuple[int, ...] = (8, 4),
    attacks: tuple[str, ...] = ("gap", "patch_rs", "sweep", "grey", "noise"),
    n: int = 40,
    seed: int = 0,
) -> runs.Run:
    """A run with engine files, a row for each engine, width and attack, patches and a manifest."""
    made = runs.Run(at)
    at.mkdir(parents=True)
    images = signs.load("test", root=None, limit=n, image_size=None)
    store = Store(made.results, made.labels)
    for engine in engines:
        for bits in (*widths, 32):
            artefact = made.engine(engine, bits) / "model.onnx"
            files.write_bytes(artefact, f"{engine}{bits}".encode() * 100)
            for attack in attacks if bits != 32 else ():
                chance = np.random.default_rng([seed, bits, len(attack), *attack.encode()])
                patch = patch_of(attack, images.ids, chance)
                suffix = f"{bank.digest(patch)[:16]}.npz"
                if isinstance(patch, PlacedPatches):
                    placed.save(patch, made.patches / suffix)
                else:
                    bank.save(patch, made.patches / suffix)
                outcomes = outcomes_of(
                    images.ids, images.labels, chance, clean=np.random.default_rng([seed, bits])
                )
                row = row_of(attack, engine, bits=bits, outcomes=outcomes)
                store.append(
                    replace(
                        row,
                        key=f"{engine}{bits}{attack}",
                        engine_digest=files.digest(artefact),
                        patch_digest=bank.digest(patch),
                        data_digest=data_digest(images),
                        queries_median=9.0 if isinstance(patch, PlacedPatches) else None,
                    ),
                    outcomes,
                )
    runs.record(made, "attack", options={"data": "signs", "images": n, "seed": seed})
    return made


def outcomes_of(
    ids: np.ndarray, truth: np.ndarray, chance: np.random.Generator, *, clean: np.random.Generator
) -> Outcomes:
    """Mostly right when clean; patched wrong at a share of its own; the simulation nearly alike."""
    n, share = len(ids), chance.uniform(0.1, 0.8)

    def answers(wrong: np.ndarray) -> Answers:
        labels = np.where(wrong, (truth + 1) % CLASSES, truth)
        return Answers(labels, np.where(wrong, 1.5, -1.5).astype(np.float32))

    wrong, patched = clean.random(n) < 0.1, chance.random(n) < share
    flipped = patched ^ (chance.random(n) < 0.05)
    return Outcomes(ids, truth, answers(wrong), answers(patched), answers(wrong), answers(flipped))


def row_of(attack: str, engine: str, *, bits: int, outcomes: Outcomes) -> Result:
    tier = TIERS.get(attack, "T1")
    return Result(
        key="", engine=engine, bits=bits, precision="integer", attack=attack,
        knowledge="none" if tier == "T0" else "simulation", victim=f"twin-w{bits}a{bits}",
        goal="untargeted", target=None, tier=tier, threat=THREATS.get(tier, "T-A"),
        patch_size_px=6, patch_rows_px=6, patch_columns_px=6, mask_digest="m", patch_seed=0,
        placement="sweep:13" if tier == "T2" else "random", seed=0,
        counts=results.count(outcomes, target=None), queries_median=None, engine_digest="",
        patch_digest="", data_digest="", simulation_digest="s",
    )  # fmt: skip


def patch_of(attack: str, ids: np.ndarray, chance: np.random.Generator) -> Patch | PlacedPatches:
    """A patch for all, or placed ones with queries and, of a sweep, a tally of its places."""
    pixels = chance.integers(0, 256, (3, 6, 6), dtype=np.uint8)
    mask, n = np.ones((6, 6), bool), len(ids)
    if attack not in ("sweep", "patch_rs"):
        return Patch(pixels, mask, target=None, origin={"attack": attack, "seed": 0})
    at = np.array([0, 13, 26])
    tally = {"fooled_at": chance.integers(0, n // 2, (3, 3)).tolist()}
    origin = {"attack": attack, "rows": at.tolist(), "columns": at.tolist(), "tally": tally}
    return PlacedPatches(
        ids=ids, pixels=pixels, mask=mask,
        placements=Placements(np.full(n, 13.0), np.full(n, 13.0), np.zeros(n), np.ones(n)),
        target=None, queries=chance.integers(1, 50, n),
        origin=origin if attack == "sweep" else {"attack": attack},
    )  # fmt: skip


def timed(run: runs.Run, engine: str, *, bits: int, p50_ms: float) -> None:
    """Adds a latency row of batch 1, with energy, to the run's ``bench.json``."""
    old = files.read_json(run.bench) if run.bench.is_file() else {"results": []}
    assert isinstance(old, dict)
    assert isinstance(old["results"], list)
    digest = files.digest(run.engine(engine, bits) / "model.onnx")
    energy = {"source": "meter", "mj_per_image": 2.0, "mj_per_image_above_idle": 1.0}
    row = {"engine": engine, "bits": bits, "batch": 1, "p50_ms": p50_ms, "p90_ms": 2 * p50_ms,
           "p99_ms": 3 * p50_ms, "images_per_s": 10.0, "cov": 0.01, "stable": True,
           "speedup_vs_fp32": 1.0, "engine_digest": digest, "energy": energy}  # fmt: skip
    files.write_json(run.bench, {"plan": {"name": "quick"}, "results": [*old["results"], row]})


def again(run: runs.Run, attack: str, **changes: object) -> Result:
    """Appends a row of an attack anew, with outcomes of its own and some columns changed."""
    store = Store(run.results, run.labels)
    old = next(row for row in store.rows() if row.attack == attack)
    kept = store.outcomes(old.key)
    made = outcomes_of(
        kept.ids, kept.truth, np.random.default_rng([7, len(store.rows())]),
        clean=np.random.default_rng([0, 8]),
    )  # fmt: skip
    row = row_of(attack, "ort", bits=8, outcomes=made)
    same = {name: getattr(old, name) for name in ("engine_digest", "patch_digest", "data_digest")}
    new = replace(row, **{"key": f"{attack}{len(store.rows())}", **same, **changes})  # type: ignore[arg-type]
    store.append(new, made)
    return new


def union_by_hand(run: runs.Run, engine: str, *, bits: int) -> tuple[int, int]:
    """Fooled and eligible of the worst case, counted image by image from the labels."""
    store = Store(run.results, run.labels)
    rows = [r for r in store.rows() if (r.engine, r.bits) == (engine, bits) and r.tier != "T0"]
    each = [store.outcomes(row.key) for row in rows]
    clean, truth = each[0].clean.labels, each[0].truth
    able = metrics.eligible(clean, truth)
    fooled = sum(
        bool(able[at]) and any(one.patched.labels[at] != truth[at] for one in each)
        for at in range(len(truth))
    )
    return fooled, int(able.sum())
