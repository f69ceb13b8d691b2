"""What was stored before stays true: bytes pasted, keys of rows and digests of placed patches.

Recorded when the policies ``random``, ``plain``, ``centre`` and ``fixed`` were all there were. One
that changes makes every stored run of that policy start again.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from qadtr_edge import replay
from qadtr_edge.attacks.adaptive import Adaptive
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.label_search import LabelSearch
from qadtr_edge.attacks.lavan import Lavan
from qadtr_edge.attacks.loap import Loap
from qadtr_edge.attacks.mpa import Mpa
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.patch_rs_universal import PatchRsUniversal
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.patch import bank
from qadtr_edge.patch.placement import policy
from qadtr_edge.types import Patch, PlacedPatches, Placements

SIDES = {"small": 32, "large": 112}
RECORDED = {
    ("random", "small"): ("bc4ce19a9815ddcd", "cfda9292a4dbdf3c"),
    ("random", "large"): ("17439d81e827ce5f", "6d2a05283c84a4a3"),
    ("plain", "small"): ("25f605a6740117b0", "7bf4688c2ef5176d"),
    ("plain", "large"): ("da5249aa40ead255", "86a05bfbc426b4d7"),
    ("centre", "small"): ("31766e7e79369517", "b76f68bd914eb3f5"),
    ("centre", "large"): ("bdab86dcfd919c80", "6a4c0de1afc116dd"),
    ("fixed:3,5", "small"): ("a5ca8bc011a59098", "96f34c080053145f"),
    ("fixed:3,5", "large"): ("2487975a4268d5e8", "0fcc5fa4847d35a3"),
}
RECIPES = {
    Gap: "f192f4cfd1574188",
    Lavan: "7a1919bf32940128",
    Pgd: "c6c98e3e646ebe5f",
    Loap: "7251e2f197752489",
    PatchRs: "b79384efcfdeda3c",
    PatchRsUniversal: "0bc587c0c65dddfd",
    Adaptive: "55e719661f0cd852",
    Mpa: "fabceb06a19d017a",
    LabelSearch: "df7c359c3ce374f6",
}


def counted(*shape: int, step: int) -> np.ndarray:
    """Bytes without a generator in them."""
    return (np.arange(np.prod(shape)) * step % 251).astype(np.uint8).reshape(shape)


def scene(size: str) -> tuple[Dataset, Patch]:
    side = SIDES[size]
    n = 12
    data = Dataset(
        "counted", "test", counted(n, 3, side, side, step=7), np.arange(n) % 4, 100 + np.arange(n),
        ("a", "b", "c", "d"), flip_allowed=False,
    )  # fmt: skip
    mask = counted(side // 5, side // 4, step=3) % 5 > 0
    return data, Patch(counted(3, *mask.shape, step=11), mask, target=None)


@pytest.mark.parametrize("size", list(SIDES))
@pytest.mark.parametrize("name", ["random", "plain", "centre", "fixed:3,5"])
def test_bytes_and_keys_are_those_of_stored_runs(name: str, size: str) -> None:
    data, patch = scene(size)
    said = replay.Attacked("gap", "simulation", "twin-w8a8", "T1", "T-A")
    unit = replay.Unit(said, patch, policy(name, image_px=SIDES[size]), seed=4)
    places = replay.places_of(unit, data)
    shown = replay.pasted(unit, data, places=places, part=slice(None))
    key = replay.identity(unit, replay.Subject(lambda images: images, "engine", data))  # type: ignore[arg-type,return-value]
    found = hashlib.sha256(shown.tobytes()).hexdigest()[:16], key
    assert found == RECORDED[name, size]


def test_digests_of_placed_patches_are_those_of_stored_files() -> None:
    data, patch = scene("small")
    n = len(data)
    rows = np.arange(n, dtype=np.float64)
    at = Placements(top=rows, left=rows + 1, degrees=0 * rows, scale=0 * rows + 1)
    found = PlacedPatches(data.ids, patch.pixels, patch.mask, at, target=None)
    assert bank.digest(found)[:16] == "51720c789a4af0cd"


@pytest.mark.parametrize("attack", list(RECIPES))
def test_recipes_are_those_of_stored_files(attack: type[Gap]) -> None:
    assert bank.key(attack().parameters) == RECIPES[attack]
