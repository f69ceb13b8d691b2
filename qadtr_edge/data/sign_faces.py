"""The faces of the traffic signs, as distance fields: plates, rims and pictograms.

A sign lives in a square of side ``2 * EXTENT`` with x to the right, y down and the plate reaching
about 1 from the centre. Three layers lie on each other: the plate in its rim colour, the face
inside the rim, the pictogram on the face. A layer is the distance to its edge, negative inside, so
that any pose can be drawn with smooth edges: coverage = clip(1/2 - distance in pixels, 0, 1).

Only sums, products, quotients and square roots are used, which IEEE 754 rounds the same on every
machine: the pixels drawn from these fields are the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Point = tuple[float, float]
Stroke = tuple[Point, ...]

EXTENT = 1.3
CELLS = 128
"""Cells along one side of a field: a cell is a fifth of a pixel for the largest sign drawn."""

_FAR = 9.0
_DIAGONAL = 2.0**0.5 / 2
_SLOPE = 3.0**0.5 / 2

# Unit normals of the edges of a convex plate and their common distance from the centre.
_PLATES: dict[str, tuple[tuple[Point, ...], float]] = {
    "octagon": (
        tuple((x, y) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)))
        + tuple((sx * _DIAGONAL, sy * _DIAGONAL) for sx in (-1, 1) for sy in (-1, 1)),
        0.95,
    ),
    "square": (((1, 0), (-1, 0), (0, 1), (0, -1)), 0.86),
    "diamond": (tuple((sx * _DIAGONAL, sy * _DIAGONAL) for sx in (-1, 1) for sy in (-1, 1)), 0.80),
    "triangle": (((0, 1), (_SLOPE, -0.5), (-_SLOPE, -0.5)), 0.60),
    "inverted": (((0, -1), (_SLOPE, 0.5), (-_SLOPE, 0.5)), 0.60),
}
_LIFT = {"triangle": 0.2, "inverted": -0.2}  # centres the bounding box, not the centroid

_BOX: Stroke = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
_LETTERS: dict[str, tuple[Stroke, ...]] = {
    "0": (_BOX,),
    "3": (((0, 0), (1, 0), (1, 1), (0, 1)), ((0.3, 0.5), (1, 0.5))),
    "5": (((1, 0), (0, 0), (0, 0.5), (1, 0.5), (1, 1), (0, 1)),),
    "8": (_BOX, ((0, 0.5), (1, 0.5))),
    "S": (((1, 0), (0, 0), (0, 0.5), (1, 0.5), (1, 1), (0, 1)),),
    "T": (((0, 0), (1, 0)), ((0.5, 0), (0.5, 1))),
    "O": (_BOX,),
    "P": (((0, 1), (0, 0), (1, 0), (1, 0.5), (0, 0.5)),),
}


def _word(text: str, *, left: float, top: float, width: float, height: float) -> tuple[Stroke, ...]:
    """Strokes of ``text``, each letter ``width`` wide, letters 0.6 widths apart."""
    strokes: list[Stroke] = []
    for place, letter in enumerate(text):
        x0 = left + place * 1.6 * width
        strokes += [
            tuple((x0 + x * width, top + y * height) for x, y in stroke)
            for stroke in _LETTERS[letter]
        ]
    return tuple(strokes)


def _number(text: str) -> tuple[Stroke, ...]:
    return _word(text, left=-0.47, top=-0.4, width=0.36, height=0.8)


_ARROW_RIGHT: tuple[Stroke, ...] = (
    ((-0.5, 0), (0.5, 0)),
    ((0.12, -0.38), (0.5, 0), (0.12, 0.38)),
)


@dataclass(frozen=True)
class Face:
    """One class: its plate, how wide the rim is, the pictogram, and the colour of each layer."""

    name: str
    plate: str
    rim: float
    strokes: tuple[Stroke, ...]
    stroke_width: float
    colours: tuple[str, str, str]


_BLUE = ("white", "blue", "white")
_WARNING = ("red", "white", "black")

FACES = (
    Face(
        "stop", "octagon", 0.10,
        _word("STOP", left=-0.696, top=-0.3, width=0.24, height=0.6), 0.13,
        ("white", "red", "white"),
    ),
    Face("yield", "inverted", 0.22, (), 0, ("red", "white", "white")),
    Face("no-entry", "circle", 0.08, (((-0.5, 0), (0.5, 0)),), 0.30, ("white", "red", "white")),
    Face("speed-30", "circle", 0.20, _number("30"), 0.16, _WARNING),
    Face("speed-50", "circle", 0.20, _number("50"), 0.16, _WARNING),
    Face("speed-80", "circle", 0.20, _number("80"), 0.16, _WARNING),
    Face(
        "turn-left", "circle", 0.08,
        tuple(tuple((-x, y) for x, y in stroke) for stroke in _ARROW_RIGHT), 0.20, _BLUE,
    ),
    Face("turn-right", "circle", 0.08, _ARROW_RIGHT, 0.20, _BLUE),
    Face("priority", "diamond", 0.22, (), 0, ("white", "yellow", "yellow")),
    Face(
        "caution", "triangle", 0.20,
        (((0, -0.28), (0, 0.2)), ((0, 0.46), (0, 0.48))), 0.17, _WARNING,
    ),
    Face(
        "crossroads", "triangle", 0.20,
        (((-0.25, -0.08), (0.25, 0.42)), ((0.25, -0.08), (-0.25, 0.42))), 0.15, _WARNING,
    ),
    Face(
        "parking", "square", 0.09,
        _word("P", left=-0.26, top=-0.5, width=0.52, height=1.0), 0.22, _BLUE,
    ),
)  # fmt: skip


def _segment(x: Plane, y: Plane, *, a: Point, b: Point) -> Plane:
    """Distance of every cell to the segment from ``a`` to ``b``."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.sqrt((x - a[0] - along * dx) ** 2 + (y - a[1] - along * dy) ** 2)


def _layers(face: Face) -> Plane:
    """Distances of plate, face and pictogram, ``(3, CELLS, CELLS)``."""
    steps = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * EXTENT
    y, x = np.meshgrid(steps, steps, indexing="ij")
    if face.plate == "circle":
        plate = np.sqrt(x * x + y * y) - 0.97
    else:
        normals, reach = _PLATES[face.plate]
        lifted = y - _LIFT.get(face.plate, 0.0)
        plate = np.max([nx * x + ny * lifted for nx, ny in normals], axis=0) - reach
    ink = np.full_like(plate, _FAR)
    for stroke in face.strokes:
        for a, b in pairwise(stroke):
            ink = np.minimum(ink, _segment(x, y, a=a, b=b) - face.stroke_width / 2)
    return np.stack([plate, plate + face.rim, ink])


@cache
def fields() -> NDArray[np.float32]:
    """Distance fields of all classes, ``(3, K * CELLS * CELLS) float32``, row-major per class."""
    layers = np.stack([_layers(face) for face in FACES], axis=1)
    return np.ascontiguousarray(layers.reshape(3, -1), dtype=np.float32)
