"""How visible a patch must be: the axes, the control, and the point where all curves meet."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from qadtr_edge import replay
from qadtr_edge.analysis import patches, scene, visibility
from qadtr_edge.types import Json, Patch
from toy import Quadrants, pictures

DATA = pictures(80, split="test", side=32)


def viewers(*names: str) -> list[scene.Viewer]:
    return [
        scene.Viewer(name, 8, "integer", replay.Subject(Quadrants(), name, DATA)) for name in names
    ]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Json]]:
    pixels = np.random.default_rng(0).integers(150, 256, (3, 6, 6)).astype(np.uint8)
    bright = patches.Chosen(Patch(pixels, np.ones((6, 6), bool), None, {}), "file")
    seen = scene.Scene(
        SimpleNamespace(), "d", (8,), DATA, np.ones(80, bool), 0  # type: ignore[arg-type]
    )  # fmt: skip
    found = visibility.analyse(seen, viewers("toy"), chosen=bright)
    assert len(found.tables) == 3
    results = found.numbers["results"]
    assert isinstance(results, list)
    return [row for row in results if isinstance(row, dict)]


def at(rows: list[dict[str, Json]], axis: str, shown: str) -> dict[float, dict[str, Json]]:
    return {row["value"]: row for row in rows if (row["axis"], row["shown"]) == (axis, shown)}


def test_every_axis_has_its_points_and_its_control(rows: list[dict[str, Json]]) -> None:
    for shown in ("patch", "grey"):
        assert list(at(rows, "size", shown)) == list(range(3, 13))
        assert list(at(rows, "opacity", shown)) == [0.25, 0.5, 0.75, 1.0]
        assert list(at(rows, "contrast", shown)) == [0.25, 0.5, 0.75, 1.0]


def test_the_whole_patch_is_one_point_on_all_axes(rows: list[dict[str, Json]]) -> None:
    for shown in ("patch", "grey"):
        points = [at(rows, "size", shown)[6], at(rows, "opacity", shown)[1.0],
                  at(rows, "contrast", shown)[1.0]]  # fmt: skip
        for name in ("fooled", "eligible", "area_fraction", "mean_change"):
            assert len({point[name] for point in points}) == 1


def test_the_axes_mean_what_they_say(rows: list[dict[str, Json]]) -> None:
    areas = [row["area_fraction"] for row in at(rows, "size", "patch").values()]
    assert areas == sorted(areas)
    assert areas[3] == pytest.approx(36 / 1024, rel=0.25)  # type: ignore[arg-type]
    changes = {v: row["mean_change"] for v, row in at(rows, "opacity", "patch").items()}
    for share, change in changes.items():
        assert change == pytest.approx(share * changes[1.0], abs=0.6)
    wins = [row["fooled"] for row in at(rows, "size", "patch").values()]
    assert wins[-1] > wins[0]


def test_grey_has_no_contrast_to_lose(rows: list[dict[str, Json]]) -> None:
    assert len({row["fooled"] for row in at(rows, "contrast", "grey").values()}) == 1


def test_large_images_get_large_patches() -> None:
    assert visibility.sizes(32) == tuple(range(3, 13))
    found = visibility.sizes(224)
    assert (found[0], found[3], found[-1]) == (25, 50, 100)


def test_sizes_that_do_not_fit_are_left_out_and_said() -> None:
    small = pictures(40, split="test")  # 16 pixels: a turned patch of 12 sticks out
    toy = scene.Viewer("simulation", 4, "float", replay.Subject(Quadrants(), "s", small))
    net = SimpleNamespace()
    seen = scene.Scene(net, "d", (4,), small, np.ones(40, bool), 0)  # type: ignore[arg-type]
    grey = patches.Chosen(
        Patch(np.full((3, 4, 4), 9, np.uint8), np.ones((4, 4), bool), None, {}), "file"
    )
    found = visibility.analyse(seen, [toy], chosen=grey)
    assert any("left out: 12 px" in note for note in found.notes)
    assert any("simulation: 4 bits" in note for note in found.notes)
