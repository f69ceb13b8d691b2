"""Differences, equivalence, Holm, bootstrap, curves: against brute force and published numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge import metrics, resampling, statistics
from qadtr_edge.types import Counts, Result

SPLITS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 400))


@given(SPLITS)
def test_the_difference_holds_its_value_and_turns_with_its_sides(
    split: tuple[int, int, int],
) -> None:
    b, c, more = split
    n = b + c + more
    found, turned = statistics.difference(b, c, n=n), statistics.difference(c, b, n=n)
    assert found.value == (b - c) / n
    assert found.low <= found.value <= found.high
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert found.high > found.low, "an interval of no width claims what no sample shows"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Coverage over all tables of 60 images, from the multinomial itself."""
    n, shares = 60, (0.08, 0.03)
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            rest = n - b - c
            ways = math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in (b, c, rest))
            weight = math.exp(
                ways + b * math.log(shares[0]) + c * math.log(shares[1]) + rest * math.log(0.89)
            )
            found = statistics.difference(b, c, n=n)
            covered += weight * (found.low <= shares[0] - shares[1] <= found.high)
    assert 0.94 < covered < 0.985


def test_what_cannot_be_counted_is_an_error() -> None:
    for b, c, n in ((1, 0, 0), (3, 3, 5), (-1, 0, 5)):
        with pytest.raises(ValueError, match="differ"):
            statistics.difference(b, c, n=n)


def test_compared_is_the_table_of_two_outcomes() -> None:
    first = np.array([1, 1, 0, 1, 0], bool)
    second = np.array([1, 0, 0, 0, 1], bool)
    assert statistics.compared(first, second) == statistics.difference(2, 1, n=5)


