"""The adaptive attacker: every way counts, masked gradients included, and images stay apart."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

import nets
from qadtr_edge import metrics
from qadtr_edge.attacks import adaptive
from qadtr_edge.attacks.adaptive import SIGMA, WAYS, Adaptive, Smoothed, ways_of
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.attacks.victim import logits_of, state_digest
from qadtr_edge.integer.lower import lower
from qadtr_edge.integer.twin import Twin
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import PlacedPatches
from toy import pictures, reordered

TEST = pictures(40, split="test")


class Bright(nn.Module):
    """Compares the brightness of the quadrants."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        half = pixels.shape[2] // 2
        blocks = pixels.reshape(len(pixels), 3, 2, half, 2, half)
        return self.norm(blocks.mean(dim=(1, 3, 5)).reshape(-1, 4) / 4.0)


class Saturated(nn.Module):
    """Logits so far apart that cross-entropy, in float32, has no gradient where they are right."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bright()

    def forward(self, pixels: Tensor) -> Tensor:
        return 1e6 * self.inner(pixels)


class Rough(nn.Module):
    """Right answers whose gradient points the wrong way wherever the pixels are whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bright()

    def forward(self, pixels: Tensor) -> Tensor:
        whole = (pixels.detach() == pixels.detach().round()).float()
        turned = pixels.detach() - (pixels - pixels.detach())
        return self.inner(whole * turned + (1.0 - whole) * pixels)


def search(
    attack: Adaptive | Pgd, victim: nn.Module, *, data: object = TEST, seed: int = 0
) -> PlacedPatches:
    return attack.search(victim, data, seed=seed, told=lambda count, note: None).best  # type: ignore[arg-type]


def rate(victim: nn.Module, found: PlacedPatches) -> float:
    victim.eval()
    shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
    clean, after = (metrics.predicted(logits_of(victim, each)) for each in (TEST.images, shown))
    return metrics.attack_success_rate(clean, after, labels=TEST.labels, target=found.target)


def small(**options: object) -> Adaptive:
    given = {"patch_px": (5, 5), "steps": 8, "restarts": 5, **options}
    return Adaptive(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [None, 2])
def test_it_wins_where_noise_does_not(target: int | None) -> None:
    noise = search(small(steps=0, target=target), Bright())
    assert rate(Bright(), search(small(target=target), Bright())) > rate(Bright(), noise) + 0.3


def test_noise_finds_what_a_plain_ascent_is_turned_away_from() -> None:
    plain = search(Pgd(patch_px=(5, 5), steps=8, restarts=5), Rough())
    found = search(small(), Rough())
    assert rate(Rough(), found) > rate(Rough(), plain) + 0.3


def test_temperature_gives_a_saturated_cross_entropy_its_gradient() -> None:
    victim = Saturated().eval()
    pixels = torch.from_numpy(TEST.images).float().requires_grad_(True)
    labels = torch.from_numpy(TEST.labels)
    clean = victim(pixels)
    right = clean.argmax(1) == labels

    def felt(way: adaptive.Way) -> Tensor:
        gain = adaptive._gain(way, labels, clean.detach(), target=None)
        (gradient,) = torch.autograd.grad(gain(victim(pixels)).sum(), pixels)
        return gradient.abs().amax(dim=(1, 2, 3))[right] > 0

    assert not felt(adaptive.Way("cross_entropy")).any()
    assert felt(adaptive.Way("cross_entropy", gaps=1.0)).all()


def test_neither_order_nor_neighbours_sway_an_image() -> None:
    whole = search(small(restarts=7), Bright())
    order = np.arange(len(TEST))[::-1][:7]
    turned = search(small(restarts=7), Bright(), data=reordered(TEST, order))
    assert (turned.pixels == whole.pixels[order]).all()
    assert (turned.placements.top == whole.placements.top[order]).all()


def test_more_restarts_never_lower_the_margin() -> None:
    def lead(found: PlacedPatches) -> np.ndarray:
        shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
        return metrics.margins(logits_of(Bright().eval(), shown), TEST.labels, target=None)

    one, many = (search(small(restarts=n), Bright()) for n in (1, 7))
    assert (lead(many) >= lead(one)).all()
    assert (lead(many) > lead(one)).any()


def test_the_victim_is_left_as_it_was() -> None:
    victim = Bright().train()
    before = state_digest(victim)
    search(small(restarts=7), victim)
    assert state_digest(victim) == before
    assert victim.training


def test_smoothing_averages_the_image_and_its_noisy_copies() -> None:
    pixels = torch.from_numpy(TEST.images[:3]).float()
    noise = torch.full((1, 3, *pixels.shape[2:]), SIGMA)
    found = Smoothed(lambda shown: shown.mean(dim=(2, 3)), noise)(pixels)
    assert torch.allclose(found, pixels.mean(dim=(2, 3)) + SIGMA / 2)


def test_a_victim_is_only_taken_the_ways_it_has() -> None:
    assert {way.backward for way in ways_of(Bright(), 10, target=None)} == {"clipped"}
    assert "dlr" not in {way.loss for way in ways_of(Bright(), 3, target=1)}
    assert "dlr" in {way.loss for way in ways_of(Bright(), 3, target=None)}


def test_the_twin_is_also_taken_without_clipping() -> None:
    images = nets.pixels(8, seed=4).float().requires_grad_()
    twin = Twin(lower(nets.ready(nets.small_resnet()), bits=2))
    assert {way.backward for way in ways_of(twin, 10, target=None)} == {"clipped", "identity"}
    found = []
    for way in WAYS[:2]:
        logits = adaptive._taken(twin, way, torch.zeros(0))(images)
        (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), images)
        found.append((logits, gradient.norm()))
    assert torch.equal(found[0][0], found[1][0])
    assert found[1][1] > found[0][1] > 0
