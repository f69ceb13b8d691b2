"""Curves: success over queries, patch area and seeds, from what the run folder holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import metrics, statistics
from ..analysis.figure import COLOURS
from ..errors import BadInput
from ..patch import placed
from ..types import PlacedPatches, Result
from . import words
from .document import Document
from .pictures import Sources
from .rows import Row
from .section import Figure, Section, table
from .warnings import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Points = tuple[Sequence[float], Sequence[float]]


def curves(document: Document, sources: Sources) -> Section:
    """One figure and one table for each kind of budget that was varied."""
    queries, medians = _over_queries(document, sources)
    sizes = _over_sizes(document.rows)
    seeds, places, leads = _over_seeds(document), _over_places(document), _over_leads(document.rows)
    missing, tables, figures = [], [], []
    for found, name, across, absent in (
        (queries, "queries", "queries an image", "No search on an engine was run with its queries "
         "and labels kept: qadtr-edge attack --attack patch_rs."),
        (sizes, "size", "patch area, px²", "Only one patch size was tried: repeat with another "
         "--patch-size."),
        (seeds, "restarts", "patches of other seeds, per-image union", "Only one seed was tried "
         "of each patch: repeat with another --seed."),
        (places, "places", "draws of places, per-image union", "Only one draw of places was tried "
         "of each patch: a suite draws several."),
        (leads, "kappa", "lead in logits a patch is kept at", "No patches were kept at several "
         "leads: qadtr-edge attack --suite default."),
    ):  # fmt: skip
        if found:
            figures.append(_figure(name, across, found=found))
            tables.append(
                table(
                    f"Attack success over {across}",
                    ("attack", across, "ASR"),
                    rows=[
                        [label, f"{x:g}", f"{100 * y:.1f} %"]
                        for label, (at, rates) in found.items()
                        for x, y in zip(at, rates, strict=True)
                    ],
                )
            )
        else:
            missing.append(absent)
    said = (
        "Queries count every image the engine was shown. Medians are over eligible images; an "
        "image never fooled needed more than its budget, never the mean over successes.",
    )
    if medians:
        tables.insert(0, table("Queries needed", ("attack", "median", "fooled / eligible"),
                               rows=medians))  # fmt: skip
    return Section("curves", "Curves over budget", said if queries else (), tuple(missing),
                   tuple(tables), tuple(figures))  # fmt: skip


def _over_queries(
    document: Document, sources: Sources
) -> tuple[dict[str, Points], list[list[str]]]:
    """Success within each number of queries, and the censored median of each search."""
    found: dict[str, Points] = {}
    medians = []
    for row in document.rows:
        if row.result.queries_median is None:
            continue
        patches = sources.patch(row.result)
        if not isinstance(patches, PlacedPatches) or patches.queries is None:
            continue
        try:
            outcomes = document.evidence.store.outcomes(row.result.key)
            needed = patches.queries[placed.rows_of(patches, outcomes.ids)]
        except BadInput:
            continue
        target = row.result.target
        able = metrics.eligible(outcomes.clean.labels, outcomes.truth, target=target)
        won = metrics.succeeded(outcomes.patched.labels, outcomes.truth, target=target)
        if outcomes.float_clean is not None and outcomes.float_patched is not None:
            able &= outcomes.float_clean.labels == outcomes.truth
            won &= outcomes.float_patched.labels == outcomes.truth
        won = won[able]
        budget = int(needed[able].max())
        at = [int(one) for one in np.unique(np.geomspace(1, max(2, budget), 12).round())]
        label = _label(row)
        found[label] = (at, statistics.success_curve(needed[able], won, at=at))
        median = statistics.censored_median(needed[able], won, budget=budget)
        said = f"{median.value:g}" if median.reached else f"more than {median.value:g}"
        medians.append([label, said, f"{int(won.sum())} / {int(able.sum())}"])
    return found, medians


def _over_sizes(rows: Sequence[Row]) -> dict[str, Points]:
    """The strongest row of each area, for what was tried at more than one."""
    groups: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        result = row.result
        label = (
            f"{title(result.engine, result.bits)} {result.attack}, {words.goal(row)}, "
            f"{result.placement.partition(':')[0]}, {result.counts.n} images"
        )
        area = result.patch_rows_px * result.patch_columns_px
        groups[label][area] = max(row.asr, groups[label].get(area, 0.0))
    return {
        label: (sorted(areas), [areas[area] for area in sorted(areas)])
        for label, areas in groups.items()
        if len(areas) > 1
    }


def _over_seeds(document: Document) -> dict[str, Points]:
    """Per-image union over the first 1, 2, … patches that differ in their seed alone."""
    return _unions(document, lambda row: row.patch_seed or 0, held=lambda row: row.seed)


def _over_places(document: Document) -> dict[str, Points]:
    """Per-image union over the first 1, 2, … draws of places, of the patch of the first seed."""
    return _unions(document, lambda row: row.seed, held=lambda row: row.patch_seed or 0)


def _unions(
    document: Document, varied: Callable[[Result], int], *, held: Callable[[Result], int]
) -> dict[str, Points]:
    """Unions over rows that differ in what is ``varied``, in its order, at the least ``held``."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in document.rows:
        result = row.result
        if not row.is_control and result.patch_seed is not None:
            setting = (_label(row), result.target, result.data_digest, result.engine_digest)
            groups[(*setting, result.victim)].append(row)
    found: dict[str, Points] = {}
    for group in groups.values():
        least = min(held(row.result) for row in group)
        chosen = {varied(row.result): row for row in group if held(row.result) == least}
        if len(chosen) < 2:
            continue
        try:
            each = [
                document.evidence.store.outcomes(chosen[number].result.key)
                for number in sorted(chosen)
            ]
        except BadInput:
            continue
        target = group[0].result.target
        able = metrics.eligible(each[0].clean.labels, each[0].truth, target=target)
        won = np.stack([
            metrics.succeeded(one.patched.labels, one.truth, target=target) for one in each
        ])  # fmt: skip
        counts = range(1, len(each) + 1)
        found[f"{_label(group[0])} on {group[0].result.victim}"] = (
            list(counts),
            [metrics.rate(int((metrics.union(won[:k]) & able).sum()), int(able.sum()))
             for k in counts],
        )  # fmt: skip
    return found


