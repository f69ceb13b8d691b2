"""Label-only search: it reads labels alone, wins on plateaus, and counts what it asks."""

from __future__ import annotations

import numpy as np
import pytest

from qadtr_edge import metrics
from qadtr_edge.attacks.label_search import LabelSearch
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import Pixels, PlacedPatches
from toy import Quadrants, pictures, reordered

DATA = pictures(30, split="test")


class LabelsOnly:
    """The toy network behind a head that gives one-hot answers."""

    def __init__(self) -> None:
        self.inner = Quadrants()
        self.shown = 0

    def __call__(self, images: Pixels) -> np.ndarray:
        self.shown += len(images)
        logits = self.inner(images)
        return np.eye(logits.shape[1], dtype=np.float32)[metrics.predicted(logits)]


def run(
    attack: LabelSearch, engine: object = None, *, data: Dataset = DATA, batch: int = 64
) -> PlacedPatches:
    model = engine or Quadrants()
    clean = model(data.images)  # type: ignore[operator]
    return attack.search(
        model, data, clean=clean, seed=0, batch=batch, told=lambda count, note: None
    )  # type: ignore[arg-type]


def wins(found: PlacedPatches, data: Dataset = DATA) -> np.ndarray:
    shown = paste(data.images, found.pixels, mask=found.mask, placements=found.placements)
    labels = metrics.predicted(Quadrants()(shown))
    return np.asarray(metrics.succeeded(labels, data.labels, target=found.target))


ATTACK = LabelSearch(patch_px=(5, 5), queries=300)


def test_scores_are_not_read() -> None:
    with_scores, without = run(ATTACK), run(ATTACK, LabelsOnly())
    assert (with_scores.pixels == without.pixels).all()
    assert (with_scores.placements.top == without.placements.top).all()
    assert (with_scores.queries == without.queries).all()  # type: ignore[attr-defined]


def test_it_wins_where_a_random_patch_does_not() -> None:
    able = metrics.eligible(metrics.predicted(Quadrants()(DATA.images)), DATA.labels)
    few = LabelSearch(patch_px=(5, 5), queries=2)
    assert wins(run(ATTACK))[able].mean() >= wins(run(few))[able].mean() + 0.3


def test_every_win_is_counted_by_the_query_that_brought_it() -> None:
    engine = LabelsOnly()
    found = run(ATTACK, engine)
    assert found.queries is not None
    assert engine.shown - len(DATA) == found.queries.sum()
    won = wins(found)
    assert (found.queries[~won] == 300).all()
    assert (found.queries[won] <= 300).all()
    assert won.any()


@pytest.mark.parametrize("batch", [1, 7])
def test_neither_the_batch_nor_the_order_nor_the_neighbours_sway_an_image(batch: int) -> None:
    whole = run(ATTACK)
    turned = run(ATTACK, data=reordered(DATA, np.arange(len(DATA))[::-1][:9]), batch=batch)
    assert (turned.pixels == whole.pixels[::-1][:9]).all()
    assert (turned.queries == whole.queries[::-1][:9]).all()  # type: ignore[index]


def test_half_of_the_queries_throw_patches_and_the_rest_cover_the_image_first() -> None:
    changed: list[np.ndarray] = []

    def unmoved(images: Pixels) -> np.ndarray:
        """Answers the clean labels to whatever it is shown."""
        changed.append((images != DATA.images).any(axis=1).sum(axis=(1, 2)))
        return np.eye(4, dtype=np.float32)[DATA.labels]

    run(LabelSearch(patch_px=(5, 5), queries=8), unmoved, batch=len(DATA))
    assert len(changed) == 9  # the first is of the clean images
    thrown, covered = np.stack(changed[1:5]), np.stack(changed[5:])
    assert (thrown <= 25).all()
    assert (thrown > 0).all()
    assert (covered > 25).all()


def test_pictures_of_the_pool_begin_it_and_are_part_of_its_recipe() -> None:
    pool = pictures(20, split="craft").images
    attack = LabelSearch(patch_px=(5, 5), queries=300, pool=pool)
    assert attack.parameters != ATTACK.parameters
    assert wins(run(attack)).any()


def test_a_targeted_search_ends_at_the_target() -> None:
    attack = LabelSearch(patch_px=(8, 8), target=1, queries=400)
    found = run(attack)
    assert found.target == 1
    assert wins(found)[DATA.labels != 1].any()


def test_an_engine_with_one_class_is_refused() -> None:
    with pytest.raises(Unsupported, match="one number"):
        ATTACK.require(np.zeros((4, 1), np.float32))


def test_a_patch_larger_than_the_image_is_refused() -> None:
    with pytest.raises(BadInput, match="patch"):
        run(LabelSearch(patch_px=(99, 99)))
