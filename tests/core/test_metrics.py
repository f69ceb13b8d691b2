"""Every rate against a loop over images, every interval and test against published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qadtr_edge import metrics

K = 4


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, clean and patched predictions of up to 30 images: often a bad net."""
    n = draw(st.integers(1, 30))
    each = st.lists(st.integers(0, K - 1), min_size=n, max_size=n)
    return tuple(np.array(draw(each), np.int64) for _ in range(3))  # type: ignore[return-value]


TARGETS = st.none() | st.integers(0, K - 1)


@given(outcomes(), TARGETS)
def test_attack_success_counts_only_eligible_images(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], target: int | None
) -> None:
    labels, clean, patched = found
    able = won = 0
    for y, c, p in zip(labels, clean, patched, strict=True):
        if c == y and y != target:
            able += 1
            won += (p != y) if target is None else (p == target)
    if not able:
        with pytest.raises(ValueError, match="nothing"):
            metrics.attack_success_rate(clean, patched, labels=labels, target=target)
        return
    rate = metrics.attack_success_rate(clean, patched, labels=labels, target=target)
    assert rate == won / able


@given(outcomes(), st.integers(0, K - 1))
def test_all_sample_rates(found: tuple[np.ndarray, np.ndarray, np.ndarray], target: int) -> None:
    labels, clean, patched = found
    images = list(zip(labels, clean, patched, strict=True))
    assert metrics.accuracy(clean, labels) == sum(c == y for y, c, _ in images) / len(images)
    assert metrics.prediction_change_rate(clean, patched) == sum(
        c != p for _, c, p in images
    ) / len(images)
    assert metrics.target_hit_rate(patched, target=target) == sum(
        p == target for *_, p in images
    ) / len(images)


@given(outcomes())
def test_the_identities_between_the_rates(
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, clean, patched = found
    assume((clean == labels).any())
    accuracy = metrics.accuracy(clean, labels)
    robust = metrics.accuracy(patched, labels)
    success = metrics.attack_success_rate(clean, patched, labels=labels)
    error = metrics.robust_error(clean, patched, labels=labels)
    healed = np.mean((clean != labels) & (patched == labels))
    assert math.isclose(error, 1 - accuracy * (1 - success))
    assert math.isclose(robust, accuracy * (1 - success) + healed, abs_tol=1e-12)
    assert robust >= 1 - error - 1e-12


def test_a_bad_net_keeps_its_attack_rate_apart_from_its_errors() -> None:
    """Counting wrong images as fooled would say 90 %; the patch won 1 of 2."""
    labels = np.zeros(10, np.int64)
    clean = np.array([0, 0] + [1] * 8)
    patched = np.array([0, 1] + [1] * 8)
    assert metrics.attack_success_rate(clean, patched, labels=labels) == 0.5
    assert metrics.accuracy(patched, labels) == 0.1


@given(st.lists(st.lists(st.integers(-3, 3), min_size=K, max_size=K), min_size=1, max_size=9))
def test_the_label_is_the_first_maximum_and_margins_agree_with_a_loop(
    rows: list[list[int]],
) -> None:
    logits = np.array(rows, np.float32)
    labels = np.arange(len(rows)) % K
    assert metrics.predicted(logits).tolist() == [row.index(max(row)) for row in rows]
    free = [max(row[:y] + row[y + 1 :]) - row[y] for row, y in zip(rows, labels, strict=True)]
    assert metrics.margins(logits, labels).tolist() == free
    aimed = [row[2] - max(row[:2] + row[3:]) for row in rows]
    assert metrics.margins(logits, labels, target=2).tolist() == aimed
    assert metrics.margins(logits, labels).dtype == np.float32


def test_a_tie_is_not_a_success() -> None:
    logits = np.array([[2.0, 2.0]], np.float32)
    truth = np.array([0])
    assert metrics.margins(logits, truth).tolist() == [0.0]
    assert not metrics.succeeded(metrics.predicted(logits), truth).any()


@given(outcomes())
def test_the_two_by_two_table_and_the_union(
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    first, second = found[0] > 1, found[1] > 1
    table = metrics.paired(first, second)
    pairs = list(zip(first, second, strict=True))
    assert table.both == pairs.count((True, True))
    assert table.first_only == pairs.count((True, False))
    assert table.second_only == pairs.count((False, True))
    assert table.n == len(pairs)
    union = metrics.union(np.stack([first, second]))
    assert union.tolist() == [a or b for a, b in pairs]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (100, 1000, 8.3, 12.0), (500, 1000, 46.9, 53.1), (0, 1000, 0.0, 0.38), (10, 100, 5.5, 17.4),
        (798, 7980, 9.4, 10.7), (51, 150, 26.9, 41.9),
    ],
)  # fmt: skip
def test_wilson_on_known_intervals(count: int, total: int, low: float, high: float) -> None:
    found = metrics.wilson(count, total)
    assert 100 * found.low == pytest.approx(low, abs=0.05)
    assert 100 * found.high == pytest.approx(high, abs=0.05)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_formula(pair: tuple[int, int]) -> None:
    count, total = pair
    z, share = 1.959963984540054, count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    root = math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    half = z * root / (1 + z * z / total)
    found = metrics.wilson(count, total)
    assert found.low == pytest.approx(max(0.0, middle - half), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, middle + half), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "p"), [(30, 10, 0.002), (7, 0, 0.016), (25, 0, 6e-8)])
def test_mcnemar_on_known_counts(b: int, c: int, p: float) -> None:
    assert metrics.mcnemar(b, c) == pytest.approx(p, rel=0.15)
    assert metrics.mcnemar(b, c) == metrics.mcnemar(c, b)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert metrics.mcnemar(b, c) == pytest.approx(min(1.0, 2 * tail))


def test_a_rate_of_nothing_is_an_error_and_excess_may_be_negative() -> None:
    for call in (metrics.rate, metrics.wilson):
        with pytest.raises(ValueError, match="nothing"):
            call(0, 0)
    assert metrics.excess(0.1, 0.25) == pytest.approx(-0.15)


def test_a_drawn_engine_weighs_the_images_each_can_lose() -> None:
    found = metrics.drawn([10, 3, 0], [40, 4, 0])
    assert found.rate == 13 / 44
    assert found.worst == 3 / 4
    with pytest.raises(ValueError, match="a rate of nothing"):
        metrics.drawn([], [])
    with pytest.raises(ValueError, match="a rate of nothing"):
        metrics.drawn([0], [0])
    with pytest.raises(ValueError, match="zip"):
        metrics.drawn([1], [2, 3])
