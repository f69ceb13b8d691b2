"""CIFAR-10 from every layout: the same images, the same splits, clear words about damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cifar_files import (
    PER_BATCH,
    binary_members,
    pictures,
    python_members,
    write_archive,
    write_sheets,
)
from qadtr_edge.data import SPLITS, Dataset, cifar10_files, load
from qadtr_edge.data.catalog import cifar10_holding
from qadtr_edge.data.cifar10 import FIRST_TEST_ID, obtain, split_positions
from qadtr_edge.data.cifar10_files import BINARY, PYTHON, find, read
from qadtr_edge.errors import BadInput

LAYOUTS = ("binary archive", "python archive", "binary folder", "python folder", "sheets")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "data_root" not in request.fixturenames:
        monkeypatch.setattr(cifar10_files, "BATCH", PER_BATCH)
        monkeypatch.delenv("QADTR_DATA", raising=False)


def lay_out(root: Path, layout: str) -> Path:
    """Writes the small CIFAR-10 under ``root`` and returns the file or folder it is in."""
    if layout == "sheets":
        return write_sheets(root / "cifar10", absent={})
    official = BINARY if layout.startswith("binary") else PYTHON
    members = binary_members() if official is BINARY else python_members()
    if layout.endswith("archive"):
        return write_archive(root / official.file, folder=official.folder, members=members)
    folder = root / official.folder
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    return folder


def official(half: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [
        batch for stem, batch in pictures().items() if (stem == "test_batch") == (half == "test")
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def check(part: Dataset) -> None:
    """Every image and label is the one its id names."""
    images, labels = official("test" if part.split == "test" else "train")
    positions = part.ids - (FIRST_TEST_ID if part.split == "test" else 0)
    np.testing.assert_array_equal(part.images, images[positions])
    np.testing.assert_array_equal(part.labels, labels[positions])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("direct", [False, True])
def test_every_layout_gives_the_same(tmp_path: Path, layout: str, direct: bool) -> None:
    """Found below the root, or named itself as the root."""
    place = lay_out(tmp_path, layout)
    parts = [load("cifar10", split, root=place if direct else tmp_path) for split in SPLITS]
    for part in parts:
        check(part)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == part.ids.dtype == np.int64
        assert part.flip_allowed
        assert len(part.class_names) == 10
    ids = np.concatenate([part.ids for part in parts])
    assert len(ids) == len(set(ids)) == 6 * PER_BATCH
    contents = {image.tobytes() for part in parts for image in part.images}
    assert len(contents) == 6 * PER_BATCH, "no image may be in two splits"


def test_the_environment_names_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, "sheets")
    monkeypatch.setenv("QADTR_DATA", str(tmp_path))
    check(load("cifar10", "test"))


def test_a_limit_is_a_prefix(tmp_path: Path) -> None:
    lay_out(tmp_path, "binary archive")
    whole, part = (load("cifar10", "train", root=tmp_path, limit=n) for n in (None, 17))
    assert len(part) == 17
    np.testing.assert_array_equal(part.ids, whole.ids[:17])
    np.testing.assert_array_equal(part.images, whole.images[:17])


def test_the_cut_is_fixed() -> None:
    """These positions are published: results name them."""
    assert split_positions("calibration")[:5].tolist() == [25766, 26947, 289, 12977, 43026]
    assert split_positions("craft")[:5].tolist() == [3657, 40185, 6745, 20086, 22710]
    assert split_positions("test")[:5].tolist() == [6277, 7024, 5167, 7682, 9087]
    sizes = {split: len(split_positions(split)) for split in SPLITS}
    assert sizes == {"train": 44_000, "calibration": 1_000, "craft": 5_000, "test": 10_000}
    train = np.concatenate([split_positions(split) for split in SPLITS if split != "test"])
    np.testing.assert_array_equal(np.sort(train), np.arange(50_000))


def test_absent_images_move_no_other(tmp_path: Path) -> None:
    absent = {"train": [3, 4, 250, 499], "test": [0, 99]}
    write_sheets(tmp_path / "some", absent=absent)
    write_sheets(tmp_path / "all", absent={})
    for split in SPLITS:
        some, whole = (load("cifar10", split, root=tmp_path / n) for n in ("some", "all"))
        gone = [i + FIRST_TEST_ID for i in absent["test"]] if split == "test" else absent["train"]
        np.testing.assert_array_equal(some.ids, whole.ids[~np.isin(whole.ids, gone)])
        check(some)


@pytest.mark.parametrize("official", [BINARY, PYTHON])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999, -4])
def test_a_truncated_archive_is_named(
    tmp_path: Path, official: cifar10_files.Archive, kept: float
) -> None:
    path = lay_out(tmp_path, "binary archive" if official is BINARY else "python archive")
    content = path.read_bytes()
    length = int(kept * len(content)) if 0 < kept < 1 else int(kept)
    path.write_bytes(content[:length])
    with pytest.raises(BadInput, match="truncated or damaged") as caught:
        load("cifar10", "test", root=tmp_path)
    for told in (str(path), f"{official.size_bytes:,}", official.md5):
        assert told in caught.value.fact
    assert "qadtr-edge data cifar10" in caught.value.remedy


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path: Path) -> None:
    path = lay_out(tmp_path, "binary archive")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="truncated or damaged"):
        load("cifar10", "test", root=tmp_path)


def test_missing_data_is_answered_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="CIFAR-10 is not in") as caught:
        load("cifar10", "test", root=tmp_path)
    assert "qadtr-edge data cifar10" in caught.value.remedy


@pytest.mark.parametrize(
    ("layout", "victim", "told"),
    [
        ("binary folder", "data_batch_3.bin", "no file data_batch_3.bin"),
        ("python folder", "data_batch_5", "no file data_batch_5"),
        ("sheets", "cifar10_train_batch_2.webp", "no file cifar10_train_batch_2.webp"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, layout: str, victim: str, told: str) -> None:
    (lay_out(tmp_path, layout) / victim).unlink()
    with pytest.raises(BadInput, match=told):
        load("cifar10", "train", root=tmp_path)


@pytest.mark.parametrize(
    ("layout", "victim"),
    [
        ("binary folder", "data_batch_3.bin"),
        ("python folder", "data_batch_5"),
        ("sheets", "cifar10_train_batch_2.webp"),
        ("sheets", "cifar10_labels.npz"),
    ],
)
def test_a_truncated_file_is_named(tmp_path: Path, layout: str, victim: str) -> None:
    path = lay_out(tmp_path, layout) / victim
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadInput) as caught:
        load("cifar10", "train", root=tmp_path)
    assert victim in caught.value.fact


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    members = binary_members()
    del members["data_batch_4.bin"]
    write_archive(tmp_path / BINARY.file, folder=BINARY.folder, members=members)
    with pytest.raises(BadInput, match=r"no member cifar-10-batches-bin/data_batch_4\.bin"):
        load("cifar10", "train", root=tmp_path)


@pytest.mark.parametrize("layout", ["binary folder", "python folder"])
def test_a_label_out_of_range_is_refused(tmp_path: Path, layout: str) -> None:
    folder = lay_out(tmp_path, layout)
    path = next(folder.glob("test_batch*"))
    content = bytearray(path.read_bytes())
    content[0 if layout == "binary folder" else content.index(b"]q\x05(K") + 5] = 11
    path.write_bytes(content)
    with pytest.raises(BadInput, match="label 11; CIFAR-10 has 0 to 9"):
        load("cifar10", "test", root=tmp_path)


def test_an_archive_that_is_not_the_official_one_is_told(tmp_path: Path) -> None:
    path = lay_out(tmp_path, "binary archive")
    with pytest.raises(BadInput, match="the official archive has") as caught:
        obtain(tmp_path, progress=lambda count: None)
    assert str(path) in caught.value.fact
    assert BINARY.md5 in caught.value.fact


@pytest.mark.needs("real_data")
def test_the_real_images_are_all_there(data_root: Path) -> None:
    found = find(data_root)
    if found is None or found.layout != "sheets":
        pytest.skip(f"{data_root} has no CIFAR-10 sheets")
    images, labels, positions = read(found, "train")
    assert len(images) == len(labels) == len(positions) == 49_927
    assert cifar10_holding(data_root).sizes["test"] == 7_980


@pytest.mark.needs("real_data")
def test_a_sheet_is_cut_as_its_description_says(data_root: Path) -> None:
    sheet = data_root / "cifar10" / "cifar10_test_batch.webp"
    if not sheet.is_file():
        pytest.skip(f"there is no {sheet}")
    from PIL import Image

    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    test = load("cifar10", "test", root=data_root, limit=200)
    assert len(test) == 200
    for image, number in zip(test.images, test.ids, strict=True):
        row, column = divmod(int(number) - FIRST_TEST_ID, 100)
        tile = pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        np.testing.assert_array_equal(image, tile.transpose(2, 0, 1))
