"""What stands outside the success rate: what only the engine gets wrong (T7), certificates (T8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..errors import BadInput
from ..types import Json
from . import words
from .document import Document
from .rows import Row
from .warnings import title


def sentences(document: Document) -> Iterator[str]:
    """One for each row the float model was shown too, one for each certificate of the run."""
    for line in document.lines:
        for row in line.rows:
            if row.differential is not None:
                yield differential(row)
        for found in document.evidence.certificates:
            if found.get("engine_digest") == line.engine.digest:
                try:
                    yield certified(found)
                except BadInput as error:  # a page of the rest is worth more than none
                    yield f"{error.fact} {error.remedy}"


def differential(row: Row) -> str:
    """How many images the patches of a row fool the engine on and not its float model."""
    result, share = row.result, row.differential
    assert share is not None
    return (
        f"{title(result.engine, result.bits)}: {result.attack} ({result.tier}) fools the engine "
        f"and leaves the float model right on {share.held} of {share.of} images both get right: "
        f"{words.share(share.held, share.of)}."
    )


def certified(found: Mapping[str, Json]) -> str:
    """What two masks certify around an engine, from a certificate.

    Raises ``BadInput`` for one that lacks a count.
    """
    n, held, right, masks, shown, rows, columns, bits = (
        _count(found, name)
        for name in ("n", "certified", "double_masking", "masks", "inferences", "patch_rows_px",
                     "patch_columns_px", "bits")
    )  # fmt: skip
    return (
        f"Certified around {title(str(found.get('engine')), bits)}, by {masks} masks: "
        f"{words.share(held, n)} of {n} images, whatever a {rows}x{columns} px patch shows; double "
        f"masking is right on {words.share(right, n)} of them without one; {shown} images shown. "
        "This bounds that pipeline, not the bare engine."
    )


def _count(found: Mapping[str, Json], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadInput(
            f"A stored certificate holds no {name!r}.", "Delete the run's folder certificates."
        )
    return value
