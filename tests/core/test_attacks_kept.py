"""What is kept beside the best patch: the first that led by each kappa, whatever came after."""
# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from qadtr_edge import craft, metrics
from qadtr_edge.attacks import per_image
from qadtr_edge.attacks.adaptive import Adaptive
from qadtr_edge.attacks.ascent import KAPPAS
from qadtr_edge.attacks.differential import Both, Differential
from qadtr_edge.attacks.kept import Found
from qadtr_edge.attacks.loap import Loap
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.attacks.victim import logits_of
from qadtr_edge.patch import placed
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import PlacedPatches
from toy import pictures, reordered

TEST = pictures(60, split="test")
SMALL = {"patch_px": (4, 4), "steps": 8}
MAKERS: tuple[Callable[..., per_image.PerImage], ...] = (
    lambda **options: Loap(**{"attempts": 2, **SMALL, **options}),
    lambda **options: Pgd(**{"restarts": 2, **SMALL, **options}),
    lambda **options: Adaptive(**{"restarts": 7, **SMALL, **options}),
)


class Bright(nn.Module):
    """Compares the brightness of the quadrants; leads are of a few logits."""

    def forward(self, pixels: Tensor) -> Tensor:
        half = pixels.shape[2] // 2
        blocks = pixels.reshape(len(pixels), 3, 2, half, 2, half)
        return blocks.mean(dim=(1, 3, 5)).reshape(-1, 4) / 4.0


def search(attack: per_image.PerImage, *, data: object = TEST) -> Found:
    return attack.search(Bright(), data, seed=0, told=lambda count, note: None)  # type: ignore[arg-type]


def lead(found: PlacedPatches) -> np.ndarray:
    shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
    logits = logits_of(Bright(), shown)
    won = metrics.predicted(logits) != TEST.labels
    return np.where(won, metrics.margins(logits, TEST.labels), -np.inf)


@pytest.mark.parametrize("make", MAKERS)
def test_the_first_leads_by_kappa_or_is_the_best(make: Callable[..., per_image.PerImage]) -> None:
    found = search(make())
    assert tuple(found.first) == KAPPAS
    best = lead(found.best)
    for kappa, first in found.first.items():
        reached = lead(first) >= kappa - 1e-4
        same = (first.pixels == found.best.pixels).all(axis=(1, 2, 3))
        assert (reached | same).all()
        assert not (~reached & (best >= kappa + 1e-3)).any(), "an image that some patch won by it"
    least = [np.median(lead(found.first[kappa])[np.isfinite(best)]) for kappa in KAPPAS]
    assert least == sorted(least)
    assert least[0] < np.median(best[np.isfinite(best)]), "the first is not the best"


def test_what_comes_after_does_not_change_what_was_first() -> None:
    few, many = search(Pgd(restarts=1, **{**SMALL, "steps": 5})), search(Pgd(restarts=3, **SMALL))
    for kappa in KAPPAS[:2]:
        early = few.first[kappa]
        there = lead(early) >= kappa
        assert there.any()
        assert not there.all()
        assert np.array_equal(early.pixels[there], many.first[kappa].pixels[there])
        assert np.array_equal(early.placements.top[there], many.first[kappa].placements.top[there])


@pytest.mark.parametrize("make", MAKERS)
def test_no_image_sways_another(make: Callable[..., per_image.PerImage]) -> None:
    order = np.arange(len(TEST))[::-4]
    whole, part = search(make()), search(make(), data=reordered(TEST, order))
    for kappa in KAPPAS:
        assert np.array_equal(part.first[kappa].pixels, whole.first[kappa].pixels[order])


def test_without_a_lead_only_the_best_is_kept() -> None:
    attack = Differential(restarts=1, **SMALL)
    found = attack.search(Both(Bright(), Bright()), TEST, seed=0, told=lambda count, note: None)
    assert found.first == {}


def test_crafting_keeps_each_margin_in_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prey = craft.Prey(Bright(), "toy", "simulation", digest="q")

    def crafted(*kappas: float) -> Found:
        return craft.craft_each(
            Pgd(restarts=1, **SMALL), prey, data=TEST, folder=tmp_path, seed=0,
            told=lambda count, note: None, kappas=kappas,
        )  # fmt: skip

    alone = crafted()
    assert len(list(tmp_path.glob("*.npz"))) == 1
    monkeypatch.setattr(craft, "BATCH", 25)
    found = crafted(0.0, 3.0)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert placed.digest(found.best) == placed.digest(alone.best)
    assert set(found.first) == {0.0, 3.0}
    assert found.first[3.0].origin["kappa"] == 3.0
    assert found.first[0.0].origin["victim_name"] == "toy"
    assert placed.digest(found.first[0.0]) != placed.digest(found.first[3.0])
    monkeypatch.setattr(Pgd, "search", None)  # what is there is read
    again = crafted(3.0)
    assert placed.digest(again.first[3.0]) == placed.digest(found.first[3.0])


def test_an_interrupted_crafting_ends_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prey = craft.Prey(Bright(), "toy", "simulation", digest="q")
    monkeypatch.setattr(craft, "BATCH", 20)

    def crafted(folder: Path, stop_after: int) -> Found:
        told: list[int] = []

        def tell(count: int, note: str) -> None:
            told.append(count)
            if sum(told) > stop_after:
                raise KeyboardInterrupt

        return craft.craft_each(
            Pgd(restarts=1, **SMALL), prey, data=TEST, folder=folder, seed=0, told=tell,
            kappas=(0.0, 1.0),
        )  # fmt: skip

    steps = 8 * 20
    whole = crafted(tmp_path / "whole", 10 * steps)
    for after in (steps + 40, 2 * steps + 40):
        with pytest.raises(KeyboardInterrupt):
            crafted(tmp_path / "parts", after)
    left = sorted((tmp_path / "parts").glob("*-20.npz"))
    assert len(left) == 3, "the second part was stored, best and firsts"
    left[0].unlink()  # stopped between the files of a part: that part is done again
    found = crafted(tmp_path / "parts", 10 * steps)
    names = {path.name for path in (tmp_path / "whole").glob("*.npz")}
    assert {path.name for path in (tmp_path / "parts").glob("*.npz")} == names
    for kappa, first in whole.first.items():
        assert placed.digest(found.first[kappa]) == placed.digest(first)
    assert placed.digest(found.best) == placed.digest(whole.best)
