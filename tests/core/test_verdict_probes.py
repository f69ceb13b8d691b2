"""The probes on a toy engine: what they count, and what they show of attacks planted to fail."""
# ruff: noqa: E402

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from qadtr_edge import metrics
from qadtr_edge.attacks import planted
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.queries import Ledger, Model
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput
from qadtr_edge.patch.placement import policy
from qadtr_edge.types import Json, Pixels
from qadtr_edge.verdict import asking, probes, sampling
from qadtr_edge.verdict.ascending import White
from toy import Quadrants, pictures, reordered

DATA = pictures(24, split="test")
CRAFT = pictures(60, split="craft")
SMALL = replace(
    probes.BUDGETS["quick"], images=16, steps=8, queries=30, draws=20, random_images=8,
    planted_images=6,
)  # fmt: skip


def bright(pixels: Tensor) -> Tensor:
    """The logits of ``Quadrants``, with a gradient; bytes are rounded straight through."""
    rounded = pixels + (pixels.detach().round() - pixels.detach())
    half = pixels.shape[2] // 2
    blocks = rounded.double().reshape(len(pixels), 3, 2, half, 2, half)
    return blocks.mean(dim=(1, 3, 5)).reshape(-1, 4).float()


def white(victim: object = bright, *, data: Dataset = DATA, steps: int = 8) -> White:
    return White(victim, data, patch_px=(5, 5), steps=steps, restarts=2, seed=0)  # type: ignore[arg-type]


def right(data: Dataset = DATA) -> Dataset:
    rows = np.flatnonzero(metrics.predicted(Quadrants()(data.images)) == data.labels)
    return asking.part(data, rows)


def test_all_probes_make_one_json_document() -> None:
    names: list[str] = []
    found = probes.run(
        Quadrants(), bright, data=DATA, patch_px=(5, 5), seed=0, budget=SMALL, told=names.append,
        plain=lambda pixels: bright(pixels.round()), crafting=CRAFT,
    )  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert tuple(names) == probes.NAMES
    assert set(found) == {
        "subset", "randomness", "random", "zero_gradients", "steps", "sizes", "unbounded", "loss",
        "indicators", "doubled", "eot", "planted",
    }  # fmt: skip
    assert found["subset"]["images"] == 16
    assert [step["size_px"] for step in found["sizes"]] == [2, 4, 8]
    assert found["sizes"][-1]["fooled"] > found["sizes"][0]["fooled"]
    assert found["unbounded"]["fooled"] == 16
    assert found["zero_gradients"]["plain"] == 16
    assert found["zero_gradients"]["straight_through"] < 8
    assert found["loss"]["disagree"] == 0
    assert [(step["samples"], step["places"]) for step in found["eot"]] == [(1, 5), (5, 5), (20, 5)]
    assert found["eot"][-1]["fooled"] > 0
    assert [step["masking"] for step in found["planted"]] == [
        one.name for one in planted.planted(Quadrants(), bright, clean=Quadrants()(DATA.images))
    ]
    assert "eot" not in probes.run(
        Quadrants(), bright, data=DATA, patch_px=(5, 5), seed=0,
        budget=replace(SMALL, images=4, steps=1, queries=4, draws=1),
    )  # fmt: skip


def test_more_steps_and_restarts_continue_what_fewer_did() -> None:
    one, two = white(steps=4), white(steps=8)
    few, many = one.base, two.base
    assert np.array_equal(few.leads[:4], many.leads[:4])
    assert (many.score >= few.score).all()
    engine = Quadrants()
    one = white(steps=2, data=right())
    (few_steps, many_steps), (few_starts, many_starts) = one.doubled(Ledger(engine)).values()
    starts = [
        asking.fooled(engine, one.data, found=one.run(one.how, start=start).patches)
        for start in range(4)
    ]
    assert np.array_equal(few_steps, starts[0])
    assert np.array_equal(few_starts, metrics.union(np.stack(starts[:2])))
    assert np.array_equal(many_starts, metrics.union(np.stack(starts)))
    longer = one.run(replace(one.how, steps=4))
    assert np.array_equal(many_steps, asking.fooled(engine, one.data, found=longer.patches))
    assert few_starts.sum() < many_starts.sum()


