"""Alignment between widths of a network, and transfer beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nets import ready, small_resnet  # noqa: E402
from qadtr_edge.analysis import gradients, patches, scene, transfer  # noqa: E402
from qadtr_edge.analysis.alignment import MEASURES, traits  # noqa: E402
from qadtr_edge.attacks.victim import logits_of  # noqa: E402
from qadtr_edge.craft import AtWidth  # noqa: E402
from qadtr_edge.errors import BadInput  # noqa: E402
from qadtr_edge.types import Counts, Result  # noqa: E402
from toy import pictures  # noqa: E402


@pytest.fixture(scope="module")
def seen() -> scene.Scene:
    net = ready(small_resnet(), widths=(32, 8, 2))
    data = pictures(60, split="test")
    data.labels[:] = logits_of(AtWidth(net, 32), data.images).argmax(axis=1)
    return scene.Scene(net, "d", (32, 8, 2), data, np.ones(60, bool), seed=0)


def test_input_gradients_are_those_of_finite_differences() -> None:
    weight = torch.arange(12.0).reshape(12, 1) / 255

    def victim(pixels: torch.Tensor) -> torch.Tensor:
        score = pixels.flatten(1) @ weight
        return torch.cat([score, torch.zeros_like(score)], dim=1)

    images = np.zeros((70, 3, 2, 2), np.uint8)
    found = gradients.input_gradients(victim, images, labels=np.ones(70, np.int64))
    # At equal logits d loss / d score is a half; one pixel counts 255 steps of a byte.
    np.testing.assert_allclose(found.reshape(70, 12), np.tile(np.arange(12.0) / 2, (70, 1)))


def test_a_width_is_aligned_with_itself_and_noise_is_not(seen: scene.Scene) -> None:
    data, region = seen.test, np.ones((60, 16, 16), bool)
    own = traits(gradients.input_gradients(AtWidth(seen.net, 8), data.images, labels=data.labels))
    chance = np.random.default_rng(0).standard_normal(own.gradients.shape).astype(np.float32)
    pairs = gradients.compared({8: own, 4: own, 2: traits(chance)}, "clean", region=region, seed=0)
    assert [pair.bits for pair in pairs] == [(8, 4), (8, 2), (4, 2)]
    for estimate in pairs[0].found:
        assert estimate.value == pytest.approx(1.0, abs=1e-6)
        assert estimate.low == pytest.approx(1.0, abs=1e-6)
    cosine = MEASURES.index("cosine")
    assert abs(pairs[1].found[cosine].value) < 0.05
    assert pairs[0].chance[cosine].value < 0.9


def test_the_chance_level_is_between_different_images() -> None:
    for n in (2, 3, 5, 60):
        drawn = list(gradients.strangers(n, seed=0))
        assert len(drawn) == min(gradients.SHUFFLES, n - 1)
        for other in drawn:
            assert sorted(other) == list(range(n))
            assert (other != np.arange(n)).all()
        for image in range(n):
            assert len({int(other[image]) for other in drawn}) == len(drawn)
    assert list(gradients.strangers(1, seed=0)) == []


def test_every_pair_clean_and_patched(seen: scene.Scene) -> None:
    found = gradients.analyse(seen, patches.noise((4, 4), seed=0)).numbers
    assert isinstance(found["pairs"], list)
    assert len(found["pairs"]) == 6
    assert {tuple(row["bits"]) for row in found["pairs"]} == {(32, 8), (32, 2), (8, 2)}
    assert [row["count"] for row in found["vanished"]] == [0] * 6
    near, far = (row["cosine"]["value"] for row in found["pairs"][:2])
    assert near > far  # 8 bits are nearer to float than 2 are
    assert found["transfer"] is None


def test_a_saturated_network_is_said_to_have_no_gradients(seen: scene.Scene) -> None:
    class Certain(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return 1e4 * torch.stack([pixels.mean((1, 2, 3)), -pixels.mean((1, 2, 3))], dim=1)

    images = np.full((4, 3, 8, 8), 200, np.uint8)
    found = gradients.input_gradients(Certain(), images, labels=np.zeros(4, np.int64))
    assert not traits(found).alive.any()


def test_one_width_is_refused(seen: scene.Scene) -> None:
    with pytest.raises(BadInput, match="two or more"):
        gradients.analyse(replace(seen, widths=(8,)), patches.noise((4, 4), seed=0))


def row(victim: str, bits: int, fooled: int, *, attack: str = "gap") -> Result:
    return Result(
        key=f"{victim}{bits}{attack}", engine="ort", bits=bits, precision="integer", attack=attack,
        knowledge="surrogate", victim=victim, goal="untargeted", target=None, tier="T1",
        threat="T-A", patch_size_px=6, patch_rows_px=6, patch_columns_px=6, mask_digest="m",
        patch_seed=0, placement="random", seed=0,
        counts=Counts(100, 100, 100, fooled, 100 - fooled, fooled), queries_median=None,
        engine_digest="e", patch_digest="p", data_digest="d", simulation_digest=None,
    )  # fmt: skip


def test_the_heuristic_is_ranked_against_measured_transfer() -> None:
    heuristic = {(32, 8): 2.5, (32, 2): 1.0, (8, 2): 1.2}
    rows = [
        row("twin-w8a8", 8, 90),  # white box, no transfer
        row("fp32", 8, 40), row("fp32", 2, 10), row("twin-w8a8", 2, 20),
        row("simulation-w2a2", 8, 30), row("none", 8, 99), row("fp32", 8, 1, attack="lavan"),
    ]  # fmt: skip
    found = transfer.compared(heuristic, rows)
    assert found is not None
    assert found["attack"] == "gap"
    assert [(p["crafted_at"], p["replayed_at"], p["asr"]) for p in found["pairs"]] == [
        (32, 8, 0.4), (32, 2, 0.1), (8, 2, 0.2), (2, 8, 0.3),
    ]  # fmt: skip
    # Both directions of (8, 2) are one pair, of success 0.25: ranks 3, 1, 2 on either side.
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pairs_ranked"] == 3
    assert found["p"] == pytest.approx(1 / 3, abs=1e-6)  # 2 of the 6 orders are as extreme


def test_two_directions_of_a_pair_are_not_two_points() -> None:
    heuristic = {(32, 8): 2.5, (32, 2): 1.0}
    rows = [row("fp32", 8, 40), row("fp32", 2, 10), row("twin-w8a8", 32, 30)]
    found = transfer.compared(heuristic, rows)
    assert found is not None
    assert len(found["pairs"]) == 3
    assert found["spearman"] is None
    assert found["p"] is None
    # Success of (32, 2) is 0.3, the mean of 0.55 and 0.05: between the others.
    rows = [
        row("fp32", 8, 35), row("fp32", 2, 55), row("twin-w2a2", 32, 5), row("twin-w8a8", 2, 20),
    ]  # fmt: skip
    found = transfer.compared({**heuristic, (8, 2): 0.5}, rows)
    assert found is not None
    assert found["spearman"] == pytest.approx(1.0)


def test_the_rank_correlation_is_scipys_and_its_p_that_of_all_orders() -> None:
    from scipy.stats import spearmanr

    drawn = np.random.default_rng(1)
    for n in (4, 6, 10):
        expected, won = (drawn.integers(0, 6, n).tolist() for _ in range(2))
        correlation, p_value = transfer.ranked(expected, won)
        assert correlation == pytest.approx(float(spearmanr(expected, won).statistic))
        if n <= 6:
            orders = [spearmanr(expected, each).statistic for each in permutations(won)]
            tails = [np.mean(sign * np.array(orders) >= sign * correlation - 1e-9)
                     for sign in (1, -1)]  # fmt: skip
            assert p_value == pytest.approx(min(1.0, 2 * min(tails)))
    assert transfer.ranked(range(10), range(10))[1] == pytest.approx(2e-4)  # 1 drawn order in 10^4
    assert np.isnan(transfer.ranked((1, 1, 1), (1, 2, 3))[0])


def test_too_few_pairs_have_no_correlation() -> None:
    found = transfer.compared({(32, 8): 2.0}, [row("fp32", 8, 10)])
    assert found is not None
    assert found["spearman"] is None
    assert transfer.compared({(32, 8): 2.0}, [row("twin-w8a8", 8, 10)]) is None


@pytest.mark.parametrize(
    ("name", "bits"),
    [("twin-w4a4", 4), ("simulation-w2a2", 2), ("fp32", 32), ("none", None), ("w8a8", None)],
)
def test_the_width_of_a_victim(name: str, bits: int | None) -> None:
    assert transfer.crafted_at(name) == bits
