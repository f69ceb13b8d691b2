"""Differential search: it parts two models that agree, by their answers alone, and counts both."""

from __future__ import annotations

import numpy as np
import pytest

from qadtr_edge import metrics
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.patch_rs_differential import Original, PatchRsDifferential
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import Unsupported
from qadtr_edge.patch.paste import paste
from qadtr_edge.types import Pixels, PlacedPatches
from toy import pictures, reordered

DATA = pictures(48, split="test")
SMALL = {"patch_px": (5, 5), "queries": 120}


class Bright:
    """Compares the brightness of the quadrants; ``red`` of the red channel counts twice or so."""

    def __init__(self, red: float = 1.0) -> None:
        weight = np.array([red, 1.0, 1.0])
        self.weight = (weight / weight.sum())[:, None, None]
        self.shown = 0

    def __call__(self, images: Pixels) -> np.ndarray:
        self.shown += len(images)
        half = images.shape[2] // 2
        blocks = images.reshape(len(images), 3, 2, half, 2, half).mean(axis=(3, 5))
        return ((blocks * self.weight).sum(axis=1).reshape(-1, 4) / 4).astype(np.float32)


ENGINE, SERVER = Bright(red=3.0), Bright()


def attack(server: Bright = SERVER, **options: object) -> PatchRsDifferential:
    return PatchRsDifferential(original=Original(server, "server"), **{**SMALL, **options})  # type: ignore[arg-type]


def run(
    search: PatchRs | PatchRsDifferential, engine: Bright = ENGINE, *, data: Dataset = DATA,
    batch: int = 64,
) -> PlacedPatches:  # fmt: skip
    clean = Bright(red=3.0)(data.images)
    return search.search(
        engine, data, clean=clean, seed=0, batch=batch, told=lambda count, note: None
    )


def parted(found: PlacedPatches) -> np.ndarray:
    """Images that the engine loses and the server keeps, as they are judged: from the bytes."""
    shown = paste(DATA.images, found.pixels, mask=found.mask, placements=found.placements)
    lost, kept = (metrics.predicted(model(shown)) for model in (ENGINE, SERVER))
    falls = metrics.succeeded(lost, DATA.labels, target=found.target)
    return np.asarray(falls & (kept == DATA.labels))


@pytest.mark.parametrize("target", [None, 2])
def test_it_parts_models_where_an_ordinary_search_takes_both(target: int | None) -> None:
    own = parted(run(attack(target=target)))
    ordinary = parted(run(PatchRs(target=target, **SMALL)))  # type: ignore[arg-type]
    assert own.mean() > ordinary.mean() + 0.2


def test_what_it_counts_as_won_is_parted_and_every_query_asks_both() -> None:
    engine, server = Bright(red=3.0), Bright()
    found = run(attack(server), engine)
    assert found.queries is not None
    won = parted(found)
    assert won.any()
    assert not won.all()
    assert (found.queries[~won] == 120).all()
    assert won[found.queries < 120].all()
    assert engine.shown == server.shown == found.queries.sum()
    tally = found.origin["tally"]
    assert isinstance(tally, dict)
    assert tally["shown"] == found.queries.sum()


def test_models_that_are_one_cannot_be_parted() -> None:
    found = run(attack(Bright(red=3.0)))
    assert (found.queries == 120).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch", [1, 7])
def test_neither_the_batch_nor_the_neighbours_sway_an_image(batch: int) -> None:
    whole, order = run(attack()), np.arange(len(DATA))[::-3]
    part = run(attack(), data=reordered(DATA, order), batch=batch)
    assert np.array_equal(part.pixels, whole.pixels[order])
    assert np.array_equal(part.queries, whole.queries[order])  # type: ignore[index]


def test_it_goes_where_both_margins_are_larger() -> None:
    """Ties included: the lowest index among the maxima is the label."""
    pairs = [([0.0, 2.0], [3.0, 0.0]), ([0.0, 2.0], [0.0, 3.0]), ([2.0, 2.0], [3.0, 0.0]),
             ([0.0, 5.0], [1.0, 0.0])]  # fmt: skip
    logits = np.array([[*lost, *kept] for lost, kept in pairs], np.float32)
    judged = attack().judged(logits, np.zeros(4, np.int64))
    assert judged.won.tolist() == [True, False, False, True]
    assert judged.lead.tolist() == judged.score.tolist() == [2.0, -3.0, 0.0, 1.0]


def test_another_server_is_another_search() -> None:
    other = PatchRsDifferential(original=Original(SERVER, "other"))
    assert other.parameters != PatchRsDifferential(original=Original(SERVER, "server")).parameters
    circle = attack(shape="circle")
    assert circle.parameters["shape"] == "circle"
    assert np.array_equal(run(circle).mask, run(PatchRs(shape="circle", **SMALL)).mask)  # type: ignore[arg-type]


def test_an_engine_without_scores_is_refused() -> None:
    with pytest.raises(Unsupported, match="scores"):
        attack().require(np.eye(4, dtype=np.float32))
