"""Several copies of one patch on an image, none of which touches another.

Each copy is placed as a single one would be and drawn again while its upright box meets one that
stands; an image on which a copy finds no room begins anew. This project's definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import Placements
from . import places

Ids = NDArray[np.int64]
Boxes = NDArray[np.float64]

TRIES, STARTS = 50, 200
"""Draws of one copy before an image begins anew, and beginnings before there is no room."""

LARGEST_SHARE = 0.4
"""Of the image that all boxes together may take, at the largest draw."""


def apart(
    draw: Callable[[Ids, str], Placements],
    box_of: Callable[[Placements], Boxes],
    *,
    ids: Ids,
    copies: int,
) -> Placements:
    """Places of ``copies`` patches on each of ``ids``, the later ones in ``more``.

    ``draw``: places of single patches on images, for each name of a try; row i depends on the id
    alone. ``box_of``: ``(N, 4)``, first row, first column, end row and end column of each. Raises
    ``BadInput`` when a copy finds no room.
    """
    found: list[Placements] = []
    open_ = np.arange(len(ids))
    for start in range(STARTS):
        made, stuck = _sequence(draw, box_of, ids=ids[open_], copies=copies, start=start)
        found = made if not start else [
            places.replaced(old, open_, by=new) for old, new in zip(found, made, strict=True)
        ]  # fmt: skip
        open_ = open_[stuck]
        if not len(open_):
            return replace(found[0], more=tuple(found[1:]))
    raise BadInput(
        f"{copies} copies of the patch find no room beside each other.",
        "Give fewer, or a smaller --patch-size.",
    )


def _sequence(
    draw: Callable[[Ids, str], Placements],
    box_of: Callable[[Placements], Boxes],
    *,
    ids: Ids,
    copies: int,
    start: int,
) -> tuple[list[Placements], NDArray[np.bool_]]:
    """One copy after the other on each image, and on which of them one found no room."""
    every = np.arange(len(ids))
    found: list[Placements] = []
    boxes: list[Boxes] = []
    stuck = np.zeros(len(ids), np.bool_)
    for copy in range(copies):
        new = draw(ids, f"{start}:{copy}:0")
        at = every[_meets(box_of(new), boxes)]
        for again in range(1, TRIES):
            if not len(at):
                break
            other = draw(ids[at], f"{start}:{copy}:{again}")
            new = places.replaced(new, at, by=other)
            at = at[_meets(box_of(other), [held[at] for held in boxes])]
        stuck[at] = True
        found.append(new)
        boxes.append(box_of(new))
    return found, stuck


def _meets(box: Boxes, others: list[Boxes]) -> NDArray[np.bool_]:
    """Whether each box shares more than an edge with one of the others on its image."""
    met = np.zeros(len(box), np.bool_)
    for other in others:
        met |= ((box[:, :2] < other[:, 2:]) & (other[:, :2] < box[:, 2:])).all(axis=1)
    return met
