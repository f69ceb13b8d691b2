"""Where a patch lands: a pure function of (seed, image id, policy), the same for every engine.

"Fully inside" means: the smallest upright box around the rotated, scaled patch lies within the
image, so no pixel of the patch is ever cut off; perspective moves its corners inwards only.
Unrotated patches take whole-pixel positions, all equally likely, first and last row and column
included. Rotated ones take real-valued positions, uniform over all that keep the box inside, so the
first and last row and column are painted too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import streams
from ..errors import BadInput, UnknownName
from ..types import Placements
from . import region, room
from .copies import apart

LARGE_IMAGE_PX = 96
"""Images with a shorter side than this are treated like CIFAR, others like ImageNet."""

FLAT_DRAWS, DRAWS = 4, 14
"""Of an image: rotation, scale and place; with them four corners, contrast and brightness."""

WITHIN = "within:"
_COPIES = re.compile(r"([^*]+)\*([2-9]|[1-9]\d+)")

LATER = ("tilt", "contrast", "brightness", "within", "copies")
"""What a policy says since keys of rows were first stored; at rest, keys leave it out."""


@dataclass(frozen=True, repr=False)
class Policy:
    """How places are drawn. Rotation is uniform in ±``degrees``, scale in [low, high].

    ``corner``: top and left of the one place of a fixed policy; ``centred``: the middle. ``tilt``:
    each corner of the patch stands further in by a share of its sides, uniform from 0 to this.
    ``contrast`` is uniform in [low, high], the brightness in ±``brightness`` bytes. ``within``: the
    region, as text, that the patch's rectangle must lie in; it stands upright then. ``copies``: how
    many times the patch is pasted on an image, none touching another.
    """

    name: str
    degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    corner: tuple[int, int] | None = None
    centred: bool = False
    tilt: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    within: str | None = None
    copies: int = 1

    def __repr__(self) -> str:
        """All it says; keys of rows are made of this, so what is ``LATER`` only where it acts."""
        said = {item.name: getattr(self, item.name) for item in fields(self)
                if item.name not in LATER or getattr(self, item.name) != item.default}  # fmt: skip
        return f"Policy({', '.join(f'{name}={value!r}' for name, value in said.items())})"

    @property
    def is_upright(self) -> bool:
        """Whether it neither rotates nor scales nor tilts, so that places are whole pixels."""
        return not self.degrees and self.scale == (1.0, 1.0) and not self.tilt

    @property
    def is_lit(self) -> bool:
        """Whether the light on the patch varies."""
        return self.contrast != (1.0, 1.0) or self.brightness != 0.0


NAMES = ("random", "plain", "physical", "centre", "fixed:TOP,LEFT", "within:MASK.png", "random*2")


def policy(name: str, *, image_px: int) -> Policy:
    """The policy called ``name`` for images whose shorter side is ``image_px``.

    - ``random``: uniform place, rotation ±15° (±22.5° from 96 px on), scale 0.9 to 1.1. The range
      for large images is that of the public PatchAttack code; the small one is this project's.
    - ``plain``: uniform place, no rotation, scale 1.
    - ``physical``: as ``random``, and what a print meets besides: perspective, every corner up to
      an eighth of a side further in (half of what torchvision's ``RandomPerspective`` does unasked;
      ART's patch attack draws corners alike); contrast 0.8 to 1.2 and brightness ±10 % of white,
      the ranges of Thys et al. (arXiv 1904.08653).
    - ``centre``: the middle. ``fixed:TOP,LEFT``: that corner. Neither rotates.
    - ``within:MASK.png``: as ``plain``, the patch's rectangle wholly on white pixels of a black and
      white picture as large as the images; a region of ``region.py`` may stand for the picture, and
      its digest is what rows are named by.
    - Any of these with several places and ``*N`` behind it: N copies, each placed by itself, none
      touching another.

    Raises ``UnknownName`` for any other name, ``BadInput`` for a picture that is no mask.
    """
    if match := _COPIES.fullmatch(name):
        one = policy(match[1], image_px=image_px)
        if one.corner is not None or one.centred:
            raise BadInput(
                f"{match[1]} is one place, and {name} asks for {match[2]}.",
                "Give random*N, plain*N, physical*N or within:MASK.png*N.",
            )
        return replace(one, name=spoken(resolved(name)), copies=int(match[2]))
    degrees = 15.0 if image_px < LARGE_IMAGE_PX else 22.5
    if name == "random":
        return Policy(name, degrees=degrees, scale=(0.9, 1.1))
    if name == "physical":
        return Policy(
            name, degrees=degrees, scale=(0.9, 1.1),
            tilt=0.125, contrast=(0.8, 1.2), brightness=25.5,
        )  # fmt: skip
    if name == "plain":
        return Policy(name)
    if name == "centre":
        return Policy(name, centred=True)
    if match := re.fullmatch(r"fixed:(\d+),(\d+)", name):
        return Policy(name, corner=(int(match[1]), int(match[2])))
    if name.startswith(WITHIN):
        within = resolved(name)
        return Policy(spoken(within), within=within.removeprefix(WITHIN))
    raise UnknownName("placement", name, NAMES)


def resolved(name: str) -> str:
    """The name of a policy with its picture read: what can be kept, and needs no file any more."""
    where, behind = _parts(name)
    if where is None or region.is_text(where):
        return name
    return WITHIN + region.read(Path(where)) + behind


def spoken(name: str) -> str:
    """What rows call the places of a resolved name: its region by its digest."""
    where, behind = _parts(name)
    return name if where is None else WITHIN + region.digest(where) + behind


def _parts(name: str) -> tuple[str | None, str]:
    """Of ``within:REGION*N`` the region and ``*N``, either of which may not be there."""
    match = _COPIES.fullmatch(name)
    one, behind = (match[1], f"*{match[2]}") if match else (name, "")
    return (one.removeprefix(WITHIN) if one.startswith(WITHIN) else None), behind


def place(
    how: Policy,
    ids: NDArray[np.int64],
    *,
    seed: int,
    patch_px: tuple[int, int],
    image_px: tuple[int, int],
    draw: int = 0,
) -> Placements:
    """One place on each image of ``ids``; row i depends on (seed, ``ids[i]``, policy, draw) alone.

    ``patch_px`` and ``image_px`` are rows and columns. ``draw`` counts repeated tries: each is an
    independent set of places. Of several copies the later ones stand in ``more``. Raises
    ``BadInput`` when the patch does not fit.
    """
    check_fit(how, patch_px, image_px=image_px)
    stream = f"placement:{how.name}:{draw}"

    def single(on: NDArray[np.int64], name: str) -> Placements:
        return _single(how, on, seed=seed, name=name, patch_px=patch_px, image_px=image_px)

    if how.copies == 1:
        return single(ids, stream)
    return apart(
        lambda on, name: single(on, f"{stream}:{name}"), partial(_boxes, patch_px=patch_px),
        ids=ids, copies=how.copies,
    )  # fmt: skip


def _single(
    how: Policy,
    ids: NDArray[np.int64],
    *,
    seed: int,
    name: str,
    patch_px: tuple[int, int],
    image_px: tuple[int, int],
) -> Placements:
    """One place on each image, by the stream ``name``."""
    draws = DRAWS if how.tilt or how.is_lit else FLAT_DRAWS
    chance = streams.uniform(seed, name, indices=ids, draws=draws)
    degrees = how.degrees * (2.0 * chance[:, 0] - 1.0)
    scale = how.scale[0] + (how.scale[1] - how.scale[0]) * chance[:, 1]
    height, width = (scale * side for side in patch_px)
    box_height, box_width = box(height, width, degrees=degrees)
    if how.corner is not None:
        top, left = (np.full(len(ids), float(side)) for side in how.corner)
    elif how.centred:
        top, left = (
            np.full(len(ids), float((outer - inner) // 2))
            for outer, inner in zip(image_px, patch_px, strict=True)
        )
    elif how.within is not None:
        allowed = region.corners(how.within, patch_px)
        top, left = allowed[(chance[:, 2] * len(allowed)).astype(np.int64)].T.astype(np.float64)
    elif how.is_upright:
        top, left = (
            np.floor(chance[:, 2 + axis] * (image_px[axis] - patch_px[axis] + 1)) for axis in (0, 1)
        )
    else:
        top = chance[:, 2] * (image_px[0] - box_height) + (box_height - height) / 2
        left = chance[:, 3] * (image_px[1] - box_width) + (box_width - width) / 2
    found = Placements(top=top, left=left, degrees=degrees, scale=scale)
    if how.tilt:
        found = replace(found, corners=how.tilt * chance[:, 4:12].reshape(-1, 4, 2))
    if how.is_lit:
        low, high = how.contrast
        found = replace(
            found,
            contrast=low + (high - low) * chance[:, 12],
            brightness=how.brightness * (2.0 * chance[:, 13] - 1.0),
        )
    return found


def _boxes(places: Placements, *, patch_px: tuple[int, int]) -> NDArray[np.float64]:
    """First row, first column, end row and end column of each patch's upright box, ``(N, 4)``."""
    sides = [places.scale * side for side in patch_px]
    half = np.stack(box(sides[0], sides[1], degrees=places.degrees), axis=1) / 2
    middle = np.stack([places.top + sides[0] / 2, places.left + sides[1] / 2], axis=1)
    return np.concatenate([middle - half, middle + half], axis=1)


def box(
    height: NDArray[np.float64], width: NDArray[np.float64], *, degrees: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height and width of the upright box around a ``height`` by ``width`` rectangle, rotated."""
    cosine, sine = np.abs(np.cos(np.radians(degrees))), np.abs(np.sin(np.radians(degrees)))
    return height * cosine + width * sine, height * sine + width * cosine


def check_fit(how: Policy, patch_px: tuple[int, int], *, image_px: tuple[int, int]) -> None:
    """Raises ``BadInput`` when the patch does not fit; the largest draw decides, not the seed."""
    spoken = f"A {patch_px[0]}x{patch_px[1]} patch"
    field = f"a {image_px[0]}x{image_px[1]} image"
    if patch_px[0] > image_px[0] or patch_px[1] > image_px[1]:
        raise BadInput(
            f"{spoken} is larger than {field}.",
            f"Give a smaller one, of {min(image_px) // 4} pixels: --patch-size, in training --set.",
        )
    if how.corner is not None:
        if any(at + px > side for at, px, side in zip(how.corner, patch_px, image_px, strict=True)):
            last = (image_px[0] - patch_px[0], image_px[1] - patch_px[1])
            raise BadInput(
                f"{spoken} at row {how.corner[0]}, column {how.corner[1]} sticks out of {field}.",
                f"The last corner that fits is --placement fixed:{last[0]},{last[1]}.",
            )
        return
    if how.within is not None:
        white_px = room.check_region(how.within, patch_px, image_px=image_px)
        room.check_copies(how.copies, patch_px[0] * patch_px[1], room_px=white_px)
        return
    largest = np.array([how.scale[1]])
    # The box grows with the angle up to 45 degrees for a square; a grid is exact enough for others.
    angles = np.linspace(0.0, how.degrees, 91)
    high, wide = box(largest * patch_px[0], largest * patch_px[1], degrees=angles)
    if high.max() > image_px[0] or wide.max() > image_px[1]:
        raise BadInput(
            f"{spoken}, rotated and scaled by the policy {how.name!r}, does not fit in {field}.",
            "Give a smaller --patch-size, or --placement plain, which does not rotate.",
        )
    box_px = float((high * wide).max())
    room.check_copies(how.copies, box_px, room_px=image_px[0] * image_px[1])
