"""Finds CIFAR-10 on the disk and reads it, in any of the layouts in which it is passed around.

- ``cifar-10-binary.tar.gz`` and its folder ``cifar-10-batches-bin`` (official);
- ``cifar-10-python.tar.gz`` and its folder ``cifar-10-batches-py`` (official; read without
  unpickling, see ``batch_pickle``);
- sheets: ``cifar10_labels.npz`` and one lossless picture per batch whose tile (i // 100, i % 100)
  is image i; an image that is not there has the label 255.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import Labels, Pixels
from .batch_pickle import NotABatch, read_batch
from .pictures import decoded

Half = Literal["train", "test"]

BATCH = 10_000
ABSENT = 255
CLASSES = 10
SHEET_LABELS = "cifar10_labels.npz"
_RECORD = 1 + 3072
_REMEDY = "Get the official archive: `qadtr-edge data cifar10`."


@dataclass(frozen=True)
class Archive:
    """An official archive: its name, size and MD5 as published, and the folder inside it."""

    file: str
    folder: str
    size_bytes: int
    md5: str
    suffix: str


# https://www.cs.toronto.edu/~kriz/cifar.html lists names and MD5 sums.
BINARY = Archive(
    "cifar-10-binary.tar.gz", "cifar-10-batches-bin", 170_052_171,
    "c32a1d4ab5d03f1284b67883e8d87530", ".bin",
)  # fmt: skip
PYTHON = Archive(
    "cifar-10-python.tar.gz", "cifar-10-batches-py", 170_498_071,
    "c58f30108f718f92721af3b95e74349a", "",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Where CIFAR-10 is: an official archive, its extracted folder, or a folder of sheets."""

    layout: Literal["archive", "folder", "sheets"]
    path: Path
    official: Archive | None


def find(folder: Path) -> Found | None:
    """CIFAR-10 in ``folder`` or its sub-folder ``cifar10``; official files before sheets."""
    for place in (folder, folder / "cifar10"):
        for official in (BINARY, PYTHON):
            for extracted in (place / official.folder, place):
                if (extracted / f"test_batch{official.suffix}").is_file():
                    return Found("folder", extracted, official)
        for official in (BINARY, PYTHON):
            archive = place if place.name == official.file else place / official.file
            if archive.is_file():
                return Found("archive", archive, official)
        if (place / SHEET_LABELS).is_file():
            return Found("sheets", place, None)
    return None


def read(found: Found, half: Half) -> tuple[Pixels, Labels, NDArray[np.int64]]:
    """All images of a half of the official data, their labels, and their official positions.

    Raises ``BadInput`` naming the file that is missing, truncated or not what it should be.
    """
    if found.official is None:
        return _read_sheets(found.path, half)
    names = _batch_names(half, found.official.suffix)
    parts = (
        _from_archive(found.path, found.official, names=names)
        if found.layout == "archive"
        else _from_folder(found.path, names)
    )
    batches = [_batch(parts[name], found.path, name=name) for name in names]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return images, labels, np.arange(len(labels), dtype=np.int64)


def _batch_names(half: Half, suffix: str) -> tuple[str, ...]:
    stems = ("test_batch",) if half == "test" else tuple(f"data_batch_{n}" for n in range(1, 6))
    return tuple(f"{stem}{suffix}" for stem in stems)


def _from_folder(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    for name in names:
        if not (folder / name).is_file():
            raise BadInput(f"{folder} has no file {name}.", _REMEDY)
    return {name: (folder / name).read_bytes() for name in names}


def _from_archive(path: Path, official: Archive, *, names: tuple[str, ...]) -> dict[str, bytes]:
    """The wanted members, read in one pass to the end, so that every checksum is checked."""
    with _whole(path, official):
        parts: dict[str, bytes] = {}
        with gzip.open(path) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    if folder == official.folder and name in names and member.isfile():
                        content = archive.extractfile(member)
                        assert content is not None
                        parts[name] = content.read()
            while plain.read(1 << 20):
                pass
    for name in names:
        if name not in parts:
            raise BadInput(f"{path} has no member {official.folder}/{name}.", _REMEDY)
    return parts


@contextmanager
def _whole(path: Path, official: Archive) -> Iterator[None]:
    """Turns every sign of a damaged archive into what the user must know to replace it."""
    try:
        yield
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(
            f"{path} is truncated or damaged: it has {path.stat().st_size:,} bytes; the official "
            f"{official.file} has {official.size_bytes:,} and MD5 {official.md5}.",
            f"Delete it and get it again: `qadtr-edge data cifar10`. ({error})",
        ) from error


def _batch(content: bytes, path: Path, *, name: str) -> tuple[Pixels, Labels]:
    """Images and labels of one official batch, checked."""
    if name.endswith(BINARY.suffix):
        if len(content) != BATCH * _RECORD:
            raise BadInput(
                f"{name} in {path} is truncated or damaged: it has {len(content):,} bytes, "
                f"not {BATCH * _RECORD:,}.",
                _REMEDY,
            )
        records = np.frombuffer(content, np.uint8).reshape(BATCH, _RECORD)
        images, labels = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
    else:
        try:
            images, labels = read_batch(content)
        except NotABatch as error:
            raise BadInput(f"{name} in {path} is no CIFAR-10 batch: {error}.", _REMEDY) from error
        if len(labels) != BATCH:
            raise BadInput(f"{name} in {path} has {len(labels)} images, not {BATCH}.", _REMEDY)
    _check_labels(labels, f"{name} in {path}")
    return images, labels


def _check_labels(labels: Labels, where: str) -> None:
    if labels.size and not 0 <= labels.min() <= labels.max() < CLASSES:
        wrong = labels[(labels < 0) | (labels >= CLASSES)][0]
        raise BadInput(f"{where} has the label {wrong}; CIFAR-10 has 0 to 9.", _REMEDY)


def sheet_labels(folder: Path) -> dict[str, Labels]:
    """Labels of every official position by half, ``ABSENT`` where there is no image."""
    path = folder / SHEET_LABELS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            labels = {half: arrays[f"{half}_labels"].astype(np.int64) for half in ("train", "test")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path} cannot be read: {error}.", _REMEDY) from error
    for half, batches in (("train", 5), ("test", 1)):
        if labels[half].shape != (batches * BATCH,):
            raise BadInput(f"{path} has {half} labels of shape {labels[half].shape}.", _REMEDY)
        _check_labels(labels[half][labels[half] != ABSENT], str(path))
    return labels


def _read_sheets(folder: Path, half: Half) -> tuple[Pixels, Labels, NDArray[np.int64]]:
    labels = sheet_labels(folder)[half]
    sheets = []
    for stem in _batch_names(half, ""):
        path = folder / f"cifar10_{stem.replace('data', 'train')}.webp"
        if not path.is_file():
            raise BadInput(f"{folder} has no file {path.name}.", _REMEDY)
        pixels = decoded(path)
        rows, columns = BATCH // 100, 100
        if pixels.shape != (rows * 32, columns * 32, 3):
            raise BadInput(f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels.", _REMEDY)
        tiles = pixels.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3)
        sheets.append(tiles.reshape(-1, 3, 32, 32))
    present = np.flatnonzero(labels != ABSENT)
    return np.concatenate(sheets)[present], labels[present], present
