"""Where on the image a patch wins: heat maps of location sweeps, over an example image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..types import Json, Labels, Pixels, PlacedPatches
from .document import Document
from .heat import draw_places
from .pictures import Sources
from .rows import Row
from .section import Figure, Section, table
from .warnings import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MAPS = 6
"""Maps that are drawn; the table holds all."""


@dataclass(frozen=True, eq=False)
class Map:
    """Success rates ``(R, C)`` of a patch at tops ``(R,)`` and lefts ``(C,)``."""

    tops: Labels
    lefts: Labels
    shares: NDArray[np.float64]

    def place(self, flat: int) -> str:
        """One place of the map in words, with its rate."""
        row, column = divmod(flat, self.shares.shape[1])
        return (
            f"{100 * self.shares[row, column]:.1f} % at row {self.tops[row]}, "
            f"column {self.lefts[column]}"
        )


def places(document: Document, sources: Sources) -> Section:
    """One map for each sweep whose tally of every place was kept, strongest first."""
    swept = [row for row in document.rows if row.result.placement.startswith("sweep")]
    figures: list[Figure] = []
    lines, missing = [], []
    for row in swept:
        name = f"{title(row.result.engine, row.result.bits)} {row.result.attack}"
        patches = sources.patch(row.result)
        if not isinstance(patches, PlacedPatches):
            missing.append(f"{name}: its placed patches are not in the run folder.")
            continue
        found = read(patches.origin, eligible=row.result.counts.eligible)
        if found is None:
            missing.append(f"{name}: its file holds no tally of every place.")
            continue
        lines.append([
            name, row.size, str(found.shares.size), f"{100 * found.shares.mean():.1f} %",
            found.place(int(found.shares.argmax())), found.place(int(found.shares.argmin())),
        ])  # fmt: skip
        if len(figures) == MAPS:
            continue
        images = sources.images(row.result)
        if isinstance(images, str):
            missing.append(f"{name}: drawn without an example image. {images}")
        example = None if isinstance(images, str) else images.images[0]
        figures.append(_figure(f"places-{len(figures) + 1}", row, found=found, example=example))
    if not swept:
        missing.append("No location sweep was run: qadtr-edge attack --attack sweep.")
    return Section(
        name="places",
        title="Where a patch wins",
        said=(
            "Each place of a sweep, coloured by the share of eligible images fooled when the patch "
            "stands there; drawn over one of the images.",
        ) if figures else (),
        missing=tuple(dict.fromkeys(missing)),
        tables=(
            table("Places of the sweeps", ("sweep", "size px", "places", "mean", "best", "worst"),
                  rows=lines),
        ) if lines else (),
        figures=tuple(figures),
    )  # fmt: skip


def read(origin: Mapping[str, Json], *, eligible: int) -> Map | None:
    """The map in the origin of swept patches; ``None`` where it was not kept."""
    tally = origin.get("tally")
    fooled = tally.get("fooled_at") if isinstance(tally, dict) else None
    if fooled is None:
        return None
    tops, lefts = np.array(origin.get("rows")), np.array(origin.get("columns"))
    counts = np.array(fooled, np.float64)
    return (
        Map(tops, lefts, counts / eligible) if counts.shape == (*tops.shape, *lefts.shape) else None
    )


def _figure(name: str, row: Row, *, found: Map, example: Pixels | None) -> Figure:
    result = row.result
    patch_px = (result.patch_rows_px, result.patch_columns_px)
    ends = (int(found.tops[-1]) + patch_px[0], int(found.lefts[-1]) + patch_px[1])

    def draw(canvas: Canvas) -> None:
        draw_places(canvas, found.shares, places=(found.tops, found.lefts), patch_px=patch_px,
                    image=example, image_px=ends)  # fmt: skip

    return Figure(
        name,
        f"{title(result.engine, result.bits)}, {result.attack}: success by place",
        f"Best {found.place(int(found.shares.argmax()))}; worst "
        f"{found.place(int(found.shares.argmin()))}; mean {100 * found.shares.mean():.1f} %.",
        draw,
        (4.2, 3.2),
    )
