"""Image files as pixels. Pillow is needed here and nowhere else among the data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, MissingDependency
from ..types import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")

_MARGIN_FROM_PX = 96


def decoded(path: Path) -> NDArray[np.uint8]:
    """RGB pixels of a file, ``(H, W, 3) uint8``. Raises ``BadInput`` when it is unreadable."""
    return np.asarray(_opened(path), dtype=np.uint8)


def read_pictures(paths: Sequence[Path], *, image_size: int | None) -> Pixels:
    """Images ``(N, 3, S, S) uint8`` of N files.

    With ``image_size`` S: a picture that is S x S is taken as it is; any other is scaled
    (bilinear, antialiased) and its centre is cut out. From 96 pixels up the shorter side becomes
    S / 0.875, the usual margin of ImageNet evaluation; below, it becomes S. Without ``image_size``
    all pictures must have one size, and keep it; they need not be square.

    Raises ``BadInput`` naming the file that is unreadable or has another size.
    """
    images: Pixels | None = None
    for number, path in enumerate(paths):
        picture = _opened(path)
        if image_size is not None:
            picture = _fitted(picture, image_size)
        pixels = np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
        if images is None:
            images = np.empty((len(paths), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise BadInput(
                f"{path} is {picture.width} x {picture.height} pixels, but {paths[0]} is "
                f"{images.shape[3]} x {images.shape[2]}.",
                "Name the size of the images (image_size), and all are scaled and cropped to it.",
            )
        images[number] = pixels
    return np.empty((0, 3, 0, 0), np.uint8) if images is None else images


def _opened(path: Path) -> Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("pillow", "train", purpose="Reading image files") from error
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except FileNotFoundError as error:
        raise BadInput(f"There is no image {path}.", "Correct the list or add the file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"The image {path} cannot be read: {error}.", "Repair, replace or remove the file."
        ) from error


def _fitted(picture: Image, size: int) -> Image:
    from PIL import Image

    if picture.size == (size, size):
        return picture
    shorter = round(size / 0.875) if size >= _MARGIN_FROM_PX else size
    # Longer side cut down, crop corner rounded: as torchvision's Resize and CenterCrop do.
    width, height = (shorter * side // min(picture.size) for side in picture.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))
