"""The user's own images in an ``.npz`` file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qadtr_edge.data import SPLITS, load
from qadtr_edge.errors import BadInput


def save_npz(path: Path, *, count: int = 200, **arrays: np.ndarray) -> Path:
    random = np.random.default_rng(0)
    whole = {
        "images": random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8),
        "labels": np.arange(count) % 4,
        **arrays,
    }
    np.savez(path, **whole)
    return path


def test_an_npz_file(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz")
    images = np.load(path)["images"]
    seen: list[int] = []
    for split in SPLITS:
        part = load(str(path), split)
        np.testing.assert_array_equal(part.images, images[part.ids].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(part.labels, part.ids % 4)
        assert part.images.flags.c_contiguous
        seen += part.ids.tolist()
        assert part.class_names == ("0", "1", "2", "3")
    assert sorted(seen) == list(range(200))


def test_an_npz_file_may_name_splits(tmp_path: Path) -> None:
    names = np.array([*SPLITS] * 50)
    path = save_npz(tmp_path / "a.npz", split=names, class_names=np.array(["a", "b", "c", "d"]))
    for number, split in enumerate(SPLITS):
        part = load(str(path), split)
        assert set(part.ids % 4) == {number}
        assert part.class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(("arrays", "told"), [
    ({"images": np.zeros((200, 6, 6, 3), np.float32)}, "float32"),
    ({"images": np.zeros((200, 3, 6, 6), np.uint8)}, r"\(200, 3, 6, 6\)"),
    ({"labels": np.zeros(199, np.int64)}, "200 images and 199 labels"),
    ({"labels": np.zeros(200)}, "float64"),
    ({"labels": np.full(200, -1)}, "label -1"),
    ({"class_names": np.array(["a", "b"])}, "label 3 but 2 class names"),
    ({"split": np.array(["tset"] * 200)}, "split 'tset'"),
    ({"split": np.array(["test"] * 2)}, "2 splits"),
    ({"split": np.array(["train"] * 200)}, "holds no image"),
    ({"labels": np.array([None] * 200)}, "cannot be read"),
])  # fmt: skip
def test_a_bad_npz_file_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], told: str
) -> None:
    path = save_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=told) as caught:
        load(str(path), "test")
    assert str(path) in caught.value.fact


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, pictures=np.zeros(3))
    with pytest.raises(BadInput, match="no array 'images'; its arrays: pictures"):
        load(str(path), "test")
    path.write_bytes(save_npz(tmp_path / "b.npz").read_bytes()[:-500])
    with pytest.raises(BadInput, match="cannot be read as an"):
        load(str(path), "test")
    with pytest.raises(BadInput, match="6 x 6 pixels, not 32"):
        load(str(tmp_path / "b.npz"), "test", image_size=32)
