"""The sweep finds the best place there is, and counts what it asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qadtr_edge import metrics
from qadtr_edge.attacks import controls
from qadtr_edge.attacks.sweep import Sweep, Swept, grid, sweep
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import Patch, PatchPerImage, Pixels, Placements
from toy import Quadrants, pictures, reordered

DATA = pictures(30, split="test")
SIDE, PX = DATA.images.shape[2], 3
WHITE = Patch(np.full((3, PX, PX), 255, np.uint8), np.ones((PX, PX), bool), None, {"seed": 4})
HOLED = replace(WHITE, mask=np.eye(PX, dtype=bool))
NOISE = controls.noise(WHITE, seed=1)


class OnePixel:
    """Right on every image of class 0 until one pixel is white; values of the images are below."""

    def __init__(self, row: int, column: int) -> None:
        self.row, self.column = row, column

    def __call__(self, images: Pixels) -> np.ndarray:
        hit = images[:, 0, self.row, self.column] == 255
        return np.where(hit[:, None], [0.0, 1.0], [1.0, 0.0]).astype(np.float32)


def run(
    patch: Patch | PatchPerImage = WHITE,
    engine: object = None,
    *,
    data: object = DATA,
    batch: int = 64,
    **changes: object,
) -> Swept:
    model = engine or Quadrants()
    clean = Quadrants()(data.images) if engine is None else model(data.images)  # type: ignore
    return sweep(model, data, patch=patch, clean=clean, batch=batch, **changes)  # type: ignore


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(9, 30), st.integers(9, 30)),
    st.integers(1, 40),
)
def test_the_grid_has_both_ends_and_no_wider_gap(
    patch_px: tuple[int, int], image_px: tuple[int, int], stride: int
) -> None:
    for places, inner, outer in zip(
        grid(patch_px, image_px, stride=stride), patch_px, image_px, strict=True
    ):
        assert (places[0], places[-1]) == (0, outer - inner)
        assert (np.diff(places) <= stride).all()
        assert len(set(places)) == len(places)


def test_strides() -> None:
    assert len(grid((6, 6), (32, 32), stride=4)[0]) == 8
    assert [len(axis) for axis in grid((5, 5), (32, 32), stride=1)] == [28, 28]
    with pytest.raises(BadInput, match="larger than"):
        grid((9, 9), (8, 8), stride=1)


@pytest.mark.parametrize("stride", [1, 5, 50])
@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_a_weakness_at_one_corner_is_found(corner: tuple[int, int], stride: int) -> None:
    data = replace(DATA, labels=np.zeros(len(DATA), np.int64))
    found = run(WHITE, OnePixel(*corner), data=data, stride=stride)
    assert found.eligible == len(data)
    assert found.fooled_at is not None
    assert found.fooled_at[corner] == len(data) == found.fooled_at.sum()
    last = SIDE - PX
    assert set(found.patches.placements.top) == {-corner[0] * last}
    assert set(found.patches.placements.left) == {-corner[1] * last}


@pytest.mark.parametrize("patch", [WHITE, HOLED, NOISE, replace(WHITE, target=2)])
def test_the_best_place_is_that_of_brute_force(patch: Patch | PatchPerImage) -> None:
    engine, found = Quadrants(), run(patch, stride=3)
    n = len(DATA)
    pixels = patch.pixels if isinstance(patch, Patch) else patch.pixels_of(DATA.ids)
    best = [(False, -np.inf)] * n
    heat = np.zeros((len(found.rows), len(found.columns)), int)
    able = metrics.eligible(
        metrics.predicted(engine(DATA.images)), DATA.labels, target=patch.target
    )
    for i, top in enumerate(found.rows):
        for j, left in enumerate(found.columns):
            where = Placements(np.full(n, top * 1.0), np.full(n, left * 1.0), np.zeros(n),
                               np.ones(n))  # fmt: skip
            logits = engine(paste(DATA.images, pixels, mask=patch.mask, placements=where))
            won = metrics.succeeded(metrics.predicted(logits), DATA.labels, target=patch.target)
            lead = metrics.margins(logits, DATA.labels, target=patch.target)
            heat[i, j] = (won & able).sum()
            best = [
                max(old, new) for old, new in zip(best, zip(won, lead, strict=True), strict=True)
            ]
    assert np.array_equal(found.fooled_at, heat)
    shown = paste(
        DATA.images,
        found.patches.pixels,
        mask=patch.mask,
        placements=found.patches.placements,
    )
    logits = engine(shown)
    won = metrics.succeeded(metrics.predicted(logits), DATA.labels, target=patch.target)
    lead = metrics.margins(logits, DATA.labels, target=patch.target)
    assert list(zip(won, lead, strict=True)) == best
    assert won.any() or patch is NOISE


@pytest.mark.parametrize("patch", [WHITE, NOISE])
@pytest.mark.parametrize("early", [False, True])
def test_neither_batch_nor_order_nor_company_changes_a_place(
    patch: Patch | PatchPerImage, early: bool
) -> None:
    whole = run(patch, stride=4, stop_when_fooled=early).patches
    order = np.random.default_rng(0).permutation(len(DATA))[:17]
    for batch in (1, 7):
        part = run(
            patch, data=reordered(DATA, order), batch=batch, stride=4, stop_when_fooled=early
        ).patches
        assert np.array_equal(part.placements.top, whole.placements.top[order])
        assert np.array_equal(part.placements.left, whole.placements.left[order])
        assert whole.queries is not None
        assert part.queries is not None
        assert np.array_equal(part.queries, whole.queries[order])


def test_an_early_end_saves_queries_and_loses_no_image() -> None:
    engine = Quadrants()
    clean = engine(DATA.images)
    engine.shown.clear()
    told: list[int] = []
    early = sweep(engine, DATA, patch=WHITE, clean=clean, stop_when_fooled=True,
                  told=lambda count, note: told.append(count))  # fmt: skip
    asked, full = sum(engine.shown), run(WHITE)
    places = full.fooled_at.size  # type: ignore[union-attr]
    assert early.shown == asked < full.shown == places * len(DATA)
    assert early.fooled_at is None
    assert early.patches.queries is not None
    assert np.array_equal(early.patches.queries, full.patches.queries)  # type: ignore[arg-type]
    assert early.patches.queries.sum() == asked
    assert sum(told) == places * len(DATA)


def test_only_masked_pixels_of_the_window_change() -> None:
    picture = np.random.default_rng(0).integers(0, 200, DATA.images.shape[1:], dtype=np.uint8)
    data = replace(DATA, images=np.repeat(picture[None], 5, axis=0), labels=DATA.labels[:5],
                   ids=DATA.ids[:5])  # fmt: skip
    seen = set()

    def engine(images: Pixels) -> np.ndarray:
        changed = (images != picture).any(axis=1)
        rows, columns = np.nonzero(changed[0])
        assert (changed == changed[0]).all()
        assert np.array_equal(rows - rows[0], np.arange(PX))
        assert np.array_equal(columns - columns[0], np.arange(PX))
        seen.add((int(rows[0]), int(columns[0])))
        return np.tile(np.array([1, 0, 0, 0], np.float32), (len(images), 1))

    clean = np.tile(np.array([1, 0, 0, 0], np.float32), (5, 1))
    sweep(engine, data, patch=HOLED, clean=clean)
    assert seen == {
        (row, column) for row in range(SIDE - PX + 1) for column in range(SIDE - PX + 1)
    }


def test_a_control_keeps_its_pixels_at_all_places_of_an_image() -> None:
    found = Sweep(NOISE, stride=6).search(
        Quadrants(), DATA, clean=Quadrants()(DATA.images), seed=0, batch=9,
        told=lambda count, note: None,
    )  # fmt: skip
    assert np.array_equal(found.pixels, NOISE.pixels_of(DATA.ids))
    assert found.pixels.shape == (len(DATA), 3, PX, PX)


def test_logits_that_are_not_numbers_stop_the_sweep() -> None:
    def broken(images: Pixels) -> np.ndarray:
        return np.full((len(images), 4), np.nan, np.float32)

    with pytest.raises(EngineFailed, match="finite"):
        sweep(broken, DATA, patch=WHITE, clean=Quadrants()(DATA.images))
