"""Replay counts what an engine says of pasted bytes, whatever the batch and the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qadtr_edge import metrics
from qadtr_edge.attacks import controls
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import policy
from qadtr_edge.replay import Attacked, Subject, Unit, engine_digest, identity, places_of, replay
from qadtr_edge.results import Outcomes
from qadtr_edge.types import Patch, PatchPerImage, Pixels, Result
from toy import Quadrants, pictures, reordered

GAP = Attacked("gap", knowledge="simulation", victim="twin-w8a8", tier="T1", threat="T-A")
DATA = pictures(120, split="test")
WHITE = Patch(np.full((3, 6, 6), 255, np.uint8), np.ones((6, 6), bool), None, {"seed": 4})
NOISE = controls.noise(WHITE, seed=0)


def unit(patch: Patch | PatchPerImage = WHITE, *, name: str = "random", seed: int = 0) -> Unit:
    return Unit(GAP, patch, policy(name, image_px=16), seed)


def run(
    work: Unit, engine: Quadrants, *, batch: int = 64, data: object = DATA,
    simulation: Quadrants | None = None,
) -> tuple[Result, Outcomes]:  # fmt: skip
    subject = Subject(engine, engine_digest(engine.facts), data, batch)  # type: ignore[arg-type]
    sim = simulation and Subject(simulation, "sim", data, batch)  # type: ignore[arg-type]
    return replay(work, engine.facts, subject=subject, simulation=sim)


@pytest.mark.parametrize("patch", [WHITE, NOISE, replace(WHITE, target=2)])
def test_counts_equal_a_bare_loop(patch: Patch | PatchPerImage) -> None:
    row, found = run(unit(patch), Quadrants())
    engine, work = Quadrants(), unit(patch)
    pixels = patch.pixels if isinstance(patch, Patch) else patch.pixels_of(DATA.ids)
    shown = paste(DATA.images, pixels, mask=patch.mask, placements=places_of(work, DATA))
    clean, patched = engine(DATA.images).argmax(1), engine(shown).argmax(1)
    able = (clean == DATA.labels) & (DATA.labels != patch.target)
    won = patched != DATA.labels if patch.target is None else patched == patch.target
    assert row.counts.eligible == able.sum()
    assert row.counts.fooled == (able & won).sum()
    assert row.counts.patched_correct == (patched == DATA.labels).sum()
    assert np.array_equal(found.patched.labels, patched)
    margins = metrics.margins(engine(shown), DATA.labels, target=patch.target)
    assert np.array_equal(found.patched.margins, margins)


@settings(max_examples=25)
@given(batch=st.integers(1, 130), order=st.permutations(list(range(len(DATA)))))
def test_neither_batch_nor_order_changes_a_label(batch: int, order: list[int]) -> None:
    order_ = np.array(order)
    for patch in (WHITE, NOISE):
        row, found = run(unit(patch), Quadrants())
        other, shuffled = run(unit(patch), Quadrants(), batch=batch, data=reordered(DATA, order_))
        assert other.counts == row.counts
        assert np.array_equal(shuffled.patched.labels, found.patched.labels[order_])
        assert np.array_equal(shuffled.patched.margins, found.patched.margins[order_])


def test_a_limit_keeps_the_labels_of_the_images_it_keeps() -> None:
    """A larger run repeats a smaller one's images exactly."""
    first = reordered(DATA, np.arange(40))
    small, large = run(unit(), Quadrants(), data=first)[1], run(unit(), Quadrants())[1]
    assert np.array_equal(small.patched.labels, large.patched.labels[:40])


def test_clean_answers_are_asked_for_once() -> None:
    engine = Quadrants()
    subject = Subject(engine, "e", DATA, 50)
    for seed in range(3):
        replay(unit(seed=seed), engine.facts, subject=subject)
    assert engine.shown == [50, 50, 20] * 4


def test_the_simulation_sees_the_same_bytes_and_is_paired() -> None:
    row, found = run(unit(), Quadrants(), simulation=Quadrants(bias=3.0))
    assert found.sim_clean is not None
    assert found.sim_patched is not None
    truth, counts = DATA.labels, row.counts
    common = (found.clean.labels == truth) & (found.sim_clean.labels == truth)
    sim, real = found.sim_patched.labels != truth, found.patched.labels != truth
    assert counts.sim_only == (common & sim & ~real).sum()
    assert counts.engine_only == (common & real & ~sim).sum()
    assert counts.both_fooled == (common & real & sim).sum()
    assert counts.both_eligible == common.sum()
    assert counts.sim_only != counts.engine_only
    same, _ = run(unit(), Quadrants(), simulation=Quadrants())
    assert (same.counts.sim_only, same.counts.engine_only) == (0, 0)
    assert same.counts.sim_fooled == same.counts.fooled


