"""Bit-width cycling: every order gives the widths it says, as a pure function of seed and step."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest

from qadtr_edge.defences.dbwt import DbwtOptions, other_width, widths_at

WIDTHS = (32, 8, 4, 2)
STEPS = 400


def turns(order: str, *, seed: int = 0, per_epoch: int = 40, periods: int = 8,
          widths: tuple[int, ...] = WIDTHS) -> list[tuple[int, ...]]:  # fmt: skip
    options = DbwtOptions(order=order, periods=periods)
    return [
        widths_at(options, widths, seed=seed, step=step, steps=STEPS, epoch=step // per_epoch)
        for step in range(STEPS)
    ]


def test_a_cycle_visits_every_width_once() -> None:
    found = turns("cycle")
    cycles = [found[at : at + 4] for at in range(0, STEPS, 4)]
    assert all({width for (width,) in cycle} == set(WIDTHS) for cycle in cycles)
    assert len({tuple(cycle) for cycle in cycles}) == 24  # every order of four comes up


def test_random_draws_each_width_equally_often_and_repeats() -> None:
    found = [width for (width,) in turns("random")]
    counts = Counter(found)
    assert set(counts) == set(WIDTHS)
    assert min(counts.values()) > 65  # of 100 expected: four deviations
    assert any(one == other for one, other in pairwise(found))


def test_epoch_holds_one_width_for_an_epoch_widest_first() -> None:
    found = turns("epoch", widths=(2, 32, 8))
    assert found[:40] == [(32,)] * 40
    assert [found[at][0] for at in range(0, STEPS, 40)] == [32, 8, 2, 32, 8, 2, 32, 8, 2, 32]


def test_cosine_climbs_from_the_narrowest_to_the_widest_and_starts_again_without_float() -> None:
    found = [width for (width,) in turns("cosine", periods=2, widths=(2, 4, 5, 8, 32))]
    assert set(found) == {2, 4, 5, 8}
    assert found[:200] == found[200:] == sorted(found[:200])
    assert (found[0], found[199], found[200]) == (2, 8, 2)
    published = [2 + 3 * (1 - math.cos(math.pi * (t % 200) / 200)) for t in range(STEPS)]
    assert all(abs(b - wanted) <= 1.5 for b, wanted in zip(found, published, strict=True))
    assert Counter(found)[8] == 2 * 66, "above 6.5: the last third of each climb"
    assert turns("cosine", widths=(32,))[0] == (32,)


def test_joint_runs_all_widths_at_every_step() -> None:
    assert set(turns("joint", widths=(2, 32, 8))) == {(32, 8, 2)}


@pytest.mark.parametrize("order", ["cycle", "random"])
def test_the_seed_alone_decides(order: str) -> None:
    assert turns(order) == turns(order)
    assert turns(order) != turns(order, seed=1)


@pytest.mark.parametrize("order", ["cycle", "random", "epoch", "cosine", "joint"])
def test_one_width_is_always_that_one(order: str) -> None:
    assert set(turns(order, widths=(4,))) == {(4,)}


def test_another_width_is_another_and_each_comes_up() -> None:
    found = [other_width(WIDTHS, 8, seed=0, step=step, purpose="test") for step in range(300)]
    counts = Counter(found)
    assert set(counts) == {32, 4, 2}
    assert min(counts.values()) > 65  # of 100 expected
    assert found != [other_width(WIDTHS, 8, seed=0, step=s, purpose="else") for s in range(300)]
    assert other_width((8,), 8, seed=0, step=0, purpose="test") == 8
