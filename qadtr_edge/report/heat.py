"""Heat maps: cells coloured by a rate and labelled with it, so that no number hangs on a colour."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from ..types import Labels, Pixels

LIGHT, DARK, ABSENT = "#fefefe", "#111111", "#888888"
"""Not black and white, which the page turns around in the dark: the cells keep their colours."""


def draw_matrix(
    canvas: Canvas,
    rates: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    framed: Collection[tuple[int, int]] = (),
    worst: int | None = None,
) -> None:
    """Fractions by row and column, in percent; ``None`` is an empty cell.

    The cells ``framed`` have a dashed frame, the row ``worst`` a bold name and bold numbers.
    """
    axes = canvas.add_subplot()
    filled = np.array([[np.nan if one is None else 100 * one for one in row] for row in rates])
    mesh = axes.pcolormesh(np.ma.masked_invalid(filled), cmap="cividis", vmin=0, vmax=100,
                           edgecolors=ABSENT, linewidth=0.5)  # fmt: skip
    for at, row in enumerate(filled):
        for column, value in enumerate(row):
            known = not np.isnan(value)
            ink = ABSENT if not known else DARK if value > 55 else LIGHT
            axes.text(
                column + 0.5, at + 0.5, f"{value:.0f}" if known else "–", ha="center", va="center",
                color=ink, weight="bold" if at == worst else "normal",
            )  # fmt: skip
            if (at, column) in framed:
                left, right, top, bottom = column + 0.06, column + 0.94, at + 0.1, at + 0.9
                axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top],
                          color=ink, linewidth=0.9, linestyle=(0, (3, 2)))  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=35, ha="right")
    names = axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    if worst is not None:
        names[worst].label1.set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_ylabel("crafted on")
    axes.set_xlabel("judged on")
    canvas.colorbar(mesh, ax=axes, label="ASR, %")


def draw_places(
    canvas: Canvas,
    shares: NDArray[np.float64],
    *,
    places: tuple[Labels, Labels],
    patch_px: tuple[int, int],
    image: Pixels | None,
    image_px: tuple[int, int],
) -> None:
    """Success rates ``(R, C)`` at the centres of the patch, over an example image.

    ``places``: tops ``(R,)`` and lefts ``(C,)`` of the patch, ascending.
    """
    axes = canvas.add_subplot()
    height, width = image_px
    if image is not None:
        axes.imshow(image.transpose(1, 2, 0), extent=(0, width, height, 0), interpolation="nearest")
    edges = [
        _edges(np.asarray(tops + size / 2, np.float64))
        for tops, size in zip(places, patch_px, strict=True)
    ]
    mesh = axes.pcolormesh(edges[1], edges[0], 100 * shares, cmap="inferno", vmin=0,
                           vmax=max(1.0, float(100 * shares.max())),
                           alpha=0.6 if image is not None else 1.0)  # fmt: skip
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.set_xlabel("column of the patch centre, px")
    axes.set_ylabel("row of the patch centre, px")
    canvas.colorbar(mesh, ax=axes, label="ASR at this place, %")


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders of cells around ascending centres, halfway between them."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = (centres[1:] + centres[:-1]) / 2
    ends = centres[0] - (inner[0] - centres[0]), centres[-1] + (centres[-1] - inner[-1])
    return np.concatenate([[ends[0]], inner, [ends[1]]])
