"""The ascent of a patch per image: contents follow the place, the best is kept, nothing else moves.

The victims are sums a person can check by hand.
"""
# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from qadtr_edge.attacks import upright
from qadtr_edge.attacks.ascent import Ascended, Ascent, ascend, gain_of

SIDE = 12
N = 24
IDS = np.arange(N)
HOW = Ascent(patch_px=(3, 3), steps=6, step_size=0.2, moves="random", stride=2)


def pixels(n: int = N, seed: int = 0) -> Tensor:
    chance = np.random.default_rng(seed)
    return torch.from_numpy(chance.integers(0, 256, (n, 3, SIDE, SIDE))).float()


def towards(row: int, column: int, *, texture: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Two logits whose second grows with brightness near (row, column), and with a checkerboard."""
    distance = (torch.arange(SIDE)[:, None] - row).abs() + (torch.arange(SIDE) - column).abs()
    weights = 1.0 / (1.0 + distance.float())
    board = 1.0 - 2.0 * ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2)

    def victim(shown: Tensor) -> Tensor:
        bright = (shown * (weights + 0.1 * texture * board)).mean(dim=(1, 2, 3)) / 8.0
        return torch.stack([torch.zeros_like(bright), bright], dim=1)

    return victim


def found(victim: Callable[[Tensor], Tensor], how: Ascent = HOW, *, seed: int = 0) -> Ascended:
    gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
    return ascend(victim, pixels(), gain=gain, how=how, ids=IDS, seed=seed)


class Watched:
    """A victim that keeps what it is shown."""

    def __init__(self, victim: Callable[[Tensor], Tensor]) -> None:
        self.victim = victim
        self.shown: list[tuple[bool, Tensor]] = []

    def __call__(self, shown: Tensor) -> Tensor:
        self.shown.append((shown.requires_grad, shown.detach().clone()))
        return self.victim(shown)


def place_of(shown: Tensor) -> tuple[Tensor, Tensor]:
    """Corner and contents of the 3x3 patch on images that are -1 elsewhere."""
    corners, contents = [], []
    for image in shown:
        where = (image[0] != -1).nonzero()
        corners.append(where[0])
        assert len(where) == 9
        top, left = (int(side) for side in where[0])
        contents.append(image[:, top : top + 3, left : left + 3])
    return torch.stack(corners), torch.stack(contents)


@pytest.mark.parametrize("moves", ["random", "full"])
def test_contents_follow_the_place(moves: str) -> None:
    """A patch that tries another place shows there what it shows here, byte for byte."""
    watched = Watched(towards(2, 9))
    blank = torch.full((N, 3, SIDE, SIDE), -1.0)
    gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
    ascend(watched, blank, gain=gain, how=replace(HOW, moves=moves), ids=IDS, seed=0)
    moved = 0
    own = None  # the contents as the last step left them
    for has_gradient, shown in watched.shown:
        corners, contents = place_of(shown)
        if has_gradient:
            at, own = corners, None
            continue
        own = contents if own is None else own
        assert torch.equal(contents, own)
        steps = (corners - at).abs().sum(dim=1)
        assert set(steps.tolist()) <= {0, 2}
        moved += int((steps > 0).sum())
    assert moved > N


def test_after_a_move_the_ascent_goes_on_with_the_same_contents() -> None:
    """What is shown at the next step is what won the move: place and contents together."""
    watched = Watched(towards(2, 9))
    blank = torch.full((N, 3, SIDE, SIDE), -1.0)
    gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
    ascend(watched, blank, gain=gain, how=HOW, ids=IDS, seed=0)
    stepped, tried, again = (shown for _, shown in watched.shown[:3])
    before, after = gain(watched.victim(stepped)), gain(watched.victim(tried))
    (start, _), (there, contents), (now, kept) = (place_of(x) for x in (stepped, tried, again))
    accepted = after > before
    assert accepted.any()
    assert not accepted.all()
    assert torch.equal(kept, contents)
    assert torch.equal(now, torch.where(accepted[:, None], there, start))


def test_moves_find_the_weak_place() -> None:
    victim = towards(2, 9, texture=0.0)

    def distance(moves: str) -> float:
        how = replace(HOW, moves=moves, steps=20, stride=1)
        best = ascend(victim, grey, gain=gain, how=how, ids=IDS, seed=0)
        return float((best.corners + 1.0 - torch.tensor([2.0, 9.0])).abs().sum(dim=1).mean())

    grey, gain = torch.full((N, 3, SIDE, SIDE), 128.0), gain_of("margin", torch.zeros(N).long())
    assert distance("full") <= 1.0
    assert distance("full") <= distance("random") < distance("none") / 2


def test_without_moves_the_place_is_that_of_the_start() -> None:
    stays = found(towards(2, 9), replace(HOW, moves="none"))
    start = found(towards(2, 9), replace(HOW, moves="none", steps=0))
    assert torch.equal(stays.corners, start.corners)


def test_every_place_is_a_start() -> None:
    images = torch.zeros(3000, 3, SIDE, SIDE)
    gain = gain_of("margin", torch.zeros(3000, dtype=torch.int64))
    how = replace(HOW, steps=0)
    starts = ascend(towards(2, 9), images, gain=gain, how=how, ids=np.arange(3000), seed=1)
    counts = np.zeros((SIDE - 2, SIDE - 2))
    np.add.at(counts, tuple(starts.corners.numpy().T), 1)
    assert counts.min() > 8  # 30 expected: below is a chance of one in ten million
    assert counts.max() < 65


def test_one_corner_can_be_the_start_of_all() -> None:
    how = replace(HOW, corner=(4, 7), moves="none")
    assert torch.equal(found(towards(2, 9), how).corners, torch.tensor([[4, 7]]).expand(N, 2))


def test_moves_keep_out_of_the_avoided_square_and_inside_the_image() -> None:
    for moves in ("random", "full"):
        watched = Watched(towards(6, 6))
        blank = torch.full((N, 3, SIDE, SIDE), -1.0)
        gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
        how = replace(HOW, moves=moves, avoid_px=4, steps=15, stride=1)
        ascend(watched, blank, gain=gain, how=how, ids=IDS, seed=0)
        for _, shown in watched.shown:
            place_of(shown)  # nine pixels: never cut off
            assert (shown[:, :, 4:8, 4:8] == -1).all()


@pytest.mark.parametrize("moves", ["none", "random", "full"])
def test_the_kept_score_is_that_of_the_kept_bytes_and_no_less_than_the_first(moves: str) -> None:
    victim = towards(2, 9)
    how = replace(HOW, moves=moves)
    gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
    first, last = found(victim, replace(how, steps=0)), found(victim, how)
    assert (last.score >= first.score).all()
    assert (last.score > first.score).float().mean() > 0.9
    shown = upright.paste(pixels(), last.pixels, corners=last.corners)
    assert torch.allclose(gain(victim(shown)), last.score, atol=1e-5)


def test_a_bad_last_step_does_not_lose_the_best() -> None:
    """Steps far too long overshoot; what was best on the way is kept."""

    def peaked(shown: Tensor) -> Tensor:
        level = -((shown - 100.0) / 100.0).square().mean(dim=(1, 2, 3)) * 50
        return torch.stack([torch.zeros_like(level), level], dim=1)

    watched = Watched(peaked)
    gain = gain_of("margin", torch.zeros(N, dtype=torch.int64))
    how = replace(HOW, step_size=1.0, moves="none", steps=5)
    best = ascend(watched, pixels(), gain=gain, how=how, ids=IDS, seed=0)
    seen = torch.stack([gain(peaked(shown)) for _, shown in watched.shown])
    assert len(seen) == 6  # the last step is looked at, too
    assert torch.equal(best.score, seen.amax(dim=0))
    assert (seen[-1] < best.score).any()


def test_pixels_are_bytes_and_only_the_patch_changes() -> None:
    best = found(towards(2, 9))
    assert torch.equal(best.pixels, best.pixels.round())
    assert best.pixels.min() >= 0
    assert best.pixels.max() <= 255
    shown = upright.paste(pixels(), best.pixels, corners=best.corners)
    changed = (shown != pixels()).any(dim=1)
    allowed = torch.zeros_like(changed)
    for row, (top, left) in enumerate(best.corners.tolist()):
        allowed[row, top : top + 3, left : left + 3] = True
    assert not (changed & ~allowed).any()
    assert changed.any()


def test_attempts_keep_the_best_of_each_image() -> None:
    victim = towards(2, 9)
    one, many = found(victim), found(victim, replace(HOW, attempts=4))
    assert (many.score >= one.score).all()
    assert (many.score > one.score).any()


def test_the_same_seed_gives_the_same_bytes_and_no_image_sways_another() -> None:
    victim = towards(2, 9)
    torch.manual_seed(1)
    one = found(victim)
    torch.manual_seed(2)  # what the process drew before must not matter
    other, third = found(victim), found(victim, seed=1)
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.corners, other.corners)
    assert not torch.equal(one.pixels, third.pixels)
    order = np.array([5, 2, 11])
    gain = gain_of("margin", torch.zeros(3, dtype=torch.int64))
    few = ascend(victim, pixels()[order], gain=gain, how=HOW, ids=IDS[order], seed=0)
    assert torch.equal(few.pixels, one.pixels[order])
    assert torch.equal(few.corners, one.corners[order])


def test_gains_are_what_they_say() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0, 0.0], [0.5, 3.0, 2.0, 1.0]])
    labels = torch.tensor([0, 2])
    shares = logits.log_softmax(dim=1)
    assert torch.equal(gain_of("cross_entropy", labels)(logits), -shares[[0, 1], [0, 2]])
    assert torch.equal(gain_of("cross_entropy", labels, target=1)(logits), shares[:, 1])
    assert gain_of("margin", labels)(logits).tolist() == [-1.0, 1.0]
    assert gain_of("margin", labels, target=3)(logits).tolist() == [-2.0, -2.0]
    assert gain_of("dlr", labels)(logits).tolist() == [-0.5, 0.5]
    targeted = gain_of("dlr", labels, target=3)(logits)
    wanted = [(0.0 - 2.0) / (2.0 - (0.0 - 1.0) / 2), (1.0 - 2.0) / (3.0 - 1.5 / 2)]
    assert torch.equal(targeted, torch.tensor(wanted))
