"""What ``attack`` shows beyond success rates: what only the engine gets wrong, certificates."""

from __future__ import annotations

from collections.abc import Iterator

from .. import metrics
from ..report.rows import Row
from ..report.warnings import title
from ..verdict import case
from .attack_answer import Answer, AtWidth


def lines(found: Answer) -> Iterator[str]:
    """One line for each row whose patches the float model was shown too, one for a certificate."""
    for row in found.rows:
        if row.differential is not None:
            yield _differential(row)
    for width in found.widths:
        if width.certified is not None:
            yield from _certified(width)


def _differential(row: Row) -> str:
    result, share = row.result, row.differential
    assert share is not None
    return (
        f"{title(result.engine, result.bits)}: {result.attack} ({result.tier}) fools the engine "
        f"and leaves the float model right on {share.held} of {share.of} images both get right: "
        f"{_rate(share.held, share.of)}."
    )


def _certified(width: AtWidth) -> Iterator[str]:
    assert width.certified is not None
    names = ("n", "certified", "double_masking", "masks", "inferences", "patch_rows_px",
             "patch_columns_px")  # fmt: skip
    n, held, right, masks, shown, rows, columns = (
        case.count(width.certified, name) for name in names
    )
    yield (
        f"Certified around {title(width.engine, width.bits)}, by {masks} masks: "
        f"{_rate(held, n)} of {n} images, whatever a {rows}x{columns} px patch shows; double "
        f"masking is right on {_rate(right, n)} of them without one; {shown} images shown. "
        "This bounds that pipeline, not the bare engine."
    )


def _rate(held: int, of: int) -> str:
    found = metrics.wilson(held, of)
    return f"{100 * held / of:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
