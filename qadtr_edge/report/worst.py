"""The deployed worst case of an engine, from the rows of a report."""

from __future__ import annotations

from collections.abc import Iterable

from ..results import Store
from ..verdict import white_box_leaves_headline
from ..verdict.case import HEADLINE, Case
from ..verdict.unions import is_white_box
from ..verdict.worst import Worst, by_threat, worst
from .rows import Row, largest


def worst_case(rows: Iterable[Row], store: Store) -> Worst | None:
    """The union over the attack rows of one engine; ``None`` without a row that has labels."""
    case = _case(rows, store)
    return worst(case, case.rows)


def worst_by_threat(rows: Iterable[Row], store: Store) -> dict[str, Worst | None]:
    """The same for each threat model, cumulatively."""
    return by_threat(_case(rows, store))


def settings(rows: Iterable[Row]) -> tuple[str, ...]:
    """Sizes of the patches behind the worst case: ``6 px``, ``6 px in 3 copies``.

    A run can hold several, and its worst case is over them all.
    """
    chosen = largest(row for row in rows if row.result.tier in HEADLINE)
    return tuple(sorted({_setting(row) for row in chosen}))


def _setting(row: Row) -> str:
    _, many, copies = row.result.placement.rpartition("*")
    return f"{row.size} px" + (f" in {copies} copies" if many else "")


def quotable(rows: Iterable[Row], store: Store) -> tuple[Row, ...]:
    """The rows whose success may be quoted alone.

    All, unless searches on the engine fool images that the white-box attack does not: then its
    rows are left out, for they say how well it followed gradients and not how strong an attack is.
    """
    found = tuple(rows)
    if not white_box_leaves_headline(_case(found, store)):
        return found
    return tuple(row for row in found if not is_white_box(row.result))


def _case(rows: Iterable[Row], store: Store) -> Case:
    """The rows of the headline on the largest set of images among them."""
    chosen = largest(row for row in rows if row.result.tier in HEADLINE)
    return Case(tuple(row.result for row in chosen), store)
