"""``verify --patch``: which products leave int16 on x86 CPUs without VNNI, clean and patched.

A count on the integer graph, with nothing emulated: a patch drives activations to their ends, so a
layer that is quiet on clean images need not be so under attack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from .. import console, registry
from ..runs import width_name
from ..types import Json, Pixels
from .artefact import Shown

if TYPE_CHECKING:
    from ..integer.graph import IntegerGraph

IMAGES = 100
"""As many clean ones and as many with the patch, unless told otherwise."""

Overflows = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One width. ``clean``, ``patched``: overflowing pairs and all pairs of each layer at risk."""

    bits: int
    images: int
    patch: str
    clean: Overflows
    patched: Overflows

    def as_json(self) -> dict[str, Json]:
        return {
            "images": self.images, "patch": self.patch,
            "layers": [
                {"layer": name, "pairs": pairs, "clean": over, "patched": self.patched[name][0]}
                for name, (over, pairs) in self.clean.items()
            ],
        }  # fmt: skip


def patched(images: Pixels, file: Path, *, seed: int) -> Pixels:
    """``images (N, 3, H, W)`` with the patch of ``file`` at random places.

    Raises ``BadInput`` for a file that holds no patch, and for one that does not fit the images.
    """
    from ..patch import bank
    from ..patch.paste import paste
    from ..patch.placement import place, policy

    patch = bank.load(file)
    height, width = images.shape[2:]
    places = place(
        policy("random", image_px=width), np.arange(len(images)), seed=seed,
        patch_px=patch.mask.shape, image_px=(height, width),
    )  # fmt: skip
    return paste(images, patch.pixels, mask=patch.mask, placements=places)


def count(graph: IntegerGraph, images: Pixels, *, patch: Path, seed: int) -> Row:
    """The row of ``graph`` on clean ``images``, and on the same with the ``patch`` of a file."""
    overflows = cast(Callable[..., Overflows], registry.resolve("saturation", "avx2"))
    shown = patched(images, patch, seed=seed)
    return Row(
        graph.spec.bits, len(images), patch.name, overflows(graph, images), overflows(graph, shown)
    )


def of_file(shown: Shown, *, patch: Path, seed: int) -> Row:
    """The row of the integer graph that a file becomes, on images of its data set.

    Raises ``Unsupported`` for a file that cannot be read, with the nodes that are in the way.
    """
    graph = shown.graph()
    depth, rows, columns = graph.tensors[graph.input].shape
    form = _Form((depth, rows, columns), graph.classes)
    images = shown.load(form, "test", limit=shown.limit or IMAGES).images
    return count(graph, images, patch=patch, seed=seed)


@dataclass(frozen=True)
class _Form:
    """What is known of a file by its graph."""

    image: tuple[int, int, int]
    classes: int


def show(rows: Sequence[Row]) -> None:
    """One line a layer at risk; widths without one are told in words."""
    title = f"x86 without VNNI: {rows[0].images} images, clean and with {rows[0].patch}"
    table = [
        [width_name(row.bits), name, f"{pairs:,}", f"{over:,}", f"{row.patched[name][0]:,}"]
        for row in rows
        for name, (over, pairs) in row.clean.items()
    ]
    if table:
        console.print_table(
            ["values", "layer", "pairs of products", "beyond int16, clean", "with the patch"],
            table, title=title,
        )  # fmt: skip
    for row in rows:
        if not row.clean:
            console.say(f"{width_name(row.bits)}: no two products can leave int16, on any image.")
