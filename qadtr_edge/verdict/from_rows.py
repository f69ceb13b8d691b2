"""The checks that ask what was run: 1, 2, 13, 14, 19, 22, 23 and 24."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np

from .. import statistics
from ..patch.shape import FRAME, mask_of
from ..replay import mask_digest
from ..types import FLOAT_BITS, Result
from .case import Case, Check, Status, count, percent, wilson

ASKING = {"T4", "T5", "T6"}
"""Tiers that search by asking the engine, so that their queries are part of the threat."""


def threat_model(case: Case) -> Check:
    """1: size, freedom of place, universal or specific, knowledge and queries of every attack."""
    status: Status = "not run"
    figure, vague = "no attack was run", [row.attack for row in case.attacks if not _precise(row)]
    if case.attacks:
        status = "flag" if vague else "pass"
        sizes = sorted({f"{row.patch_rows_px}x{row.patch_columns_px}" for row in case.attacks})
        figure = (
            f"incomplete for {', '.join(sorted(set(vague)))}"
            if vague
            else f"{', '.join(sizes)} px; {', '.join(sorted({r.threat for r in case.attacks}))}; "
            f"knows {', '.join(sorted({row.knowledge for row in case.attacks}))}"
        )
    return Check(
        1, "threat model", status, figure, None,
        "Say size, threat, knowledge, victim and placement of every attack.",
    )  # fmt: skip


def _precise(row: Result) -> bool:
    said = (row.threat, row.knowledge, row.victim, row.placement)
    asked = row.tier not in ASKING or row.queries_median is not None
    return all(said) and row.victim != "unknown" and asked


def clean_accuracy(case: Case) -> Check:
    """2: clean accuracy, and labels that agree with the simulation's.

    Flagged where the engine is right less often than its simulation, beyond the paired interval.
    """
    name, remedy = "clean accuracy", "Verify the engine: qadtr-edge verify."
    seen = case.seen
    if seen is None:
        return Check(2, name, "not run", "no image was shown", None, remedy)
    right = seen.clean.labels == seen.truth
    interval = wilson(int(right.sum()), len(right))
    figure = f"{percent(float(right.mean()))} of {len(right)} images right"
    beside = next((o for o in map(case.outcomes, case.labelled(case.rows)) if o.sim_clean), None)
    if beside is None or beside.sim_clean is None:
        return Check(
            2, name, "not run", f"{figure}; no simulation to agree with", interval,
            "Attack a run that holds a checkpoint, with torch installed.",
        )  # fmt: skip
    agree = float((beside.sim_clean.labels == seen.clean.labels).mean())
    lost = statistics.compared(beside.sim_clean.labels == seen.truth, right)
    figure = f"{figure}; {percent(agree)} labelled as by the simulation"
    return Check(2, name, "flag" if lost.low > 0 else "pass", figure, interval, remedy)


def gradient_free(case: Case) -> Check:
    """13: a score search and a label-only attack ran on the engine itself."""
    present = {row.tier for row in case.attacks}
    missing = [
        words
        for tier, words in (("T4", "no search by scores"), ("T6", "no attack by labels alone"))
        if tier not in present
    ]
    figure = "; ".join(missing) or "searched by scores and by labels"
    return Check(
        13, "gradient-free and label-only", "not run" if missing else "pass", figure, None,
        "Add --attack patch_rs,label_search, or use a suite.",
    )  # fmt: skip


def substitutes(case: Case) -> Check:
    """14: patches of a surrogate, and of several widths at once, were replayed."""
    crafted = case.of_tiers("T1", "T3")
    surrogates = sorted({row.victim for row in crafted if row.knowledge == "surrogate"})
    wide = any(several_widths(row.victim) for row in crafted)
    missing = [] if surrogates else ["no patch of a surrogate network"]
    missing += [] if wide else ["no patch crafted on several widths"]
    figure = "; ".join(missing) or f"surrogates {', '.join(surrogates)}"
    return Check(
        14, "substitute models", "not run" if missing else "pass", figure, None,
        "Craft on the undefended float network and on all widths at once, or use a suite.",
    )  # fmt: skip


def several_widths(victim: str) -> bool:
    """Whether the name of a victim tells of more than one width, or of an ensemble."""
    return len(set(re.findall(r"w\d+a\d+|fp32", victim))) > 1 or "ensemble" in victim


def broader_threats(case: Case) -> Check:
    """19: other sizes, shapes, goals and ways a patch is seen. Optional; the rest is listed."""
    attacks = case.attacks
    kinds = {
        "sizes": len({(row.patch_rows_px, row.patch_columns_px) for row in attacks}),
        "shapes": len({row.mask_digest for row in attacks}),
        "goals": len({row.goal for row in attacks}),
    }
    ways = {
        "several patches": any("*" in row.placement for row in attacks),
        "frames": any(_is_frame(row) for row in attacks),
        "perspective and light": any(row.placement.startswith("physical") for row in attacks),
        "corruptions": False,
    }
    tried = [f"{kinds[kind]} {kind}" for kind in kinds if kinds[kind] > 1]
    tried += [way for way, done in ways.items() if done]
    untried = [f"other {kind}" for kind in kinds if kinds[kind] <= 1]
    untried += [way for way, done in ways.items() if not done]
    said = f"tried {', '.join(tried)}; " if tried else ""
    return Check(
        19, "broader threats", "pass" if tried else "not run",
        f"{said}not tried: {', '.join(untried)}", None,
        "Repeat with another --patch-size or --placement.",
    )  # fmt: skip


def _is_frame(row: Result) -> bool:
    """Whether what is pasted is a frame around its rectangle, of any thickness."""
    px = (row.patch_rows_px, row.patch_columns_px)
    thicknesses = range(1, (min(px) + 1) // 2)
    return row.mask_digest in {mask_digest(mask_of(f"{FRAME}{t}", px)) for t in thicknesses}


def integer_truth(case: Case) -> Check:
    """22: which kernels ran. A float layer makes the column "mixed"."""
    name, remedy = "integer truth", "Do not call this column INT8; see qadtr-edge verify."
    facts = case.facts
    if facts is None or (facts.precision != "float" and not facts.integer_kernels):
        return Check(22, name, "not run", "no kernel was observed", None, "qadtr-edge verify")
    if facts.bits == FLOAT_BITS and facts.precision == "float":
        return Check(22, name, "pass", "a float column, named so", None, remedy)
    figure = f"{facts.precision}, {facts.integer_kernels} integer kernels"
    if facts.float_layers:
        figure += f", in float: {', '.join(facts.float_layers)}"
    sets = ", ".join(f"{key} {value}" for key, value in sorted(facts.device.items()) if value)
    figure += f"; {sets}" if sets else ""
    return Check(22, name, "pass" if facts.precision == "integer" else "flag", figure, None, remedy)


def certificate(case: Case) -> Check:
    """23: images the two-mask certificate covers, evaluated on the engine. Optional."""
    found, remedy = case.probe("certificate"), "Add --certificate."
    if found is None:
        return Check(23, "provable bound", "not run", "no certificate", None, remedy)
    held, shown = count(found, "certified"), count(found, "n")
    figure = f"{percent(held / shown)} certified around the engine, not of the bare engine"
    return Check(23, "provable bound", "pass", figure, wilson(held, shown), remedy)


def release(case: Case) -> Check:
    """24: patches, indices, digests and per-image outcomes lie in the run folder."""
    name, remedy = "release", "Keep the whole run folder, patches and labels included."
    if not case.attacks:
        return Check(24, name, "not run", "no attack was run", None, remedy)
    unlabelled = sum(not case.has_labels(row) for row in case.rows)
    kept = _kept(case.store.lines.parent / "patches")
    unkept = sum(row.patch_digest not in kept for row in case.attacks)
    figure = (
        f"{len(case.rows)} rows, {unlabelled} without labels; "
        f"{len(case.attacks)} attacks, {unkept} without their patch"
    )
    return Check(24, name, "flag" if unlabelled or unkept else "pass", figure, None, remedy)


def _kept(folder: Path) -> set[str]:
    """Digests of the patches in a run folder, as their files say; damaged files hold none."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                found.add(str(json.loads(str(file["header"]))["digest"]))
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError):
            continue
    return found


CHECKS = (
    threat_model, clean_accuracy, gradient_free, substitutes, broader_threats, integer_truth,
    certificate, release,
)  # fmt: skip
