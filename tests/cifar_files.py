"""Small CIFAR-10 files in every layout in which the real ones are passed around."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import numpy as np

from qadtr_edge.types import Labels, Pixels

PER_BATCH = 100
STEMS = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def pictures() -> dict[str, tuple[Pixels, Labels]]:
    """Images ``(100, 3, 32, 32)`` and labels of each of the six batches; no two images alike."""
    random = np.random.default_rng(7)
    return {
        stem: (
            random.integers(0, 256, (PER_BATCH, 3, 32, 32), dtype=np.uint8),
            random.integers(0, 10, PER_BATCH),
        )
        for stem in STEMS
    }


def binary_batch(images: Pixels, labels: Labels) -> bytes:
    """The official binary format: per image one label byte and 3072 pixel bytes."""
    records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(-1, 3072)], axis=1)
    return records.tobytes()


def python_batch(images: Pixels, labels: Labels) -> bytes:
    """The official python format, opcode for opcode as cPickle of Python 2 wrote it."""
    raw = images.tobytes()

    def text(value: str, slot: int) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode() + b"q" + bytes([slot])

    shape = b"K\x01" + b"M" + struct.pack("<H", len(labels)) + b"M" + struct.pack("<H", 3072)
    numbers = b"".join(b"K" + bytes([int(label)]) for label in labels)
    names = b"".join(text(f"x_{number}.png", 20) for number in range(len(labels)))
    return b"".join([
        b"\x80\x02}q\x01(",
        text("batch_label", 2), text("training batch 1 of 5", 3),
        text("labels", 4), b"]q\x05(", numbers, b"e",
        text("data", 6),
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(",
        shape[:2], shape[2:], b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(",
        b"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
        b"T", struct.pack("<i", len(raw)), raw, b"tb",
        text("filenames", 12), b"]q\x0d(", names, b"eu.",
    ])  # fmt: skip


def write_archive(path: Path, *, folder: str, members: dict[str, bytes]) -> Path:
    """A ``.tar.gz`` with the members in a folder, as the official ones are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def binary_members() -> dict[str, bytes]:
    return {f"{stem}.bin": binary_batch(*batch) for stem, batch in pictures().items()}


def python_members() -> dict[str, bytes]:
    return {stem: python_batch(*batch) for stem, batch in pictures().items()}


def write_sheets(folder: Path, *, absent: dict[str, list[int]]) -> Path:
    """One lossless picture per batch, 100 tiles to a row; ``absent`` positions are black, 255."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    labels: dict[str, list[Labels]] = {"train": [], "test": []}
    for stem, (images, numbers) in pictures().items():
        half = "test" if stem == "test_batch" else "train"
        labels[half].append(numbers)
        pixels = images.copy()
        start = PER_BATCH * (len(labels[half]) - 1)
        for position in absent.get(half, []):
            if start <= position < start + PER_BATCH:
                pixels[position - start] = 0
        sheet = pixels.transpose(2, 0, 3, 1).reshape(32, -1, 3)
        name = f"cifar10_{stem.replace('data', 'train')}.webp"
        Image.fromarray(sheet).save(folder / name, lossless=True)
    joined = {half: np.concatenate(parts).astype(np.uint8) for half, parts in labels.items()}
    for half, positions in absent.items():
        joined[half][positions] = 255
    np.savez(
        folder / "cifar10_labels.npz",
        **{f"{half}_labels": numbers for half, numbers in joined.items()},
    )
    return folder
