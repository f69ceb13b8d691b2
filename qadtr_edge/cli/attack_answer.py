"""What ``attack`` answers: the rates that follow from the rows, the verdict, the JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from .. import metrics
from ..attacks.controls import OCCLUSION
from ..report.rows import Row, rows
from ..results import Store
from ..types import Json, Result
from ..verdict import Verdict, case, judge, white_box_leaves_headline
from ..verdict.worst import Worst, by_threat, worst
from .attack_replay import Cell


@dataclass(frozen=True, eq=False)
class AtWidth:
    """One engine at one width.

    ``worst``: the union over all attacks of T1 to T6, the headline; ``by_tier``: over those of each
    tier; ``by_threat``: over all that an attacker of each threat model may do, cumulatively. They
    are ``None`` where there was no attack. ``occlusion_asr``: of the strongest of grey, noise and
    crop. ``white_box_leaves``: T3 may not be quoted alone, since searches on the engine fool what
    it misses. ``certified``: what two masks certify around the engine; no success rate.
    """

    engine: str
    bits: int
    precision: str
    digest: str
    n: int
    clean_accuracy: float
    occlusion_asr: float | None
    worst: Worst | None
    by_tier: dict[str, Worst | None]
    by_threat: dict[str, Worst | None]
    white_box_leaves: bool
    verdict: Verdict
    certified: Mapping[str, Json] | None = None

    @property
    def worst_case_asr(self) -> float | None:
        return None if self.worst is None else self.worst.asr

    def unions_json(self) -> dict[str, Json]:
        """``by_tier`` and ``by_threat``; a tier or threat that was not run holds null."""
        return {
            name: {key: None if one is None else one.as_json() for key, one in unions.items()}
            for name, unions in (("by_tier", self.by_tier), ("by_threat", self.by_threat))
        }

    def checks_json(self) -> list[dict[str, Json]]:
        return [
            {**asdict(check), "interval": check.interval and list(check.interval)}
            for check in self.verdict.checks
        ]


@dataclass(frozen=True, eq=False)
class Answer:
    """The rows of this command, and what follows from them. The extremes run over all widths."""

    rows: tuple[Row, ...]
    widths: tuple[AtWidth, ...]
    suite: str | None

    @property
    def worst_case_asr(self) -> float | None:
        return max(
            (w.worst_case_asr for w in self.widths if w.worst_case_asr is not None), default=None
        )

    @property
    def verdict(self) -> Verdict:
        """Of all widths the verdict that says least in favour of the numbers."""
        order = get_args(case.Name)
        return min((w.verdict for w in self.widths), key=lambda found: order.index(found.name))

    def as_json(self) -> dict[str, Json]:
        """The document under the stable names.

        With several widths ``clean_accuracy`` is the lowest, the other two rates the highest;
        ``by_width`` has each.
        """
        certified = [dict(w.certified) for w in self.widths if w.certified is not None]
        controls = [w.occlusion_asr for w in self.widths if w.occlusion_asr is not None]
        return {
            "suite": self.suite,
            "results": [row.as_json() for row in self.rows],
            "clean_accuracy": min(width.clean_accuracy for width in self.widths),
            "occlusion_asr": max(controls, default=None),
            "worst_case_asr": self.worst_case_asr,
            "certified": min(certified, key=lambda one: case.count(one, "certified"), default=None),
            "verdict": self.verdict.name,
            "verdict_reason": self.verdict.reason,
            "checks": [
                {"engine": width.engine, "bits": width.bits, **check}
                for width in self.widths
                for check in width.checks_json()
            ],
            "by_width": [
                {
                    "engine": width.engine,
                    "bits": width.bits,
                    "precision": width.precision,
                    "n": width.n,
                    "clean_accuracy": width.clean_accuracy,
                    "occlusion_asr": width.occlusion_asr,
                    "worst_case_asr": width.worst_case_asr,
                    **width.unions_json(),
                    "white_box_leaves_headline": width.white_box_leaves,
                    "certified": None if width.certified is None else dict(width.certified),
                    "verdict": width.verdict.name,
                    "verdict_reason": width.verdict.reason,
                }
                for width in self.widths
            ],
        }


def answer(
    cells: Sequence[Cell],
    store: Store,
    *,
    suite: str | None = None,
    baseline: tuple[Sequence[Result], Store] | None = None,
) -> Answer:
    """The answer of what ran on each engine; the labels behind the rows are in ``store``.

    ``baseline``: rows and store of the run that is compared with.
    """
    return Answer(
        rows=rows(row for cell in cells for row in cell.rows),
        widths=tuple(_at_width(cell, store, suite=suite, baseline=baseline) for cell in cells),
        suite=suite,
    )


def _at_width(
    cell: Cell,
    store: Store,
    *,
    suite: str | None,
    baseline: tuple[Sequence[Result], Store] | None,
) -> AtWidth:
    found, first = case.Case(cell.rows, store, probes=cell.probes), cell.rows[0]
    occlusion = (worst(found, [row]) for row in cell.rows if row.attack in OCCLUSION)
    return AtWidth(
        engine=first.engine,
        bits=first.bits,
        precision=first.precision,
        digest=first.engine_digest,
        n=first.counts.n,
        clean_accuracy=metrics.rate(first.counts.clean_correct, first.counts.n),
        occlusion_asr=max((one.asr for one in occlusion if one is not None), default=None),
        worst=worst(found, found.attacks),
        by_tier={tier: worst(found, found.of_tiers(tier)) for tier in case.HEADLINE},
        by_threat=by_threat(found),
        white_box_leaves=white_box_leaves_headline(found),
        verdict=judge(
            cell.rows, store, suite=suite, facts=cell.facts, probes=cell.probes, baseline=baseline
        ),
        certified=found.probe("certificate"),
    )
