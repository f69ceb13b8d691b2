"""Counts in, rates out: one row per result, its matched control beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from .. import metrics
from ..attacks.controls import OCCLUSION
from ..types import Json, Result
from ..verdict.case import HEADLINE

CONTROL_TIER = "T0"
"""Tier of the controls: grey, noise, a crop of another image, the shuffled patch."""

PLACED_TIERS = ("T3", "T7")
"""Tiers of patches that bring a place of their own for each image, at which no control stood."""


@dataclass(frozen=True)
class Share:
    """Images of which something holds, among those it could hold of."""

    held: int
    of: int

    @property
    def rate(self) -> float:
        return metrics.rate(self.held, self.of)

    @property
    def interval(self) -> metrics.Interval:
        return metrics.wilson(self.held, self.of)

    def as_json(self) -> dict[str, Json]:
        low, high = self.interval.low, self.interval.high
        return {"fooled": self.held, "eligible": self.of, "rate": self.rate, "low": low,
                "high": high}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Row:
    """One result and the rates that follow from its counts.

    ``control``: the strongest of grey, noise and crop on the same engine file, with the same
    images, shape, places and goal, or ``None``. Rates are fractions.
    """

    result: Result
    control: Result | None

    @property
    def is_control(self) -> bool:
        return self.result.tier == CONTROL_TIER

    @property
    def size(self) -> str:
        """``6`` for a square of 6 px, ``4x12`` for 4 rows of 12 px."""
        height, width = self.result.patch_rows_px, self.result.patch_columns_px
        return str(height) if height == width else f"{height}x{width}"

    @property
    def asr(self) -> float:
        """Attack success rate: fooled among eligible."""
        return _asr(self.result)

    @cached_property
    def interval(self) -> metrics.Interval:
        """The 95 % Wilson interval of ``asr``."""
        return metrics.wilson(self.result.counts.fooled, self.result.counts.eligible)

    @property
    def clean_accuracy(self) -> float:
        return metrics.rate(self.result.counts.clean_correct, self.result.counts.n)

    @property
    def robust_accuracy(self) -> float:
        return metrics.rate(self.result.counts.patched_correct, self.result.counts.n)

    @property
    def control_asr(self) -> float | None:
        return None if self.control is None else _asr(self.control)

    @property
    def asr_excess(self) -> float | None:
        """What the attack adds to mere occlusion; ``None`` for controls and without one."""
        return None if self.control is None else metrics.excess(self.asr, _asr(self.control))

    @property
    def sim_asr(self) -> float | None:
        """Attack success rate on the simulation, same bytes; ``None`` when it did not run."""
        counts = self.result.counts
        if counts.sim_fooled is None or not counts.sim_eligible:
            return None
        return metrics.rate(counts.sim_fooled, counts.sim_eligible)

    @cached_property
    def p_mcnemar(self) -> float | None:
        """Exact p of "both are fooled equally often", on images eligible on both."""
        counts = self.result.counts
        if counts.sim_only is None or counts.engine_only is None:
            return None
        return metrics.mcnemar(counts.sim_only, counts.engine_only)

    @cached_property
    def differential(self) -> Share | None:
        """How often the engine falls and the float model stays right, of images both get right.

        ``None`` where no float model was shown the same bytes.
        """
        counts = self.result.counts
        if counts.differential_fooled is None or not counts.differential_eligible:
            return None
        return Share(counts.differential_fooled, counts.differential_eligible)

    def as_json(self) -> dict[str, Json]:
        """The row by the stable names of ``--json``."""
        result, counts, interval = self.result, self.result.counts, self.interval
        return {
            "engine": result.engine,
            "bits": result.bits,
            "precision": result.precision,
            "attack": result.attack,
            "knowledge": result.knowledge,
            "victim": result.victim,
            "goal": result.goal,
            "target": result.target,
            "tier": result.tier,
            "threat": result.threat,
            "patch_size_px": result.patch_size_px,
            "patch_rows_px": result.patch_rows_px,
            "patch_columns_px": result.patch_columns_px,
            "placement": result.placement,
            "seed": result.seed,
            "n": counts.n,
            "clean_correct": counts.clean_correct,
            "eligible": counts.eligible,
            "fooled": counts.fooled,
            "asr": self.asr,
            "asr_low": interval.low,
            "asr_high": interval.high,
            "asr_excess": self.asr_excess,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "sim_fooled": counts.sim_fooled,
            "sim_only": counts.sim_only,
            "engine_only": counts.engine_only,
            "p_mcnemar": self.p_mcnemar,
            "queries_median": result.queries_median,
            "kappa": result.kappa,
            "differential": None if self.differential is None else self.differential.as_json(),
            "engine_digest": result.engine_digest,
            "patch_digest": result.patch_digest,
            "data_digest": result.data_digest,
            "key": result.key,
        }


def rows(results: Iterable[Result]) -> tuple[Row, ...]:
    """One row per result: attacks before controls, wider before narrower, stronger first."""
    found = tuple(results)
    paired = (Row(result, _control_of(result, found)) for result in found)
    return tuple(sorted(paired, key=_order))


def worst(rows: Iterable[Row]) -> Row | None:
    """The attack row with the highest success rate among rows that can be compared.

    Only rows of one set of images are: of the largest set, at a tie of the one with most rows.
    Among them untargeted rows when there are any, else targeted ones. Controls are left out, and
    what stands outside the headline.
    """
    of_set = largest(row for row in rows if row.result.tier in HEADLINE)
    if not of_set:
        return None
    untargeted = [row for row in of_set if row.result.goal == "untargeted"]
    return min(untargeted or of_set, key=lambda row: (-row.asr, _order(row)))


def largest(rows: Iterable[Row]) -> list[Row]:
    """The attack rows of one set of images: of the largest, at a tie of the one with most rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not row.is_control:
            groups.setdefault(row.result.data_digest, []).append(row)
    return max(groups.values(), key=_weight, default=[])


def _weight(group: list[Row]) -> tuple[int, int, str]:
    """Images, rows, and a name that breaks what is still a tie the same way each time."""
    return max(row.result.counts.n for row in group), len(group), group[0].result.data_digest


def _asr(result: Result) -> float:
    return metrics.rate(result.counts.fooled, result.counts.eligible)


def _control_of(result: Result, among: tuple[Result, ...]) -> Result | None:
    if result.tier in (CONTROL_TIER, *PLACED_TIERS):
        return None
    matched = (
        other
        for other in among
        if other.attack in OCCLUSION and _setting(other) == _setting(result)
    )
    return max(matched, key=_asr, default=None)


def _setting(result: Result) -> tuple[object, ...]:
    """What a control must share with the attack it stands beside."""
    return (
        result.engine, result.bits, result.engine_digest, result.data_digest, result.mask_digest,
        result.patch_rows_px, result.patch_columns_px,
        result.placement, result.seed, result.goal, result.target,
    )  # fmt: skip


def _order(row: Row) -> tuple[object, ...]:
    result = row.result
    return (result.engine, -result.bits, row.is_control, -row.asr, result.attack, result.key)
