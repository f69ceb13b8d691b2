"""The light a patch is seen in: contrast and brightness, in integers.

This project's definition. With the contrast ``f`` and the brightness ``o`` both rounded to 256ths,
a byte ``p`` of the patch is shown as ``clip((f*p + o + 128) >> 8, 0, 255)``: multiplied, shifted,
halves rounded up. Contrast multiplies about black, as the light on a print does, and as Thys et
al. (arXiv 1904.08653) do. It acts on the patch before it is pasted, so the image is untouched.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..types import Pixels, Placements

FRACTION_BITS = 8
ONE = 1 << FRACTION_BITS
BRIGHTEST = 255

_LARGEST = 1 << 12
"""Of a contrast: bytes times 256 times this stay far within 32 bits."""


def settings(places: Placements) -> NDArray[np.int32]:
    """``(N, 2) int32``: contrast and brightness of each image in 256ths."""
    count = len(places.top)
    contrast = np.ones(count) if places.contrast is None else places.contrast
    brightness = np.zeros(count) if places.brightness is None else places.brightness
    assert (np.abs(contrast) < _LARGEST).all(), "contrast leaves the range"
    assert (np.abs(brightness) < _LARGEST).all(), "brightness leaves the range"
    found: NDArray[np.int32] = np.rint(ONE * np.stack([contrast, brightness], 1)).astype(np.int32)
    return found


def is_plain(places: Placements) -> bool:
    """Whether every patch is shown as it is stored."""
    return places.contrast is None and places.brightness is None


def without(places: Placements) -> Placements:
    """The same places, the patch shown as it is stored."""
    further = tuple(without(one) for one in places.more)
    return replace(places, contrast=None, brightness=None, more=further)


def lit(pixels: Pixels, places: Placements) -> Pixels:
    """The patch as each image shows it, ``(N, 3, h, w) uint8``.

    ``pixels`` is ``(3, h, w)``, one patch for all, or ``(N, 3, h, w)``.
    """
    factor, offset = settings(places).T[:, :, None, None, None]
    shown = factor * (pixels if pixels.ndim == 4 else pixels[None])
    shown += offset + ONE // 2
    shown >>= FRACTION_BITS  # an arithmetic shift rounds down, of negative numbers too
    found: Pixels = np.clip(shown, 0, BRIGHTEST, out=shown).astype(np.uint8)
    return found
