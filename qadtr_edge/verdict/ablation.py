"""Check 17: what each part of QADT-R gained, tier by tier, and whether gradients alone saw it.

A part is judged by a second run, trained without it and attacked by the same suite. What it gains
against an attack that follows gradients must show in attacks that need none, or the part hides
gradients and strengthens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from .. import statistics
from ..errors import BadInput
from ..types import Json, Result
from .case import HEADLINE, Case, Check, Status, count
from .unions import WHITE, compared

PARTS = ("aqapa", "dbwt", "gir")
"""What a run may have been trained without: patch training, the turns of the widths, GIR."""

UNMASKABLE = ("T2", "T4", "T6")
"""Tiers that ask the engine and need no gradient."""

Gains = dict[str, statistics.Difference]


def gains(part: str, case: Case, *, without: Case) -> list[Json]:
    """Steps of the probe ``ablation``: what a run ``without`` a part loses to each tier, and this.

    Counted over the attacks of both, on the images both engines get right without a patch:
    ``without_only`` are those fooled where the part is missing alone, ``with_only`` the others.
    """
    groups = {tier: partial(_of_tier, tier=tier) for tier in HEADLINE}
    return [
        {
            "part": part,
            "tier": tier,
            "images": lead.n,
            "with_only": lead.first_only,
            "without_only": lead.second_only,
        }
        for tier, lead in compared(case, without, groups=groups).items()
    ]


def ablation(case: Case) -> Check:
    """17: a gain in the gradient attack must show in some attack without gradients too.

    Passed when all three parts were compared and none is masking; flagged when one is.
    """
    name, remedy = "ablation", "Masking, not robustness: do not claim this part as a defence."
    steps = case.series("ablation")
    if steps is None:
        ask = "Train and attack the ablations, then add --ablation gir=RUN for each part."
        return Check(17, name, "not run", "no run without a part was given", None, ask)
    parts: dict[str, Gains] = {}
    for step in steps:
        if step.get("part") not in PARTS:
            raise BadInput(
                f"The stored ablation is of {step.get('part')!r}, which is no part of QADT-R.",
                "Run the same attack command again.",
            )
        gain = statistics.difference(
            count(step, "without_only"), count(step, "with_only"), n=count(step, "images")
        )
        parts.setdefault(str(step["part"]), {})[str(step["tier"])] = gain
    masking = [part for part, each in parts.items() if _is_masking(each)]
    lacking = [f"{part} not compared" for part in PARTS if part not in parts]
    lacking += [f"{part} needs T3 and T2, T4 or T6" for part, each in parts.items()
                if not _is_telling(each)]  # fmt: skip
    listed = "; ".join(f"{part} {_said(each)}" for part, each in parts.items())
    figure = "; ".join([f"points gained [95 %]: {listed}", *lacking])
    if masking:
        return Check(17, name, "flag", f"{figure}; {', '.join(masking)}: masking, not robustness",
                     None, remedy)  # fmt: skip
    status: Status = "not run" if lacking else "pass"
    ask = "Attack a run without each of A-QAPA, DBWT and GIR by the same suite." if lacking else ""
    return Check(17, name, status, figure, None, ask or remedy)


def _is_telling(gains: Gains) -> bool:
    """Whether a gradient attack and one without gradients were both compared."""
    return WHITE in gains and any(tier in gains for tier in UNMASKABLE)


def _is_masking(gains: Gains) -> bool:
    """A gain in the gradient attack that no attack without gradients confirms."""
    if not _is_telling(gains):
        return False
    confirmed = any(gains[tier].low > 0 for tier in UNMASKABLE if tier in gains)
    return gains[WHITE].low > 0 and not confirmed


def _said(gains: Gains) -> str:
    return ", ".join(
        f"{tier} {100 * gain.value:+.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
        for tier, gain in sorted(gains.items())
    )


def _of_tier(rows: Iterable[Result], *, tier: str) -> Sequence[Result]:
    return [row for row in rows if row.tier == tier]
