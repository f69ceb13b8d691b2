"""The shape of a patch: which pixels of its rectangle are pasted. This project's definitions."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from . import region

RECTANGLE, CIRCLE, FRAME, MASK = "rectangle", "circle", "frame:", "mask:"


def mask_of(shape: str, patch_px: tuple[int, int]) -> NDArray[np.bool_]:
    """``(h, w) bool``, what is pasted of a patch of ``patch_px``.

    - ``rectangle``: all of it; ``circle``: the pixels whose centre lies in its ellipse;
    - ``frame:T``: the outer ``T`` rows and columns on every side;
    - ``mask:R``: the region ``R`` of ``region.py``, which has the rows and columns of the patch.
    """
    mask = np.ones(patch_px, bool)
    if shape == CIRCLE:
        down, across = (2 * (np.arange(side) + 0.5) / side - 1 for side in patch_px)
        mask = np.add.outer(down**2, across**2) <= 1
    elif shape.startswith(MASK):
        mask = region.pixels(shape.removeprefix(MASK))
    elif match := re.fullmatch(rf"{FRAME}([1-9]\d*)", shape):
        thickness = int(match[1])
        mask[thickness:-thickness, thickness:-thickness] = False
    else:
        assert shape == RECTANGLE, f"no shape: {shape}"
    assert mask.shape == patch_px
    assert mask.any(), "nothing of the patch is pasted"
    return mask