def _over_leads(rows: Sequence[Row]) -> dict[str, Points]:
    """Success in simulation and on the engine of patches kept once they led by so many logits.

    On the images right on both: the gap between the two is what transfer loses at that lead.
    """
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for row in rows:
        result, counts = row.result, row.result.counts
        both, b, c, n = (counts.both_fooled, counts.sim_only, counts.engine_only,
                         counts.both_eligible)  # fmt: skip
        if result.kappa is None or both is None or b is None or c is None or not n:
            continue
        label = f"{title(result.engine, result.bits)} {result.attack}, {row.size} px, "
        label += f"{words.goal(row)} on {result.victim}"
        found[f"{label}, simulation"].setdefault(result.kappa, metrics.rate(both + b, n))
        found[f"{label}, engine"].setdefault(result.kappa, metrics.rate(both + c, n))
    return {label: (sorted(at), [at[lead] for lead in sorted(at)]) for label, at in found.items()
            if len(at) > 1}  # fmt: skip


def _label(row: Row) -> str:
    result = row.result
    return (
        f"{title(result.engine, result.bits)} {words.attack(row)}, {row.size} px, "
        f"{words.goal(row)}, {result.placement}"
    )


def _figure(name: str, across: str, *, found: dict[str, Points]) -> Figure:
    shown = dict(list(found.items())[:10])

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for number, (label, (at, rates)) in enumerate(shown.items()):
            axes.plot(at, [100 * rate for rate in rates], marker="o", markersize=3, label=label,
                      color=COLOURS[number % len(COLOURS)])  # fmt: skip
        if name == "queries":
            axes.set_xscale("log")
        axes.set_xlabel(across)
        axes.set_ylabel("ASR, %")
        axes.set_ylim(0, 100)
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0.0, -0.25))

    said = "; ".join(
        f"{label}: {100 * rates[0]:.1f} % at {at[0]:g}, {100 * rates[-1]:.1f} % at {at[-1]:g}"
        for label, (at, rates) in shown.items()
    )
    left = len(found) - len(shown)
    more = f" {left} more stand in the table." if left else ""
    return Figure(f"curve-{name}", f"Attack success over {across}", f"{said}.{more}", draw,
                  (6.4, 2.8 + 0.14 * len(shown)))  # fmt: skip