@pytest.mark.parametrize(
    ("discordant", "n", "equal"), [(36, 1000, True), (40, 1000, False), (2280, 7980, True)]
)
def test_equivalence_to_a_point_needs_few_images_that_differ(
    discordant: int, n: int, equal: bool
) -> None:
    """Published here: below 3.7 % of 1,000 images, below 29 % of 7,980, at no net difference."""
    found = statistics.equivalence(discordant // 2, discordant // 2, n=n)
    assert found.equivalent is equal
    assert found.margin == 0.01


def test_a_large_p_is_not_equivalence() -> None:
    b, c, n = 12, 10, 150
    assert metrics.mcnemar(b, c) > 0.5
    assert not statistics.equivalence(b, c, n=n).equivalent
    assert not statistics.equivalence(40, 0, n=1000).equivalent, "a shift of 4 points is no 1 point"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(values: list[float]) -> None:
    family = {str(at): p for at, p in enumerate(values)}
    adjusted = statistics.holm(family)
    for level in (0.01, 0.05, 0.3):
        rejected, going = set(), True
        for rank, name in enumerate(sorted(family, key=lambda each: family[each])):
            going = going and family[name] <= level / (len(family) - rank)
            rejected |= {name} if going else set()
        slack = 1e-12
        assert {name for name in family if adjusted[name] <= level - slack} <= rejected
        assert rejected <= {name for name in family if adjusted[name] <= level + slack}


def test_the_sentence_for_nothing_shown() -> None:
    """The wording and its numbers are the project's own example."""
    said = statistics.no_difference(statistics.difference(21, 17, n=1000))
    assert said == (
        "No difference shown: 0.4 points [-0.8, 1.6], b = 21, c = 17, n = 1000; "
        "this n detects about 1.7 points with 80 % power."
    )
    none = statistics.no_difference(statistics.difference(0, 0, n=1000))
    assert "at most 0.38 % of images differ" in none


def test_the_detectable_difference_has_the_power_it_names() -> None:
    """Simulated: at that difference four of five samples reject at 5 %."""
    n, discordant = 2000, 160
    shift = statistics.detectable(discordant, 0, n=n)
    chance = np.random.default_rng(0)
    b = (discordant / n + shift) / 2
    tables = chance.multinomial(n, [b, discordant / n - b, 1 - discordant / n], size=800)
    power = np.mean([metrics.mcnemar(int(x), int(y)) < 0.05 for x, y, _ in tables])
    assert 0.72 < power < 0.86


def test_few_images_are_said_to_be_few() -> None:
    assert statistics.size_note(1000) is None
    assert "indicative" in str(statistics.size_note(150))
    assert "±7.9 points" in str(statistics.size_note(150))


def rows(images: int, places: int, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Outcomes that hang together by image: each is fooled at all places or at none, nearly."""
    chance = np.random.default_rng(seed)
    ids = np.repeat(np.arange(images), places)
    each = chance.random(images) < 0.4
    first = np.repeat(each, places).astype(float)
    second = np.repeat(each & (chance.random(images) < 0.7), places).astype(float)
    return first, second, ids


def test_the_bootstrap_counts_images_and_not_rows() -> None:
    first, second, ids = rows(120, 20)
    one = resampling.difference(first[::20], second[::20], ids=ids[::20])
    many = resampling.difference(first, second, ids=ids)
    naive = resampling.difference(first, second, ids=np.arange(len(ids)))
    assert many == one, "twenty copies of a row are no more evidence than one"
    assert many.high - many.low > 3 * (naive.high - naive.low)
    assert many.low < many.value < many.high
    assert resampling.difference(first, second, ids=ids) == many
    order = np.random.default_rng(1).permutation(len(ids))
    assert resampling.difference(first[order], second[order], ids=ids[order]) == many


def test_the_bootstrap_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    first, second, ids = rows(150, 1, seed=3)
    mine = resampling.difference(first, second, ids=ids)
    theirs = bootstrap(
        (first - second,), np.mean, n_resamples=4000, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_resampling_patches_too_is_wider_where_patches_differ() -> None:
    images, patches = 80, 5
    ids, made = np.repeat(np.arange(images), patches), np.tile(np.arange(patches), images)
    chance = np.random.default_rng(2)
    first = (chance.random(len(ids)) < np.array([0.1, 0.3, 0.5, 0.7, 0.9])[made]).astype(float)
    second = np.zeros(len(ids))
    these = resampling.difference(first, second, ids=ids)
    any_ = resampling.difference(first, second, ids=ids, patches=made)
    assert any_.high - any_.low > 2 * (these.high - these.low)


def test_no_image_that_differs_is_not_certainty() -> None:
    same = np.ones(200)
    found = resampling.difference(same, same, ids=np.arange(200))
    bound = metrics.wilson(0, 200).high
    assert (found.value, found.low, found.high) == (0.0, -bound, bound)


QUERIES = st.lists(st.tuples(st.integers(1, 100), st.booleans()), min_size=1, max_size=20)


@given(QUERIES)
def test_the_median_is_censored_and_never_of_successes_alone(each: list[tuple[int, bool]]) -> None:
    queries = np.array([q if won else 100 for q, won in each])
    fooled = np.array([won for _, won in each])
    found = statistics.censored_median(queries, fooled, budget=100)
    needed = sorted(q if won else math.inf for q, won in each)
    low, high = needed[(len(needed) - 1) // 2], needed[len(needed) // 2]
    assert found.reached is math.isfinite(high)
    assert found.value == ((low + high) / 2 if math.isfinite(high) else 100)


def test_a_median_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        statistics.censored_median(np.zeros(0, np.int64), np.zeros(0, bool), budget=9)


@given(QUERIES)
def test_the_curve_rises_to_the_success_rate(each: list[tuple[int, bool]]) -> None:
    queries, fooled = (np.array(column) for column in zip(*each, strict=True))
    curve = statistics.success_curve(queries, fooled, at=(0, 10, 50, 100))
    assert curve[0] == 0.0
    assert list(curve) == sorted(curve)
    assert curve[-1] == fooled.mean()
    assert curve[1] == sum(won and q <= 10 for q, won in each) / len(each)


def result(victim: str, bits: int, *, fooled: int, sim: int | None = None) -> Result:
    counts = Counts(
        n=100, clean_correct=90, eligible=90, fooled=fooled, patched_correct=90 - fooled,
        changed=fooled, sim_eligible=None if sim is None else 91, sim_fooled=sim,
    )  # fmt: skip
    return Result(
        key="k", engine="ort", bits=bits, precision="integer", attack="gap", knowledge="surrogate",
        victim=victim, goal="untargeted", target=None, tier="T1", threat="T-A", patch_size_px=6,
        patch_rows_px=6, patch_columns_px=6, mask_digest="m", patch_seed=0, placement="random",
        seed=0, counts=counts, queries_median=None, engine_digest="e", patch_digest="p",
        data_digest="d", simulation_digest=None,
    )  # fmt: skip


def test_the_transfer_matrix_pools_seeds_and_marks_engines() -> None:
    made = [
        result("fp32", 8, fooled=9, sim=13), result("fp32", 8, fooled=18),
        result("twin-w4a4", 8, fooled=36), result("fp32", 4, fooled=45),
    ]  # fmt: skip
    cells = {(c.victim, c.judge): c for c in statistics.transfer_matrix(made)}
    assert len(cells) == 4
    assert cells["fp32", "ort 8-bit"] == statistics.Cell("fp32", "ort 8-bit", True, 27, 180)
    assert cells["fp32", "simulation 8-bit"] == statistics.Cell(
        "fp32", "simulation 8-bit", False, 13, 91
    )
    best = statistics.aggregated(tuple(cells.values()))
    assert best == {"ort 8-bit": 0.4, "simulation 8-bit": 13 / 91, "ort 4-bit": 0.5}
    with pytest.raises(ValueError, match="several attacks"):
        statistics.transfer_matrix([made[0], replace(made[1], placement="plain")])


def test_any_surrogate_is_a_union_over_images() -> None:
    won = np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool)
    assert statistics.any_surrogate(won, np.array([1, 1, 1, 0], bool)) == (2, 3)
