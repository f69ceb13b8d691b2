"""The transfer heuristic against measured transfer: does aligned mean that patches carry over?

Cosine + Edge IoU + HOG cosine of two widths (TriQDef, arXiv 2508.12132) beside the success of
patches crafted at one and replayed at the other, where the run's results hold any. Spearman's rank
correlation over pairs of widths: the heuristic is the same both ways round, so the two directions
of a pair are one point, their mean. This project's definition of the comparison.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .. import metrics, streams
from ..resampling import number
from ..types import FLOAT_BITS, Json, Result

FEWEST = 3
"""Pairs below which no rank correlation is given."""

ORDERS = 9_999
"""Orders that the p value is over: all there are where these are no more (7 pairs), else drawn."""

Widths = tuple[int, int]
Setting = tuple[str, str, str, str, int, str]


def crafted_at(victim: str) -> int | None:
    """The width in the name of what a patch was crafted on (``twin-w4a4``, ``fp32``), or ``None``.

    The integers and their simulation count as one.
    """
    found = re.fullmatch(r"(?:twin|simulation)-w(\d+)a\1", victim)
    return int(found[1]) if found else FLOAT_BITS if victim == "fp32" else None


def measured(rows: Iterable[Result]) -> tuple[Mapping[Widths, float], Setting | None]:
    """Success of untargeted patches from one width at another, by (crafted at, replayed at).

    Only rows of one setting (engine, attack, mask, places, seed, images) can be compared: the one
    with most pairs is taken. Several patches of a pair are averaged.
    """
    settings: dict[Setting, dict[Widths, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        source = crafted_at(row.victim)
        if source is None or source == row.bits or row.goal != "untargeted":
            continue
        setting = (
            row.engine, row.attack, row.mask_digest, row.placement, row.seed, row.data_digest,
        )  # fmt: skip
        rate = metrics.rate(row.counts.fooled, row.counts.eligible)
        settings[setting][source, row.bits].append(rate)
    if not settings:
        return {}, None
    setting = max(settings, key=lambda each: len(settings[each]))
    return {pair: float(np.mean(rates)) for pair, rates in settings[setting].items()}, setting


def compared(heuristic: Mapping[Widths, float], rows: Iterable[Result]) -> dict[str, Json] | None:
    """Heuristic and measured transfer of each ordered pair, and their rank correlation over pairs.

    ``heuristic`` is by unordered pair, either way round; the measured success of a pair is the mean
    of the directions there are. ``None`` when nothing was measured; the correlation and its p are
    ``None`` below three pairs, or when either side is constant.
    """
    transfer, setting = measured(rows)
    both = {**heuristic, **{(b, a): value for (a, b), value in heuristic.items()}}
    pairs = [pair for pair in transfer if pair in both]
    if not pairs or setting is None:
        return None
    won: dict[frozenset[int], list[float]] = defaultdict(list)
    for pair in pairs:
        won[frozenset(pair)].append(transfer[pair])
    expected = [both[min(pair), max(pair)] for pair in won]
    correlation, p_value = ranked(expected, [float(np.mean(rates)) for rates in won.values()])
    return {
        "engine": setting[0],
        "attack": setting[1],
        "placement": setting[3],
        "pairs": [
            {
                "crafted_at": a,
                "replayed_at": b,
                "heuristic": number(both[a, b]),
                "asr": number(transfer[a, b]),
            }
            for a, b in pairs
        ],
        "spearman": number(correlation),
        "p": number(p_value),
        "pairs_ranked": len(won),
    }


def ranked(expected: Sequence[float], won: Sequence[float]) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p, by the orders that ``won`` could have.

    NaN for both below ``FEWEST`` pairs, or when either side is constant.
    """
    if len(won) < FEWEST or len(set(expected)) == 1 or len(set(won)) == 1:
        return float("nan"), float("nan")
    from scipy.stats import permutation_test, rankdata

    ranks = [rankdata(side) - (len(won) + 1) / 2 for side in (won, expected)]
    units = [each / np.linalg.norm(each) for each in ranks]
    found = permutation_test(
        (units[0],), lambda order, axis: (order * units[1]).sum(axis=axis),
        permutation_type="pairings", vectorized=True, n_resamples=ORDERS,
        random_state=streams.generator(0, "orders of widths"),
    )  # fmt: skip
    return float(found.statistic), float(found.pvalue)
