"""What is saved is what is loaded, byte for byte; what is damaged is said to be."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qadtr_edge.errors import BadInput
from qadtr_edge.patch import bank
from qadtr_edge.types import Patch

CHANCE = np.random.default_rng(0)
SOLID = Patch(
    CHANCE.integers(0, 256, (3, 6, 4), dtype=np.uint8),
    np.ones((6, 4), bool),
    target=3,
    origin={"attack": "gap", "seed": 1, "parameters": {"steps": 2}},
)
HOLED = replace(SOLID, mask=np.eye(6, 4, dtype=bool))


@pytest.mark.parametrize("patch", [SOLID, HOLED])
def test_a_patch_comes_back(patch: Patch, tmp_path: Path) -> None:
    bank.save(patch, tmp_path / "p.npz")
    found = bank.load(tmp_path / "p.npz")
    assert np.array_equal(found.pixels, patch.pixels)
    assert np.array_equal(found.mask, patch.mask)
    assert (found.target, found.origin) == (patch.target, patch.origin)
    assert bank.digest(found) == bank.digest(patch)


@pytest.mark.parametrize("patch", [SOLID, HOLED])
def test_the_preview_pastes_the_same_bytes(patch: Patch, tmp_path: Path) -> None:
    bank.save(patch, tmp_path / "p.npz")
    found = bank.load(tmp_path / "p.png")
    assert np.array_equal(found.pixels, patch.pixels)
    assert np.array_equal(found.mask, patch.mask)
    assert found.target is None


def test_saving_twice_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        bank.save(SOLID, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_digest_is_of_pixels_and_mask() -> None:
    other = SOLID.pixels.copy()
    other[0, 0, 0] ^= 1
    digests = {bank.digest(p) for p in (SOLID, HOLED, replace(SOLID, pixels=other))}
    assert len(digests) == 3
    assert bank.digest(replace(SOLID, target=None, origin={})) == bank.digest(SOLID)
    turned = replace(SOLID, pixels=SOLID.pixels.reshape(3, 4, 6), mask=np.ones((4, 6), bool))
    assert bank.digest(turned) != bank.digest(SOLID)


def test_the_key_ignores_order_and_nothing_else() -> None:
    assert bank.key({"a": 1, "b": 2}) == bank.key({"b": 2, "a": 1})
    assert bank.key({"a": 1}) != bank.key({"a": 2}) != bank.key({"a": "2"})
    assert bank.key({}) == hashlib.sha256(b"{}").hexdigest()[:16]


def test_every_torn_or_altered_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    bank.save(SOLID, path)
    whole = path.read_bytes()
    at = whole.index(SOLID.pixels.tobytes())
    altered = bytearray(whole)
    altered[at] ^= 1
    for content in (b"", b"not a zip", whole[: len(whole) // 2], whole[:-1], bytes(altered)):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="damaged"):
            bank.load(path)


def test_pixels_that_do_not_match_their_digest_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    bank.save(SOLID, path)
    with np.load(path) as file:
        header = file["header"]
    np.savez(path, pixels=SOLID.pixels ^ 1, mask=SOLID.mask, header=header)
    with pytest.raises(BadInput, match="digest"):
        bank.load(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, pixels=np.array([object()], dtype=object))
    with pytest.raises(BadInput, match="damaged"):
        bank.load(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"pixels": np.zeros((6, 6, 3), np.uint8)},
        {"pixels": np.zeros((3, 6, 6), np.float32)},
        {"pixels": np.zeros((3, 6, 6), np.uint8), "mask": np.ones((5, 6), bool)},
        {"pixels": np.zeros((3, 6, 6), np.uint8), "mask": np.zeros((6, 6), bool)},
    ],
)
def test_a_wrong_layout_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(BadInput, match="uint8"):
        bank.load(tmp_path / "p.npz")


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1", "I;16"])
def test_a_picture_without_rgb_is_refused(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (6, 6)).save(tmp_path / "p.png")
    with pytest.raises(BadInput, match="RGB"):
        bank.load(tmp_path / "p.png")


@pytest.mark.parametrize("alpha", [127, 0])
def test_a_transparent_picture_is_refused(alpha: int, tmp_path: Path) -> None:
    Image.new("RGBA", (6, 6), (1, 2, 3, alpha)).save(tmp_path / "p.png")
    with pytest.raises(BadInput, match="transparent"):
        bank.load(tmp_path / "p.png")


@pytest.mark.parametrize("name", ["absent.npz", "patch.txt", "broken.png"])
def test_no_patch_at_all(name: str, tmp_path: Path) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(BadInput) as error:
        bank.load(tmp_path / name)
    assert error.value.remedy