def test_the_key_holds_all_that_can_change_the_counts_and_nothing_else() -> None:
    engine = Quadrants()

    def key(work: Unit, **changes: object) -> str:
        fields = {"model": engine, "digest": "e", "data": DATA, "batch": 64, **changes}
        return identity(work, Subject(**fields))  # type: ignore[arg-type]

    base = key(unit())
    assert key(unit(), batch=7) == base
    assert key(unit(replace(WHITE, origin={"torch": "3"}))) == base
    changed = [
        key(unit(seed=1)),
        key(unit(name="plain")),
        key(unit(NOISE)),
        key(unit(controls.noise(WHITE, seed=1))),
        key(unit(replace(WHITE, target=1))),
        key(unit(replace(WHITE, mask=np.eye(6, dtype=bool)))),
        key(unit(), digest="f"),
        key(unit(), data=reordered(DATA, np.arange(119))),
        key(unit(), data=replace(DATA, ids=DATA.ids + 1)),
        identity(unit(), Subject(engine, "e", DATA), simulation=Subject(engine, "s", DATA)),
    ]
    assert len({base, *changed}) == len(changed) + 1


def test_threads_matter_to_floats_only() -> None:
    facts = Quadrants().facts
    more = replace(facts, options={"intra_op_num_threads": 2}, device={**facts.device, "cores": 9})
    assert engine_digest(facts) == engine_digest(more)
    floats = replace(facts, precision="float"), replace(more, precision="float")
    assert engine_digest(floats[0]) != engine_digest(floats[1])
    assert engine_digest(facts) != engine_digest(replace(facts, runtime="numpy 9"))


def test_an_engine_that_is_never_right_cannot_be_attacked() -> None:
    wrong = replace(DATA, labels=(DATA.labels + 1) % 4)
    with pytest.raises(BadInput, match="nothing to count"):
        run(unit(), Quadrants(), data=wrong)


def test_logits_that_are_not_numbers_stop_the_replay() -> None:
    def broken(images: Pixels) -> np.ndarray:
        return np.full((len(images), 4), np.nan, np.float32)

    with pytest.raises(EngineFailed, match="finite"):
        replay(unit(), Quadrants().facts, subject=Subject(broken, "e", DATA))


def test_controls_share_mask_and_target_and_hold_what_they_say() -> None:
    patch = replace(WHITE, mask=np.eye(6, dtype=bool), target=3)
    pool = pictures(50, split="craft")
    made = controls.controls(patch, pool=pool, seed=0)
    assert list(made) == ["grey", "noise", "crop", "shuffled"]
    for control in made.values():
        assert np.array_equal(control.mask, patch.mask)
        assert control.target == 3
    ids = np.array([5, 9, 5])
    crops = made["crop"].pixels_of(ids)  # type: ignore[union-attr]
    assert np.array_equal(crops[0], crops[2])
    assert not np.array_equal(crops[0], crops[1])
    windows = np.lib.stride_tricks.sliding_window_view(pool.images, (6, 6), axis=(2, 3))
    assert (windows.transpose(0, 2, 3, 1, 4, 5) == crops[1]).all(axis=(3, 4, 5)).any()
    noise = made["noise"].pixels_of(np.arange(500))  # type: ignore[union-attr]
    assert (noise.min(), noise.max()) == (0, 255)
    assert abs(noise.mean() - 127.5) < 1


def test_shuffled_keeps_the_colours_under_the_mask() -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (3, 6, 6), dtype=np.uint8)
    mask = chance.random((6, 6)) < 0.6
    found = controls.shuffled(Patch(pixels, mask, None), seed=0)
    assert not np.array_equal(found.pixels, pixels)
    assert np.array_equal(found.pixels[:, ~mask], pixels[:, ~mask])
    assert sorted(map(tuple, found.pixels[:, mask].T)) == sorted(map(tuple, pixels[:, mask].T))


def test_a_row_says_the_shape_of_the_patch() -> None:
    def of(mask: NDArray[np.bool_]) -> Result:
        pixels = np.full((3, *mask.shape), 255, np.uint8)
        return run(unit(Patch(pixels, mask, None, {})), Quadrants())[0]

    flat, tall = of(np.ones((3, 8), bool)), of(np.ones((8, 3), bool))
    assert (flat.patch_rows_px, flat.patch_columns_px, flat.patch_size_px) == (3, 8, 8)
    assert (tall.patch_rows_px, tall.patch_columns_px, tall.patch_size_px) == (8, 3, 8)
    corner = np.ones((3, 8), bool)
    corner[0, 0] = False
    assert len({row.mask_digest for row in (flat, tall, of(corner))}) == 3
    assert of(np.ones((3, 8), bool)).mask_digest == flat.mask_digest
