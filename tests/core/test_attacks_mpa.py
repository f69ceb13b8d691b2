"""Textured patches by scores: few inks, every place, plateaus crossed, each query counted."""

from __future__ import annotations

import numpy as np
import pytest

from qadtr_edge import metrics
from qadtr_edge.attacks.mpa import Mpa
from qadtr_edge.attacks.queries import Model
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import PlacedPatches
from toy import Quadrants, pictures, reordered

DATA = pictures(30, split="test")
ATTACK = Mpa(patch_px=(5, 5), queries=150)
ABLE = metrics.eligible(metrics.predicted(Quadrants()(DATA.images)), DATA.labels)


def run(
    attack: Mpa = ATTACK, *, model: Model | None = None, data: Dataset = DATA, batch: int = 64
) -> PlacedPatches:
    engine = model or Quadrants()
    clean = engine(data.images)
    return attack.search(
        engine, data, clean=clean, seed=0, batch=batch, told=lambda count, note: None
    )


def wins(found: PlacedPatches) -> np.ndarray:
    shown = paste(DATA.images, found.pixels, mask=found.mask, placements=found.placements)
    labels = metrics.predicted(Quadrants()(shown))
    return np.asarray(metrics.succeeded(labels, DATA.labels, target=found.target))


def test_more_queries_win_more() -> None:
    few = run(Mpa(patch_px=(5, 5), queries=2))
    assert wins(run())[ABLE].mean() >= wins(few)[ABLE].mean() + 0.3


def test_a_targeted_search_ends_at_the_target() -> None:
    found = run(Mpa(patch_px=(7, 7), target=1, queries=200))
    assert wins(found)[DATA.labels != 1].mean() > 0.3


def test_every_query_is_counted_and_a_win_ends_them() -> None:
    engine = Quadrants()
    found = run(model=engine)
    assert found.queries is not None
    assert sum(engine.shown) - len(DATA) == found.queries.sum()
    won = wins(found)
    assert won.any()
    assert (found.queries[~won] == 150).all()
    assert found.queries[won].min() < 150


@pytest.mark.parametrize("batch", [1, 7])
def test_neither_the_batch_nor_the_order_nor_the_neighbours_sway_an_image(batch: int) -> None:
    whole = run()
    turned = run(data=reordered(DATA, np.arange(len(DATA))[::-1][:9]), batch=batch)
    assert (turned.pixels == whole.pixels[::-1][:9]).all()
    assert (turned.placements.top == whole.placements.top[::-1][:9]).all()
    assert (turned.queries == whole.queries[::-1][:9]).all()  # type: ignore[index]


def test_no_patch_has_more_than_two_inks_of_four_levels() -> None:
    found = run()
    for pixels in found.pixels:
        assert len(np.unique(pixels.reshape(3, -1), axis=1).T) <= 2
    assert set(np.unique(found.pixels)) <= {0, 85, 170, 255}


def test_every_place_can_be_proposed_the_corners_too() -> None:
    many = pictures(4000, split="test")
    found = run(Mpa(patch_px=(8, 8), queries=1), data=many)
    places = {*zip(found.placements.top, found.placements.left, strict=True)}
    assert places == {(top, left) for top in range(9) for left in range(9)}


def test_equal_margins_are_accepted() -> None:
    def flat(images: np.ndarray) -> np.ndarray:
        return np.tile(np.array([3.0, 2.0, 1.0, 0.0], np.float32), (len(images), 1))

    data = reordered(DATA, np.flatnonzero(DATA.labels == 0))
    clean = Quadrants()(data.images)
    one, many = (
        Mpa(patch_px=(5, 5), queries=queries).search(
            flat, data, clean=clean, seed=0, batch=64, told=lambda count, note: None
        )
        for queries in (1, 20)
    )
    assert (one.pixels != many.pixels).any()
    tally = many.origin["tally"]
    assert isinstance(tally, dict)
    assert tally["tied"] == tally["proposed"] == 19 * len(data)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(Unsupported, match="scores"):
        ATTACK.require(np.eye(4, dtype=np.float32))
    with pytest.raises(BadInput, match="patch"):
        run(Mpa(patch_px=(99, 99)))
