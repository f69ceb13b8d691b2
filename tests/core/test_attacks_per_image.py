"""LOAP and PGD-patch over a data set: they win, spare the victim, and keep what they claim."""
# ruff: noqa: E402

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from qadtr_edge import metrics, registry
from qadtr_edge.attacks import per_image
from qadtr_edge.attacks.loap import Loap
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.attacks.victim import logits_of, state_digest
from qadtr_edge.errors import BadInput
from qadtr_edge.patch import placed
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import PlacedPatches
from toy import pictures, reordered

TEST = pictures(40, split="test")
SMALL = {"steps": 8, "patch_px": (5, 5)}
MAKERS: tuple[Callable[..., per_image.PerImage], ...] = (
    lambda **options: Loap(**{"attempts": 2, **SMALL, **options}),
    lambda **options: Pgd(**{"restarts": 2, **SMALL, **options}),
)


class Bright(nn.Module):
    """Compares the brightness of the quadrants, behind a batch norm that must not move."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.shown = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.shown += len(pixels)
        half = pixels.shape[2] // 2
        blocks = pixels.reshape(len(pixels), 3, 2, half, 2, half)
        return self.norm(blocks.mean(dim=(1, 3, 5)).reshape(-1, 4) / 4.0)


def search(attack: per_image.PerImage, victim: nn.Module | None = None, *, seed: int = 0,
           data: object = TEST) -> PlacedPatches:  # fmt: skip
    return attack.search(victim or Bright(), data, seed=seed, told=lambda count, note: None).best


def patched(found: PlacedPatches) -> np.ndarray:
    shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
    return logits_of(Bright().eval(), shown)


def clean() -> np.ndarray:
    return logits_of(Bright().eval(), TEST.images)


@pytest.mark.parametrize("make", MAKERS)
def test_it_wins_where_noise_does_not(make: Callable[..., per_image.PerImage]) -> None:
    def rate(found: PlacedPatches) -> float:
        labels = metrics.predicted(patched(found))
        return metrics.attack_success_rate(
            metrics.predicted(clean()), labels, labels=TEST.labels, target=found.target
        )

    assert rate(search(make())) > rate(search(make(steps=0))) + 0.3
    assert rate(search(make(target=2))) > rate(search(make(target=2, steps=0))) + 0.3


@pytest.mark.parametrize("make", MAKERS)
def test_the_victim_is_left_as_it_was(make: Callable[..., per_image.PerImage]) -> None:
    victim = Bright().train()
    before = state_digest(victim)
    search(make(), victim)
    assert state_digest(victim) == before
    assert victim.training
    assert all(weight.requires_grad and weight.grad is None for weight in victim.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_found_can_be_stored_and_replayed(
    make: Callable[..., per_image.PerImage], tmp_path: object
) -> None:
    found = search(make())
    placed.save(found, tmp_path / "found.npz")
    again = placed.load(tmp_path / "found.npz")
    assert placed.digest(again) == placed.digest(found)
    assert np.array_equal(found.ids, TEST.ids)
    assert found.pixels.shape == (len(TEST), 3, 5, 5)
    assert found.mask.all()
    assert found.queries is None
    assert (found.placements.top >= 0).all()
    assert (found.placements.top <= 11).all()
    assert not found.placements.degrees.any()


@pytest.mark.parametrize("make", MAKERS)
def test_seed_and_image_decide_the_bytes(
    make: Callable[..., per_image.PerImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(make())
    assert placed.digest(search(make())) == placed.digest(whole)
    assert placed.digest(search(make(), seed=1)) != placed.digest(whole)
    order = np.arange(len(TEST))[::-3]
    monkeypatch.setattr(per_image, "BATCH", 5)  # nor does the batch
    part = search(make(), data=reordered(TEST, order))
    assert np.array_equal(part.pixels, whole.pixels[order])
    assert np.array_equal(part.placements.top, whole.placements.top[order])


@pytest.mark.parametrize("make", MAKERS)
def test_it_reports_its_budget(make: Callable[..., per_image.PerImage]) -> None:
    told: list[int] = []
    attack = make()
    attack.search(Bright(), TEST, seed=0, told=lambda count, note: told.append(count))
    assert sum(told) == attack.budget * len(TEST) == 16 * len(TEST)


@pytest.mark.parametrize("name", registry.names("per-image attack"))
def test_parameters_tell_every_option(name: str) -> None:
    """What changes the bytes must change the key under which they are kept.

    A shape is told where it is none of old: patches stored before there were any are still found.
    """
    make = registry.resolve("per-image attack", name)
    options = inspect.signature(make).parameters
    told = make(shape="circle") if "shape" in options else make()
    assert set(told.parameters) == set(options)
    assert make().name == name


def test_restarts_keep_the_best_of_each_image() -> None:
    def lead(restarts: int, **options: object) -> np.ndarray:
        found = search(Pgd(restarts=restarts, **SMALL, **options))
        return metrics.margins(patched(found), TEST.labels)

    one, many = lead(1), lead(5)
    assert (many >= one - 1e-4).all()
    assert (many > one + 1e-3).any()


@pytest.mark.parametrize("loss", ["margin", "dlr", "cross_entropy"])
def test_every_loss_of_pgd_ascends(loss: str) -> None:
    start = metrics.margins(patched(search(Pgd(restarts=1, **{**SMALL, "steps": 0}))), TEST.labels)
    end = metrics.margins(patched(search(Pgd(restarts=1, loss=loss, **SMALL))), TEST.labels)
    assert (end >= start).all()
    assert (end > start).mean() > 0.7  # the rest stand where no quadrant matters


def test_a_temperature_brings_back_a_saturated_gradient() -> None:
    class Sure(Bright):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels) * 1e4

    options = {"restarts": 1, "loss": "cross_entropy", **SMALL}

    def rate(temperature: float) -> float:
        found = search(Pgd(temperature=temperature, **options), Sure())
        return float((metrics.predicted(patched(found)) != TEST.labels).mean())

    assert rate(1e4) > rate(1.0) + 0.2


def test_kappa_spares_restarts_and_still_wins_by_it() -> None:
    told: list[int] = []
    eager, full = Bright(), Bright()
    small = {"steps": 8, "patch_px": (3, 3), "restarts": 6}
    attack = Pgd(kappa=0.0, **small)
    found = attack.search(eager, TEST, seed=0, told=lambda count, note: told.append(count)).best
    every = search(Pgd(**small), full)
    assert sum(told) == attack.budget * len(TEST)
    won, most = (metrics.predicted(patched(each)) != TEST.labels for each in (found, every))
    assert np.array_equal(won, most)
    assert 0 < won.sum() < len(won)
    assert eager.shown < full.shown  # no image that is won goes on


def test_a_tie_counts_as_its_label_does() -> None:
    lead = per_image.lead_of(torch.tensor([0, 1, 1]), target=None)
    found = lead(torch.tensor([[2.0, 2.0], [2.0, 2.0], [1.0, 2.0]]))
    assert found[0] == 0  # the lowest index is the label, and it is right
    assert found[1] > 0
    assert found[2] == -1
    targeted = per_image.lead_of(torch.tensor([0, 0]), target=1)
    assert (targeted(torch.tensor([[2.0, 2.0], [1.0, 2.0]])) > 0).tolist() == [False, True]


def test_pgd_stays_where_its_placement_says() -> None:
    fixed = search(Pgd(placement="fixed:3,7", restarts=1, **SMALL))
    assert set(fixed.placements.top) == {3.0}
    assert set(fixed.placements.left) == {7.0}
    centre = search(Pgd(placement="centre", restarts=1, **SMALL))
    assert set(centre.placements.left) == {5.0}
    with pytest.raises(BadInput, match="as it is stored"):
        search(Pgd(placement="random", **SMALL))
    with pytest.raises(BadInput, match="sticks out"):
        search(Pgd(placement="fixed:14,0", **SMALL))


def test_loap_leaves_the_avoided_square_free() -> None:
    found = search(Loap(avoid_px=4, attempts=1, **SMALL))
    shown = paste(
        np.zeros_like(TEST.images), np.maximum(found.pixels, 1), mask=found.mask,
        placements=found.placements,
    )  # fmt: skip
    assert not shown[:, :, 6:10, 6:10].any()
    assert shown.any()


def test_dlr_needs_classes_to_compare() -> None:
    class Two(Bright):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels)[:, :2]

    with pytest.raises(BadInput, match="compares 3 classes; the model knows 2"):
        search(Pgd(loss="dlr", **SMALL), Two(), data=replace(TEST, labels=TEST.labels % 2))
