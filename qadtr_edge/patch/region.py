"""Some of the pixels of a rectangle, as a black and white picture: white ones are meant.

As text, and in the digests of what is made of it, a region is its rows, its columns and its pixels
in hexadecimal, one bit each: ``4x2:e7``. No file is needed to read that again.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, MissingDependency

Region = NDArray[np.bool_]

_TEXT = re.compile(r"([1-9]\d*)x([1-9]\d*):([0-9a-f]+)")


def read(path: Path) -> str:
    """The region of a picture, as text. Raises ``BadInput`` unless it is black and white."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("pillow", "train", purpose="Reading a mask") from error
    try:
        with Image.open(path) as picture:
            colours = np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise BadInput(
            f"There is no picture {path}.", "Give a PNG in black and white: white is meant."
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} cannot be read as a picture.", "Save it again as a PNG.") from error
    white, black = (colours == 255).all(axis=2), (colours == 0).all(axis=2)
    if not (white | black).all():
        raise BadInput(
            f"{path} has pixels that are neither black nor white.",
            "Make every pixel wholly white, which is meant, or wholly black, which is not.",
        )
    if not white.any():
        raise BadInput(f"{path} is black all over.", "Paint what is meant in white.")
    return text_of(white)


def text_of(region: Region) -> str:
    """``region (h, w) bool`` as text."""
    return f"{region.shape[0]}x{region.shape[1]}:{np.packbits(region).tobytes().hex()}"


def is_text(text: str) -> bool:
    """Whether ``text`` is a region, and not the path of a picture."""
    return _TEXT.fullmatch(text) is not None


def pixels(text: str) -> Region:
    """``(h, w) bool`` of a text of ``text_of``."""
    found = _TEXT.fullmatch(text)
    assert found is not None, "no region"
    shape = int(found[1]), int(found[2])
    held = np.frombuffer(bytes.fromhex(found[3]), np.uint8)
    return np.unpackbits(held, count=shape[0] * shape[1]).astype(bool).reshape(shape)


def digest(text: str) -> str:
    """Eight hexadecimal digits that stand for a region."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache(maxsize=8)
def corners(text: str, patch_px: tuple[int, int]) -> NDArray[np.int64]:
    """First rows and columns ``(M, 2)`` at which a rectangle of ``patch_px`` lies in the region."""
    region = pixels(text)
    if patch_px[0] > region.shape[0] or patch_px[1] > region.shape[1]:
        return np.empty((0, 2), np.int64)
    count = np.zeros((region.shape[0] + 1, region.shape[1] + 1), np.int64)
    count[1:, 1:] = region.cumsum(axis=0).cumsum(axis=1)
    rows, columns = patch_px
    inside = count[rows:, columns:] - count[:-rows, columns:] - count[rows:, :-columns]
    inside += count[:-rows, :-columns]
    found = np.argwhere(inside == rows * columns).astype(np.int64)
    found.setflags(write=False)
    return found
