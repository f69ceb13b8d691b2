"""Patch-RS: the published schedule, streams of their own, and honest counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qadtr_edge import metrics
from qadtr_edge.attacks.patch_moves import schedule, start
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.queries import require_scores
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput, EngineFailed, QadtrError, Unsupported
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import Pixels, PlacedPatches
from toy import Quadrants, pictures, reordered

DATA = pictures(40, split="test")
SIDE = DATA.images.shape[2]


def run(
    attack: PatchRs, engine: object = None, *, data: Dataset = DATA, batch: int = 64, seed: int = 0
) -> PlacedPatches:
    model = engine or Quadrants()
    clean = model(data.images)  # type: ignore[operator]
    if isinstance(model, Quadrants):
        model.shown.clear()
    return attack.search(
        model, data, clean=clean, seed=seed, batch=batch, told=lambda count, note: None
    )  # type: ignore[arg-type]


def judged(found: PlacedPatches, engine: object, data: Dataset = DATA) -> np.ndarray:
    """Logits of the patched images, from the stored bytes and places."""
    shown = paste(data.images, found.pixels, mask=found.mask, placements=found.placements)
    return np.asarray(engine(shown))  # type: ignore[operator]


class Plateaus:
    """Logits of few levels, driven by how many pixels are fully red: pictures hold none."""

    def __init__(self, step: int, needed: int) -> None:
        self.step, self.needed = step, needed

    def __call__(self, images: Pixels) -> np.ndarray:
        red = (images[:, 0] == 255).sum(axis=(1, 2))
        level = (red // self.step).astype(np.float32)
        fixed = np.full_like(level, self.needed // self.step - 0.5)
        spread = images[:, 1, 0, 0] / 1000.0
        return np.stack([fixed, level, -spread], axis=1)


def test_the_schedule_is_the_published_one() -> None:
    small = schedule((6, 6), (32, 32), queries=5000, alpha=0.4, shift_every=4)
    assert sorted(set(small.sides[1:])) == [1, 2, 3]
    assert [small.sides[it] for it in (1, 5, 6, 25, 26, 4999)] == [3, 3, 2, 2, 1, 1]
    assert small.flips_from == 2513
    large = schedule((20, 20), (224, 224), queries=10_000, alpha=0.4, shift_every=4)
    assert list(dict.fromkeys(large.sides[1:].tolist())) == [12, 8, 6, 4, 3, 2, 1]
    assert (large.sides[2000], large.sides[2001], large.flips_from) == (2, 1, 6000)
    assert large.shift(0).tolist() == [168, 168]
    assert large.shift(9999).tolist() == [0, 0]
    assert schedule((1, 1), (8, 8), queries=1, alpha=0.4, shift_every=4).sides.tolist() == [1]


def test_the_start_uses_all_colours_and_all_places() -> None:
    plan = schedule((5, 3), (9, 9), queries=10, alpha=0.4, shift_every=4)
    ids = np.arange(3000)
    first = start(plan, ids, seed=0, name="x")
    assert set(np.unique(first.pixels)) == {0, 255}
    assert abs(first.pixels.mean() / 255 - 0.5) < 0.02
    assert {tuple(corner) for corner in first.corners.tolist()} == {
        (row, column) for row in range(5) for column in range(7)
    }
    again = start(plan, ids[::-1][:10], seed=0, name="x")
    assert np.array_equal(again.pixels, first.pixels[::-1][:10])
    other = start(plan, ids, seed=1, name="x")
    assert not np.array_equal(other.pixels, first.pixels)


@pytest.mark.parametrize("target", [None, 2])
@pytest.mark.parametrize("kappa", [None, 3.0])
def test_neither_batch_nor_order_nor_company_changes_a_byte(
    target: int | None, kappa: float | None
) -> None:
    attack = PatchRs(patch_px=(3, 4), target=target, queries=40, restarts=2, kappa=kappa)
    whole = run(attack)
    order = np.random.default_rng(0).permutation(len(DATA))[:21]
    for batch, rows in ((1, order), (7, order), (64, order[:1])):
        part = run(attack, data=reordered(DATA, rows), batch=batch)
        assert np.array_equal(part.pixels, whole.pixels[rows])
        assert np.array_equal(part.placements.top, whole.placements.top[rows])
        assert np.array_equal(part.placements.left, whole.placements.left[rows])
        assert part.queries is not None
        assert whole.queries is not None
        assert np.array_equal(part.queries, whole.queries[rows])


def test_seeds_differ() -> None:
    attack = PatchRs(patch_px=(3, 3), queries=10)
    assert not np.array_equal(run(attack).pixels, run(attack, seed=1).pixels)


@pytest.mark.parametrize("target", [None, 3])
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("kappa", [None, 1.0])
def test_the_ledger_is_the_engines_own_count(
    target: int | None, restarts: int, kappa: float | None
) -> None:
    engine, told = Quadrants(), []
    attack = PatchRs(patch_px=(3, 3), target=target, queries=50, restarts=restarts, kappa=kappa)
    clean = engine(DATA.images)
    engine.shown.clear()
    found = attack.search(
        engine, DATA, clean=clean, seed=0, batch=9, told=lambda count, note: told.append(count)
    )
    tally = found.origin["tally"]
    assert isinstance(tally, dict)
    assert tally["shown"] == sum(engine.shown)
    assert sum(told) == 50 * len(DATA)
    assert found.queries is not None
    assert found.queries.max() <= 50
    won = metrics.succeeded(
        metrics.predicted(judged(found, Quadrants())), DATA.labels, target=target
    )
    if kappa is None:
        assert tally["shown"] == found.queries.sum()
    most = 50 - 50 % restarts
    assert set(found.queries[~won]) == {most}


def test_success_is_a_changed_label_of_the_stored_bytes() -> None:
    attack = PatchRs(patch_px=(3, 3), queries=80)
    found, engine = run(attack), Quadrants()
    won = metrics.predicted(judged(found, engine)) != DATA.labels
    assert found.queries is not None
    assert won[found.queries < 80].all()
    assert 0.3 < won.mean() < 1
    assert set(np.unique(found.pixels)) == {0, 255}
    assert (won | (found.queries == 80)).all()


def test_a_tie_at_the_top_that_keeps_the_label_is_no_success() -> None:
    """Margin 0, the true class being the lower index: the engine is still right."""

    def engine(images: Pixels) -> np.ndarray:
        spread = images[:, 0, 0, 0] / 1000.0
        ones = np.ones(len(images))
        return np.stack([ones, ones, -spread], axis=1).astype(np.float32)

    data = replace(DATA, labels=np.zeros(len(DATA), np.int64))
    found = run(PatchRs(patch_px=(2, 2), queries=5), engine, data=data)
    assert found.queries is not None
    assert (found.queries == 5).all()
    lower = replace(DATA, labels=np.ones(len(DATA), np.int64))
    found = run(PatchRs(patch_px=(2, 2), queries=5), engine, data=lower)
    assert found.queries is not None
    assert (found.queries == 1).all()


def test_a_targeted_search_ends_at_its_target() -> None:
    found, engine = run(PatchRs(patch_px=(5, 5), target=1, queries=200)), Quadrants()
    labels = metrics.predicted(judged(found, engine))
    able = metrics.eligible(metrics.predicted(engine(DATA.images)), DATA.labels, target=1)
    assert (labels[able] == 1).mean() > 0.5
    assert found.queries is not None
    assert (labels[found.queries < 200] == 1).all()
    assert found.target == 1


def test_a_wanted_margin_is_reached_after_the_label_changed() -> None:
    plain, wanted = (
        run(PatchRs(patch_px=(5, 5), queries=150, kappa=kappa)) for kappa in (None, 2.0)
    )
    assert np.array_equal(plain.queries, wanted.queries)  # type: ignore[arg-type]
    engine = Quadrants()
    before, after = (
        metrics.margins(judged(found, engine), DATA.labels) for found in (plain, wanted)
    )
    assert (after >= before).all()
    assert (after >= 2.0).sum() > (before >= 2.0).sum()
    shown = [found.origin["tally"]["shown"] for found in (plain, wanted)]  # type: ignore
    assert shown[0] < shown[1]


def test_restarts_keep_what_the_first_start_won() -> None:
    once = run(PatchRs(patch_px=(2, 2), queries=30))
    thrice = run(PatchRs(patch_px=(2, 2), queries=90, restarts=3))
    assert once.queries is not None
    assert thrice.queries is not None
    early = once.queries < 30
    assert np.array_equal(thrice.queries[early], once.queries[early])
    assert np.array_equal(thrice.pixels[early], once.pixels[early])
    assert ((thrice.queries > 30) & (thrice.queries < 90)).any()


def test_plateaus_are_crossed_thanks_to_ties() -> None:
    data = replace(DATA, labels=np.zeros(len(DATA), np.int64))
    engine = Plateaus(step=3, needed=27)
    won = {
        accept: float(
            (judged(run(PatchRs(queries=400, accept=accept), engine, data=data), engine, data)
             .argmax(axis=1) != 0).mean()
        )
        for accept in ("ties", "strict")
    }  # fmt: skip
    assert won["ties"] > 0.9 > 0.5 > won["strict"]


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_first_and_last_row_and_column_are_reached(corner: tuple[int, int]) -> None:
    def engine(images: Pixels) -> np.ndarray:
        hit = images[:, 0, corner[0], corner[1]] == 255
        # The other classes only keep the scores from being the same on all images.
        spread = images[:, 1, 0, 0] / 1000.0
        return np.stack([1.0 - hit, 1.0 * hit, -spread], axis=1).astype(np.float32)

    data = replace(DATA, labels=np.zeros(len(DATA), np.int64))
    found = run(PatchRs(patch_px=(4, 4), queries=1500), engine, data=data)
    won = judged(found, engine, data).argmax(axis=1) == 1
    assert won.sum() > len(DATA) / 2
    last = SIDE - 4
    assert set(found.placements.top[won]) == {-corner[0] * last}
    assert set(found.placements.left[won]) == {-corner[1] * last}


def test_only_pixels_of_the_square_change() -> None:
    picture = np.random.default_rng(0).integers(1, 200, DATA.images.shape[1:], dtype=np.uint8)
    zeros = np.zeros(len(DATA), np.int64)
    data = replace(DATA, images=np.repeat(picture[None], len(DATA), axis=0), labels=zeros)
    places = set()

    def engine(images: Pixels) -> np.ndarray:
        changed = (images != picture).any(axis=1)
        for image, where in zip(images, changed, strict=True):
            rows, columns = np.nonzero(where)
            if len(rows):
                assert np.ptp(rows) == 2
                assert np.ptp(columns) == 4
                assert where.sum() == 15
                assert set(np.unique(image[:, where])) <= {0, 255}
                places.add((rows[0], columns[0]))
        return np.stack(
            [np.full(len(images), 9.0), images[:, 0].mean(axis=(1, 2)) / 100], axis=1
        ).astype(np.float32)

    clean = np.array([[9.0, 1.0], [9.0, 2.0]] * 20, np.float32)
    PatchRs(patch_px=(3, 5), queries=30).search(
        engine, data, clean=clean, seed=0, batch=64, told=lambda count, note: None
    )
    assert len(places) > 50


def test_what_cannot_be_searched_is_said() -> None:
    one = np.zeros((5, 1), np.float32)
    hot = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    constant = np.ones((1, 4), np.float32)
    for clean in (one, hot, constant):
        with pytest.raises(Unsupported):
            require_scores(clean)
    require_scores(np.array([[0.1, 0.9]], np.float32))
    require_scores(Quadrants()(DATA.images))
    with pytest.raises(BadInput, match="shared by 3"):
        PatchRs(queries=2, restarts=3)
    with pytest.raises(BadInput, match="larger than"):
        run(PatchRs(patch_px=(17, 17), queries=2))


def test_logits_that_are_not_numbers_stop_the_search() -> None:
    def broken(images: Pixels) -> np.ndarray:
        return np.full((len(images), 4), np.inf, np.float32)

    with pytest.raises(EngineFailed, match="finite") as caught:
        PatchRs(queries=3).search(
            broken, DATA, clean=Quadrants()(DATA.images), seed=0, batch=64,
            told=lambda count, note: None,
        )  # fmt: skip
    assert isinstance(caught.value, QadtrError)