def test_queries_are_continued_and_not_drawn_anew() -> None:
    engine, data = Quadrants(), right()

    def doubled(model: Model) -> dict[str, asking.Doubled]:
        return asking.doubled(
            model, data, clean=model(data.images), patch_px=(5, 5), seed=0, queries=20, batch=64
        )

    before, after = doubled(engine)["queries"]
    assert not (before & ~after).any()
    assert after.sum() > before.sum(), "twice as many queries find more on this engine"
    assert not doubled(
        lambda images: np.eye(4, dtype=np.float32)[metrics.predicted(engine(images))]
    )


def test_the_last_entry_is_the_union_of_all_that_was_doubled() -> None:
    flags = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)
    steps, queries, union = asking.twice(
        {"steps": (flags[0], flags[1]), "queries": (flags[2], flags[3])}
    )
    assert steps == {"what": "steps", "eligible": 4, "fooled": 1, "gained": 1, "lost": 0}
    assert queries == {"what": "queries", "eligible": 4, "fooled": 1, "gained": 1, "lost": 0}
    assert union == {"what": "budget", "eligible": 4, "fooled": 2, "gained": 2, "lost": 0}


class Watching:
    """A victim that keeps what it is shown where a gradient is asked for."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        if pixels.requires_grad:
            self.shown.append(pixels.detach().numpy().copy())
        return bright(pixels)


def test_samples_are_places_of_the_same_images() -> None:
    """One place a step is the first of five; five are all others, of one start and one batch."""
    attack, seen = Gap(patch_px=(5, 5), steps=3), {}
    how = policy(attack.placement, image_px=16)
    for samples in (1, 5):
        victim = Watching()
        sampling._crafted(attack, victim, CRAFT, how=how, samples=samples, seed=0)
        assert len(victim.shown) == attack.steps * samples
        seen[samples] = victim.shown
    assert np.array_equal(seen[1][0], seen[5][0])
    first = np.stack(seen[5][:5])
    assert len({each.tobytes() for each in first}) == 5
    same = (first == first[0]).all(axis=(0, 2))
    assert same.mean() > 0.3, "whatever no patch covers is one batch of images"


def test_the_patch_is_judged_where_the_engine_shows_it() -> None:
    """The engine that is never wrong is not fooled, whatever the victim thinks."""
    data = right()
    found = sampling.by_samples(
        bright, Ledger(lambda images: np.eye(4, dtype=np.float32)[data.labels]),
        data=data, crafting=CRAFT, patch_px=(6, 6), steps=4, seed=0,
    )  # fmt: skip
    assert [step["fooled"] for step in found if isinstance(step, dict)] == [0, 0, 0]


def test_random_patches_sway_no_neighbour() -> None:
    def fooled(data: Dataset) -> set[object]:
        found = asking.random(Ledger(Quadrants()), data, patch_px=(6, 6), seed=3, draws=15)
        assert isinstance(found["fooled"], list)
        return set(found["fooled"])

    whole = fooled(right())
    assert 0 < len(whole) < len(right())
    data = reordered(right(), np.arange(len(right()))[::-1][:10])
    assert fooled(data) == {*whole} & set(data.ids.tolist())


class Forgetful(Quadrants):
    """An engine whose answer to an image depends on how many it was shown with it."""

    def __call__(self, images: Pixels) -> np.ndarray:
        logits = super().__call__(images)
        return logits[:, ::-1] if len(images) == 1 else logits


class Drifting(Quadrants):
    """An engine that answers otherwise with each call."""

    def __call__(self, images: Pixels) -> np.ndarray:
        return np.roll(super().__call__(images), len(self.shown), axis=1)


def test_a_random_path_is_found() -> None:
    same = asking.randomness(Quadrants(), DATA, seed=0, batch=64)
    assert same == {"images": len(DATA), "repeated": 0, "permuted": 0, "single": 0}
    alone = asking.randomness(Forgetful(), DATA, seed=0, batch=64)
    assert (alone["repeated"], alone["permuted"]) == (0, 0)
    assert alone["single"] == len(DATA)
    assert asking.randomness(Drifting(), DATA, seed=0, batch=64)["permuted"] == len(DATA)


def counted(victim: object, *, engine: object = None) -> dict[str, Json]:
    probe = white(victim, data=right())
    none = np.zeros(len(right()), bool)
    ledger = Ledger(engine or Quadrants())  # type: ignore[arg-type]
    return probe.indicators(ledger, fallen=none, unbounded=probe.unbounded())


def test_each_indicator_counts_its_failure() -> None:
    sound = counted(bright)
    assert sound["silent_success"] == sound["transfer_failure"] == 0
    assert sound["unconstrained_failure"] == sound["unstable_predictions"] == 0
    assert sound["unavailable_gradients"] < len(right()) / 2, "some patch stands where none looks"

    still = counted(lambda pixels: bright(pixels.detach()) + 0.0 * pixels.sum())
    assert still["unavailable_gradients"] == len(right())
    assert still["unconstrained_failure"] > 0

    calls = iter(range(10**6))
    noisy = counted(lambda pixels: bright(pixels) + 40.0 * (next(calls) % 2) * torch.eye(4)[0])
    assert noisy["unstable_predictions"] == len(right())
    assert noisy["silent_success"] > 0, "fooled while it was shifted, not when it is judged"

    deaf = counted(bright, engine=lambda images: np.eye(4, dtype=np.float32)[right().labels])
    won = white(data=right())
    assert deaf["transfer_failure"] == int(won.won(won.base).sum()) > 0


def test_a_loss_that_is_cut_short_is_still_moving() -> None:
    none = np.zeros(len(right()), bool)
    short, long = white(steps=2, data=right()), white(steps=60, data=right())
    few, many = (
        probe.indicators(Ledger(Quadrants()), fallen=none, unbounded=~none)
        for probe in (short, long)
    )
    assert few["incomplete_optimisation"] > 0
    assert many["incomplete_optimisation"] == 0
    fallen = short.indicators(Ledger(Quadrants()), fallen=~none, unbounded=~none)
    assert fallen["incomplete_optimisation"] == 0, "another start fools them"


def test_a_loss_that_looks_elsewhere_disagrees_with_the_labels() -> None:
    """An attack's own bookkeeping is not believed: what is judged are the bytes it left."""
    calls = iter(range(10**6))

    def lying(pixels: Tensor) -> Tensor:
        return bright(pixels) + 200.0 * (next(calls) < 9) * torch.eye(4)[0]

    found = white(lying, data=right()).loss(Quadrants()(right().images))
    assert found["disagree"] > 0
    assert found["softmax"] is False
    shares = np.full((3, 4), 0.25, np.float32)
    assert white(data=asking.part(right(), np.arange(3))).loss(shares)["softmax"] is True


