"""Whether patches have room where they must lie: said before any is drawn."""

from __future__ import annotations

from ..errors import BadInput
from . import region
from .copies import LARGEST_SHARE


def check_copies(copies: int, box_px: float, *, room_px: int) -> None:
    """Raises ``BadInput`` for so many copies that they would hardly find places apart.

    ``box_px``: area of the box around the largest one; ``room_px``: of where they may lie.
    """
    if copies > 1 and copies * box_px > LARGEST_SHARE * room_px:
        most = int(LARGEST_SHARE * room_px / box_px)
        raise BadInput(
            f"{copies} copies of the patch have no room beside each other.",
            f"Give at most {most}, or a smaller --patch-size."
            if most > 1
            else "Give a smaller --patch-size, or one patch.",
        )


def check_region(within: str, patch_px: tuple[int, int], *, image_px: tuple[int, int]) -> int:
    """The pixels of a region of places. Raises ``BadInput`` when no patch fits on it."""
    white = region.pixels(within)
    if white.shape != image_px:
        raise BadInput(
            f"The mask of the places has {white.shape[0]}x{white.shape[1]} pixels and the images "
            f"have {image_px[0]}x{image_px[1]}.",
            "Draw it at the size the model is given images at.",
        )
    if not len(region.corners(within, patch_px)):
        raise BadInput(
            f"A {patch_px[0]}x{patch_px[1]} patch fits nowhere on the white of the mask of places.",
            "Give a smaller --patch-size, or paint more of the mask white.",
        )
    return int(white.sum())
