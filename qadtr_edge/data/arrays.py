"""A data set in one ``.npz`` file.

``images`` is ``(N, H, W, 3) uint8`` and ``labels`` ``(N,)`` integers; optional are
``class_names`` (K texts) and ``split`` (N texts: train, calibration, craft, val or test). Ids are
positions in the file. ``shares`` says how data without splits is cut. Images are never flipped in
training: nothing says that a mirrored one keeps its class.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..streams import uniform
from .dataset import Dataset, require_images, require_size
from .shares import PARTS, assign

_REMEDY = (
    "Save it with numpy.savez(file, images=..., labels=...): images (N, H, W, 3) uint8 and "
    "labels (N,) integers from 0."
)


def load(path: Path, split: str, *, limit: int | None, image_size: int | None) -> Dataset:
    """One split of the file. Raises ``BadInput`` when an array is missing or of a wrong shape."""
    arrays = _read(path)
    images, labels = _pixels(path, arrays), _labels(path, arrays)
    if len(images) != len(labels):
        raise BadInput(f"{path} has {len(images)} images and {len(labels)} labels.", _REMEDY)
    if image_size is not None and images.shape[1:3] != (image_size, image_size):
        require_size(path.name, size_px=images.shape[2], image_size=image_size)
        raise BadInput(f"The images of {path} are {images.shape[1:3]} pixels, not square.", _REMEDY)
    names = _class_names(path, arrays, labels=labels)
    ids = np.arange(len(labels), dtype=np.int64)
    draws = uniform(0, "npz/split", indices=ids, draws=1)[:, 0]
    splits = assign(_parts(path, arrays, count=len(labels)), draws)
    order = np.argsort(draws, kind="stable")
    chosen = order[splits[order] == split][:limit]
    require_images(str(path), split, count=len(chosen), remedy="Put more images into the file.")
    pixels = np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2))
    return Dataset(path.name, split, pixels, labels[chosen], ids[chosen], names, flip_allowed=False)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path} cannot be read as an .npz file: {error}.", _REMEDY) from error


def _array(path: Path, arrays: dict[str, NDArray[np.generic]], *, name: str) -> NDArray[np.generic]:
    if name not in arrays:
        listed = ", ".join(arrays) or "none"
        raise BadInput(f"{path} has no array {name!r}; its arrays: {listed}.", _REMEDY)
    return arrays[name]


def _pixels(path: Path, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    images = _array(path, arrays, name="images")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise BadInput(f"The images of {path} are {images.dtype} {images.shape}.", _REMEDY)
    return images.astype(np.uint8, copy=False)


def _labels(path: Path, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.int64]:
    labels = _array(path, arrays, name="labels")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise BadInput(f"The labels of {path} are {labels.dtype} {labels.shape}.", _REMEDY)
    numbers = labels.astype(np.int64)
    if (numbers < 0).any():
        raise BadInput(f"{path} has the label {numbers.min()}.", "Number the classes from 0.")
    return numbers


def _class_names(
    path: Path, arrays: dict[str, NDArray[np.generic]], *, labels: NDArray[np.int64]
) -> tuple[str, ...]:
    highest = int(labels.max(initial=-1))
    if "class_names" not in arrays:
        return tuple(str(number) for number in range(highest + 1))
    names = tuple(str(name) for name in arrays["class_names"].reshape(-1).tolist())
    if highest >= len(names):
        raise BadInput(
            f"{path} has the label {highest} but {len(names)} class names.",
            "Number the classes from 0 and name every one.",
        )
    return names


def _parts(path: Path, arrays: dict[str, NDArray[np.generic]], *, count: int) -> list[str]:
    if "split" not in arrays:
        return [""] * count
    parts = [str(part) for part in arrays["split"].reshape(-1).tolist()]
    for part in parts:
        if part not in PARTS:
            raise BadInput(f"{path} has the split {part!r}.", f"Known: {', '.join(PARTS)}.")
    if len(parts) != count:
        raise BadInput(f"{path} has {count} images and {len(parts)} splits.", _REMEDY)
    return parts
