"""ImageNet-Patch's file: patches cut out of their canvas, other files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qadtr_edge.attacks.imagenet_patch import load
from qadtr_edge.cli import attack_names
from qadtr_edge.errors import BadInput


def _file(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "patches.npz", **arrays)
    return folder / "patches.npz"


def test_a_patch_is_cut_to_what_it_paints(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 12, 12), np.float32)
    images[0, :, 3:8, 4:9] = 0.5
    images[1, 2, 0:4, 0:2] = 1.0
    found = load(_file(tmp_path, patches=images, targets=np.array([7, 3])))
    assert [patch.pixels.shape for patch in found] == [(3, 5, 5), (3, 4, 2)]
    assert [patch.target for patch in found] == [7, 3]
    assert (found[0].pixels == 128).all()
    assert (found[1].pixels[2] == 255).all()
    assert all(patch.mask.all() for patch in found)


@pytest.mark.parametrize(
    ("patches", "targets"),
    [
        (np.full((1, 3, 4, 4), 2.0), np.array([1])),
        (np.full((1, 3, 4, 4), np.nan), np.array([1])),
        (np.zeros((1, 1, 4, 4)), np.array([1])),
        (np.ones((2, 3, 4, 4)), np.array([1])),
        (np.ones((1, 3, 4, 4), np.uint8), np.array([1])),
    ],
)
def test_arrays_of_another_kind_are_refused(
    tmp_path: Path, patches: np.ndarray, targets: np.ndarray
) -> None:
    with pytest.raises(BadInput, match="holds patches"):
        load(_file(tmp_path, patches=patches, targets=targets))


def test_an_empty_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Patch 0 of the file paints nothing"):
        load(_file(tmp_path, patches=np.zeros((1, 3, 4, 4)), targets=np.array([1])))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("no")
    with pytest.raises(BadInput, match="is no ImageNet-Patch file"):
        load(tmp_path / "x.npz")
    with pytest.raises(BadInput, match="is no ImageNet-Patch file"):
        load(_file(tmp_path, other=np.zeros(3)))


@pytest.mark.needs("real_data")
def test_the_published_patches_are_fifty_pixels(data_root: Path) -> None:
    found = load(data_root / "imagenet_patch" / "imagenet_patch.npz")
    assert [patch.pixels.shape for patch in found] == [(3, 50, 50)] * 10


def test_the_verb_takes_all_patches_of_the_file_and_asks_for_one(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 12, 12), np.float32)
    images[:, :, 3:8, 4:9] = 0.5
    path = _file(tmp_path, patches=images, targets=np.array([7, 3]))
    assert [patch.target for patch in attack_names.given(path)] == [7, 3]
    assert attack_names.replayed("imagenet_patch,sweep", path) == "sweep"
    assert attack_names.replayed("imagenet_patch", path) is None
    assert attack_names.replayed("gap", None) == "gap"
    with pytest.raises(BadInput, match="no file of them is given"):
        attack_names.replayed("imagenet_patch", None)