def test_no_image_both_get_right_is_one_sentence() -> None:
    wrong = replace(DATA, labels=(DATA.labels + 1) % 4)
    with pytest.raises(BadInput, match="right together on none"):
        probes.run(Quadrants(), bright, data=wrong, patch_px=(5, 5), seed=0, budget=SMALL)


def test_masked_heads_answer_alike_to_questions_and_to_gradients() -> None:
    """And as they say: 256 shares, 16 levels, one label."""
    clean = Quadrants()(DATA.images)
    levels = {"8-bit softmax head": 257, "16-level logit head": 16, "label-only head": 2}
    for one in planted.planted(Quadrants(), bright, clean=clean):
        pixels = torch.from_numpy(DATA.images).float().requires_grad_(True)
        logits = one.victim(pixels)
        np.testing.assert_allclose(logits.detach().numpy(), one.model(DATA.images), atol=1e-5)
        (gradient,) = torch.autograd.grad(logits.sum(), pixels)
        assert not gradient.any(), one.name
        if one.name in levels:
            steps = np.unique(one.model(DATA.images))
            assert len(steps) <= levels[one.name]
            assert np.allclose(np.diff(steps) % np.diff(steps).min(), 0.0, atol=1e-6)
        else:
            np.testing.assert_array_equal(one.model(DATA.images), clean)
