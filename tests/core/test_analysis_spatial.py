"""The map of places: a model that looks at one corner alone is caught looking there."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from qadtr_edge import replay
from qadtr_edge.analysis import patches, scene, spatial
from qadtr_edge.analysis.spatial import Map
from qadtr_edge.errors import BadInput
from qadtr_edge.types import Patch, Pixels
from toy import Quadrants, pictures

DATA = pictures(80, split="test")
WHITE = patches.Chosen(
    Patch(np.full((3, 4, 4), 255, np.uint8), np.ones((4, 4), bool), 2, {"attack": "white"}), "file"
)


class Blind(Quadrants):
    """Does not see the upper left quadrant, and suspects something middling in it."""

    def __call__(self, images: Pixels) -> np.ndarray:
        logits = super().__call__(images)
        logits[:, 0] = 127.0
        return logits


def viewer(model: Quadrants, *, name: str = "toy", bits: int = 8) -> scene.Viewer:
    return scene.Viewer(name, bits, "integer", replay.Subject(model, name, DATA))


@pytest.fixture
def seen() -> scene.Scene:
    net = SimpleNamespace()
    return scene.Scene(net, "d", (8,), DATA, np.ones(80, bool), 0)  # type: ignore[arg-type]


def test_the_grid_of_small_and_large_images() -> None:
    small = spatial.grid((32, 32), (6, 6))
    assert len(small.corners) == 14 * 14
    assert small.corners[-1] == (26, 26)
    assert sorted(small.corners[at] for at in small.central) == [
        (12, 12), (12, 14), (14, 12), (14, 14),
    ]  # fmt: skip
    assert [small.corners[at] for at in small.outermost] == [(0, 0), (0, 26), (26, 0), (26, 26)]
    large = spatial.grid((224, 224), (50, 50))
    assert len(large.corners) == 7 * 7
    assert large.corners[-1] == (174, 174)


def test_a_patch_as_large_as_the_image_has_one_place() -> None:
    only = spatial.grid((8, 8), (8, 8))
    assert only.corners == [(0, 0)]
    assert only.outermost.tolist() == only.central.tolist() == [0]


def test_a_patch_larger_than_the_image_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="larger than"):
        spatial.grid((8, 8), (9, 4))


def maps(found: dict[str, object], shown: str) -> dict[str, np.ndarray]:
    rows = found["results"]
    assert isinstance(rows, list)
    return {row["model"]: np.array(row["fooled"]) / row["eligible"]
            for row in rows if row["shown"] == shown}  # fmt: skip


def test_a_model_blind_to_one_corner_shows_it(seen: scene.Scene) -> None:
    found = spatial.analyse(seen, [viewer(Blind())], chosen=WHITE, stride=4).numbers
    rates = maps(dict(found), "patch")["toy"]
    assert rates.shape == (4, 4)
    assert rates[:2, :2].max() == 0.0  # wholly inside the quadrant it does not see
    assert rates[2:, 2:].min() > 0.2


def test_models_are_shown_the_same_bytes_and_compared_with_the_simulation(
    seen: scene.Scene,
) -> None:
    every = [viewer(Quadrants(), name="simulation"), viewer(Quadrants()),
             viewer(Quadrants(bias=3.0), name="biased")]  # fmt: skip
    found = spatial.analyse(seen, every, chosen=WHITE, stride=6)
    rows = found.numbers["results"]
    assert isinstance(rows, list)
    unlike = [row["outcomes_unlike_simulation"] for row in rows]
    assert unlike[0] is None
    assert unlike[1] == 0
    assert unlike[2] > 0
    assert [row["shown"] for row in rows] == ["patch"] * 3 + ["noise"] * 3


def test_rates_are_those_of_a_loop_over_the_pixels(seen: scene.Scene) -> None:
    model = Quadrants()
    found = spatial.analyse(seen, [viewer(model)], chosen=WHITE, stride=5).numbers
    right = model(DATA.images).argmax(axis=1) == DATA.labels
    for at, top in enumerate((0, 5, 10)):
        for across, left in enumerate((0, 5, 10)):
            shown = DATA.images[right].copy()
            shown[:, :, top : top + 4, left : left + 4] = 255
            fooled = int((model(shown).argmax(axis=1) != DATA.labels[right]).sum())
            assert found["results"][0]["fooled"][at][across] == fooled


def test_the_summary_of_a_planted_map() -> None:
    where = spatial.grid((16, 16), (4, 4), stride=4)
    fooled = np.zeros((16, 100), bool)
    fooled[where.central, :80] = True
    fooled[where.outermost, :20] = True
    able = np.ones(100, bool)
    found = spatial.summary(Map(viewer(Quadrants()), "patch", fooled, able), where, seed=0)
    assert found.centre_minus_corner.value == pytest.approx(0.6)
    assert 0.45 < found.centre_minus_corner.low < 0.6 < found.centre_minus_corner.high < 0.75
    assert found.mean.value == pytest.approx(0.25)
    assert (found.minimum.value, found.maximum.value) == (0.0, pytest.approx(0.8))


def test_a_model_that_is_never_right_is_a_sentence() -> None:
    wrong = replace(DATA, labels=(Quadrants()(DATA.images).argmax(axis=1) + 1) % 4)
    subject = replay.Subject(Quadrants(), "wrong", wrong)
    with pytest.raises(BadInput, match="right on none of the 80"):
        scene.able(scene.Viewer("toy", 8, "integer", subject))
