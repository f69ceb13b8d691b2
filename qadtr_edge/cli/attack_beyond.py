"""What ``attack`` shows beyond success rates: what only the engine gets wrong."""

from __future__ import annotations

from collections.abc import Iterator

from ..report.rows import Row
from ..report.warnings import title
from .attack_answer import Answer


def lines(found: Answer) -> Iterator[str]:
    """One line for each row whose patches were shown to the float model too."""
    for row in found.rows:
        if row.differential is not None:
            yield _differential(row)


def _differential(row: Row) -> str:
    result, share = row.result, row.differential
    assert share is not None
    low, high = share.interval.low, share.interval.high
    return (
        f"{title(result.engine, result.bits)}: {result.attack} ({result.tier}) fools the engine "
        f"and leaves the float model right on {share.held} of {share.of} images both get right: "
        f"{100 * share.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]."
    )
