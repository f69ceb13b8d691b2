"""Where a patch lands: a pure function of (seed, image id, policy), the same for every engine.

"Fully inside" means: the smallest upright box around the rotated, scaled patch lies within the
image, so no pixel of the patch is ever cut off. Unrotated patches take whole-pixel positions, all
equally likely, first and last row and column included. Rotated ones take real-valued positions,
uniform over all that keep the box inside, so the first and last row and column are painted too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import streams
from ..errors import BadInput, UnknownName
from ..types import Placements

LARGE_IMAGE_PX = 96
"""Images with a shorter side than this are treated like CIFAR, others like ImageNet."""


@dataclass(frozen=True)
class Policy:
    """How places are drawn. Rotation is uniform in ±``degrees``, scale in [low, high].

    ``corner``: top and left of the one place of a fixed policy; ``centred``: the middle.
    """

    name: str
    degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    corner: tuple[int, int] | None = None
    centred: bool = False


NAMES = ("random", "plain", "centre", "fixed:TOP,LEFT")


def policy(name: str, *, image_px: int) -> Policy:
    """The policy called ``name`` for images whose shorter side is ``image_px``.

    - ``random``: uniform place, rotation ±15° (±22.5° from 96 px on), scale 0.9 to 1.1. The range
      for large images is that of the public PatchAttack code; the small one is this project's.
    - ``plain``: uniform place, no rotation, scale 1.
    - ``centre``: the middle. ``fixed:TOP,LEFT``: that corner. Neither rotates.

    Raises ``UnknownName`` for any other name.
    """
    if name == "random":
        return Policy(name, degrees=15.0 if image_px < LARGE_IMAGE_PX else 22.5, scale=(0.9, 1.1))
    if name == "plain":
        return Policy(name)
    if name == "centre":
        return Policy(name, centred=True)
    if match := re.fullmatch(r"fixed:(\d+),(\d+)", name):
        return Policy(name, corner=(int(match[1]), int(match[2])))
    raise UnknownName("placement", name, NAMES)


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
    independent set of places. Raises ``BadInput`` when the patch does not fit.
    """
    chance = streams.uniform(seed, f"placement:{how.name}:{draw}", indices=ids, draws=4)
    degrees = how.degrees * (2.0 * chance[:, 0] - 1.0)
    scale = how.scale[0] + (how.scale[1] - how.scale[0]) * chance[:, 1]
    height, width = (scale * side for side in patch_px)
    box_height, box_width = box(height, width, degrees=degrees)
    check_fit(how, patch_px, image_px=image_px)
    if how.corner is not None:
        top, left = (np.full(len(ids), float(side)) for side in how.corner)
    elif how.centred:
        top, left = (
            np.full(len(ids), float((outer - inner) // 2))
            for outer, inner in zip(image_px, patch_px, strict=True)
        )
    elif how.degrees == 0.0 and how.scale == (1.0, 1.0):
        top, left = (
            np.floor(chance[:, 2 + axis] * (image_px[axis] - patch_px[axis] + 1)) for axis in (0, 1)
        )
    else:
        top = chance[:, 2] * (image_px[0] - box_height) + (box_height - height) / 2
        left = chance[:, 3] * (image_px[1] - box_width) + (box_width - width) / 2
    return Placements(top=top, left=left, degrees=degrees, scale=scale)


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
    largest = np.array([how.scale[1]])
    # The box grows with the angle up to 45 degrees for a square; a grid is exact enough for others.
    angles = np.linspace(0.0, how.degrees, 91)
    high, wide = box(largest * patch_px[0], largest * patch_px[1], degrees=angles)
    if high.max() > image_px[0] or wide.max() > image_px[1]:
        raise BadInput(
            f"{spoken}, rotated and scaled by the policy {how.name!r}, does not fit in {field}.",
            "Give a smaller --patch-size, or --placement plain, which does not rotate.",
        )
