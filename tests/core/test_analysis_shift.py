"""Layers far from their float selves are named, and models that differ are counted."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nets import mixed, ready, small_resnet  # noqa: E402
from qadtr_edge import replay  # noqa: E402
from qadtr_edge.analysis import layers, patches, scene, shift  # noqa: E402
from qadtr_edge.analysis.layers import LayerShift  # noqa: E402
from qadtr_edge.errors import BadInput  # noqa: E402
from qadtr_edge.models.quantnet import QuantNet  # noqa: E402
from qadtr_edge.types import Patch  # noqa: E402
from toy import Quadrants, pictures  # noqa: E402

DATA = pictures(40, split="test")
REGION = np.zeros((40, 16, 16), bool)
REGION[:, 4:10, 6:12] = True
PATCH = Patch(np.full((3, 4, 4), 255, np.uint8), np.ones((4, 4), bool), None, {})


def layer_shifts(net: QuantNet, widths: tuple[int, ...]) -> list[LayerShift]:
    shown = DATA.images.copy()
    shown[:, :, 4:10, 6:12] = 255
    looks = {"clean": DATA.images, "patched": shown}
    seen = layers.observe(net, looks, region=REGION, widths=widths, advance=lambda count: None)
    return layers.summed_up(net, seen, seed=0)


def test_width_32_is_no_distance_from_itself() -> None:
    for row in layer_shifts(ready(small_resnet()), (32,)):
        assert (row.clean.value, row.patched.value, row.added) == (0.0, 0.0, 0.0)


def test_narrower_widths_are_farther() -> None:
    rows = layer_shifts(ready(small_resnet()), (8, 2))
    logits = {row.bits: row.clean.value for row in rows if row.layer == "linear"}
    assert 0.0 < logits[8] < logits[2]


def test_every_operation_that_computes_has_a_row() -> None:
    net = ready(mixed())
    names = [row.layer for row in layer_shifts(net, (4,))]
    assert names == [step.name for step in layers.named(net)]
    assert names[-1] == "head"
    assert not any("flatten" in name for name in names)


@pytest.mark.parametrize("layer", ["layer2.0.conv1", "layer3.0.conv1"])
def test_a_planted_shift_is_named(layer: str) -> None:
    """The scale of one layer's output is made so coarse that most of it rounds to zero."""
    net = ready(small_resnet(), widths=(32, 8))
    site = net.plans[8].sites[layer]
    with torch.no_grad():
        net.set_scale(site, 8, value=20.0 * float(net.scale(site, 8)))
    rows = layer_shifts(net, (8,))
    assert shift._named(rows, 8)[1] == layer


def test_distance_is_relative_and_unknown_for_silence() -> None:
    phi = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    ideal = np.array([[0.0, 0.0], [2.0, 0.0], [5.0, 0.0]])
    found = layers.distance(phi, ideal)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.5, 1.0])


def test_energy_is_counted_by_the_centres_of_the_cells() -> None:
    phi = np.arange(16.0).reshape(1, 1, 4, 4) * np.array([1.0, -1.0]).reshape(1, 2, 1, 1)
    region = np.zeros((1, 16, 16), bool)
    region[0, 4:10, 0:7] = True  # holds the centres (6, 2) and (6, 6), not those of row 10
    inside, outside = layers.energy(phi, region)
    assert inside[0] == (4 + 5) / 2
    assert outside[0] == pytest.approx((sum(range(16)) - 9) / 14)
    nothing, _ = layers.energy(phi, np.zeros((1, 16, 16), bool))
    assert np.isnan(nothing[0])


def test_a_patch_that_changes_nothing_has_energy_ratio_1() -> None:
    net = ready(small_resnet())
    looks = {"clean": DATA.images, "patched": DATA.images}
    seen = layers.observe(net, looks, region=REGION, widths=(8,), advance=lambda count: None)
    for row in layers.summed_up(net, seen, seed=0):
        if np.isfinite(row.energy.value):
            assert row.energy.value == pytest.approx(1.0)
            assert row.energy.high == pytest.approx(1.0)
    assert np.isnan(row.energy.value)  # the logits have no places


def test_models_that_differ_are_counted() -> None:
    a = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 1.0]], np.float32)
    b = np.array([[2.0, 1.0], [2.0, 1.00001], [0.0, 1.0], [1.0, 2.0]], np.float32)
    found = shift.differing(a, b, labels=np.zeros(4, np.int64), bits=8, models=("x", "y"),
                            images="clean")  # fmt: skip
    assert (found.n, found.logits, found.beyond, found.signs, found.labels) == (4, 3, 2, 2, 2)
    assert found.max_abs_diff == 2.0
    row = found.as_json()
    assert row["label"]["share"] == 0.5


def a_scene(net: QuantNet, widths: tuple[int, ...]) -> scene.Scene:
    return scene.Scene(net, "d", widths, DATA, np.ones(40, bool), 0)


def test_pairs_at_one_width_clean_and_patched() -> None:
    every = [
        scene.Viewer(name, bits, "integer", replay.Subject(Quadrants(bias=bias), name, DATA))
        for name, bits, bias in (("simulation", 8, 0.0), ("judge", 8, 0.0), ("ort", 8, 5.0),
                                 ("ort", 4, 0.0))
    ]  # fmt: skip
    net = ready(small_resnet(), widths=(32, 8))
    found = shift.analyse(a_scene(net, (32, 8)), every, chosen=patches.Chosen(PATCH, "file"))
    rows = found.numbers["engine_shift"]
    assert isinstance(rows, list)
    assert [(*row["models"], row["images"]) for row in rows] == [
        (*pair, look)
        for pair in (("simulation", "judge"), ("simulation", "ort"), ("judge", "ort"))
        for look in ("clean", "patched")
    ]
    assert [row["logits"]["count"] for row in rows] == [0, 0, 40, 40, 40, 40]


def test_without_32_or_another_width_there_is_nothing_to_compare() -> None:
    chosen = patches.Chosen(PATCH, "file")
    with pytest.raises(BadInput, match="not 32"):
        shift.analyse(a_scene(ready(small_resnet(), widths=(8,)), (8,)), [], chosen=chosen)
    with pytest.raises(BadInput, match="no other width"):
        shift.analyse(a_scene(ready(small_resnet()), (32,)), [], chosen=chosen)
