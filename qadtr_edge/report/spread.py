"""Attacks replayed at several places or made from several seeds: their mean, and what luck did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .. import metrics, resampling
from ..analysis.finding import Table
from ..errors import BadInput
from ..resampling import Estimate
from ..results import Outcomes, Store
from ..types import Result
from . import words
from .document import Document
from .rows import Row
from .section import table
from .warnings import title

FEWEST = 2
"""Rows of one attack from which their mean and spread are told."""


def tables(document: Document) -> tuple[Table, ...]:
    """One table of all attacks with several rows; none where there is none, or no labels."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in document.rows:
        if not row.is_control:
            groups[_setting(row.result)].append(row)
    lines = [
        line
        for group in groups.values()
        if len(group) >= FEWEST and (line := _line(group, document.evidence.store))
    ]
    columns = ("engine", "attack", "goal", "size px", "policy", "made on", "patches", "rows",
               "least to most", "mean ASR [95 %]", "mean excess [95 %]")  # fmt: skip
    said = "Attack success over places and seeds (bootstrap of images, and of patches if several)"
    return (table(said, columns, rows=lines),) if lines else ()


def _line(group: Sequence[Row], store: Store) -> list[str] | None:
    try:
        mean, excess = _estimates(group, store)
    except BadInput:
        return None
    first = group[0]
    rates = [row.asr for row in group]
    return [
        title(first.result.engine, first.result.bits), words.attack(first), words.goal(first),
        first.size, first.result.placement, first.result.victim,
        str(len({row.result.patch_digest for row in group})), str(len(group)),
        f"{100 * min(rates):.1f} to {100 * max(rates):.1f} %",
        words.spread(mean.value, mean.low, high=mean.high),
        words.NOT_RUN if excess is None
        else f"{100 * excess.value:+.1f} [{100 * excess.low:.1f}, {100 * excess.high:.1f}] points",
    ]  # fmt: skip


def _estimates(group: Sequence[Row], store: Store) -> tuple[Estimate, Estimate | None]:
    """Mean success over rows and images, and its excess over the matched control of each row.

    Images are drawn anew with all their rows; patches too when there are several, for then the
    claim is about the attack. The excess is ``None`` unless every row has a control.
    """
    won, ids, patches, beside = [], [], [], []
    for number, row in enumerate(group):
        kept = store.outcomes(row.result.key)
        able = metrics.eligible(kept.clean.labels, kept.truth, target=row.result.target)
        won.append(_won(kept, row.result)[able])
        ids.append(kept.ids[able])
        patches.append(np.full(int(able.sum()), number))
        if row.control is not None:
            other = store.outcomes(row.control.key)
            beside.append(_won(other, row.control)[able])
    digests = [row.result.patch_digest for row in group]
    made = np.unique(digests, return_inverse=True)[1][np.concatenate(patches)]
    several = made if len(set(digests)) > 1 else None
    first, images = np.concatenate(won), np.concatenate(ids)
    mean = resampling.difference(first, np.zeros_like(first), ids=images, patches=several)
    if len(beside) < len(group):
        return mean, None
    second = np.concatenate(beside)
    return mean, resampling.difference(first, second, ids=images, patches=several)


def _won(kept: Outcomes, row: Result) -> resampling.Floats:
    won = metrics.succeeded(kept.patched.labels, kept.truth, target=row.target)
    return won.astype(np.float64)


def _setting(result: Result) -> tuple[object, ...]:
    """What rows share that differ in their places and the seed of their patch alone."""
    return (
        result.engine, result.bits, result.engine_digest, result.attack, result.victim,
        result.target, result.mask_digest, result.placement, result.data_digest, result.kappa,
    )  # fmt: skip
