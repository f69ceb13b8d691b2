"""Which images are looked at, which patch is shown, and what is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from nets import ready, small_resnet
from qadtr_edge import runs
from qadtr_edge.analysis import figure, finding, patches, scene
from qadtr_edge.attacks.victim import logits_of
from qadtr_edge.craft import AtWidth
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput, MissingDependency
from qadtr_edge.files import read_json
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.patch import bank
from qadtr_edge.types import Patch
from source import blocking
from toy import pictures


@pytest.fixture(scope="module")
def net() -> QuantNet:
    return ready(small_resnet(), widths=(32, 8))


@pytest.fixture(scope="module")
def test_split(net: QuantNet) -> Dataset:
    """Pictures labelled by the network at 32 bits, every fourth wrongly."""
    data = pictures(200, split="test")
    labels = logits_of(AtWidth(net, 32), data.images).argmax(axis=1).astype(np.int64)
    labels[::4] = (labels[::4] + 1) % 6
    return Dataset("toy", "test", data.images, labels, data.ids, tuple("abcdef"), False)


def first(data: Dataset, asked: list[int], n: int) -> Dataset:
    asked.append(n)
    return scene.only(data, np.arange(min(n, len(data))))


def look(net: QuantNet, data: Dataset, *, wanted: int, widths: tuple[int, ...] = (32,)
         ) -> scene.Scene:  # fmt: skip
    asked: list[int] = []
    return scene.look(net, lambda n: first(data, asked, n), widths=widths, wanted=wanted, seed=0,
                      digest="d")  # fmt: skip


def test_as_many_images_as_it_takes_and_no_more(net: QuantNet, test_split: Dataset) -> None:
    found = look(net, test_split, wanted=100)
    assert int(found.right.sum()) == len(found.correct) == 100
    assert found.right[-1]
    assert len(found.test) == 134  # every fourth is wrong, the first included
    np.testing.assert_array_equal(found.test.ids, test_split.ids[:134])
    fewer = look(net, test_split, wanted=10)
    np.testing.assert_array_equal(fewer.correct.ids, found.correct.ids[:10])


def test_all_there_are_when_that_is_too_few(net: QuantNet, test_split: Dataset) -> None:
    found = look(net, test_split, wanted=500)
    assert len(found.test) == 200
    assert int(found.right.sum()) == 150


def test_right_means_right_at_every_width(net: QuantNet, test_split: Dataset) -> None:
    both = look(net, test_split, wanted=500, widths=(32, 8))
    narrow = look(net, test_split, wanted=500, widths=(8,))
    wide = look(net, test_split, wanted=500)
    np.testing.assert_array_equal(both.right, narrow.right & wide.right)


def test_no_right_image_and_no_such_width_are_sentences(net: QuantNet, test_split: Dataset) -> None:
    wrong = Dataset("toy", "test", test_split.images, np.full(200, 5) - test_split.labels % 2,
                    test_split.ids, tuple("abcdef"), False)  # fmt: skip
    wrong.labels[:] = (logits_of(AtWidth(net, 32), wrong.images).argmax(axis=1) + 1) % 6
    with pytest.raises(BadInput, match="None of the 200"):
        look(net, wrong, wanted=10)
    with pytest.raises(BadInput, match="32, 8, not 4"):
        look(net, test_split, wanted=10, widths=(4,))


def patch(value: int) -> Patch:
    return Patch(np.full((3, 4, 4), value, np.uint8), np.ones((4, 4), bool), None,
                 {"attack": "gap", "victim_name": "twin-w8a8", "seed": 3})  # fmt: skip


def test_the_newest_patch_is_the_one_written_last(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path / "runs")
    assert patches.newest(run) is None
    for at, name in enumerate(("c", "a", "b")):
        bank.save(patch(at), run.patches / f"{name}.npz")
        os.utime(run.patches / f"{name}.npz", ns=(at, at))
    np.savez(run.patches / "later.npz", ids=np.arange(3), pixels=np.zeros((3, 3, 4, 4), np.uint8))
    found = patches.newest(run)
    assert found is not None
    assert isinstance(found.patch, Patch)
    assert found.patch.pixels[0, 0, 0] == 2
    assert found.as_json()["victim"] == "twin-w8a8"
    assert found.spoken == "gap 4x4 px (newest of the run)"


def test_what_is_covered_is_what_the_paste_changes(net: QuantNet, test_split: Dataset) -> None:
    seen = look(net, test_split, wanted=20)
    places = patches.placed(seen, seen.test, patch_px=(4, 4))
    region = patches.covered(places, mask=np.ones((4, 4), bool), image_px=(16, 16))
    black, white = (patches.shown_all(patch(value), seen.test, places=places) for value in (0, 255))
    np.testing.assert_array_equal(region, (black != white).all(axis=1))


def test_a_patch_that_does_not_fit_is_a_sentence(net: QuantNet, test_split: Dataset) -> None:
    with pytest.raises(BadInput, match="larger than"):
        patches.how(look(net, test_split, wanted=20), (17, 4))


def a_finding(value: float) -> finding.Finding:
    def draw(drawn: figure.Figure) -> None:  # type: ignore[name-defined]
        axis = drawn.subplots()
        axis.imshow(np.eye(3))
        axis.plot([0, 1], [0, value], label="line")
        axis.legend()

    return finding.Finding({"value": value}, (), draw, (3.0, 2.0), notes=("A note",))


def test_equal_findings_leave_equal_bytes(tmp_path: Path) -> None:
    for folder, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        finding.write(a_finding(value), tmp_path / folder, name="shift", head={"n": 3})
    svg = [(tmp_path / folder / "shift.svg").read_bytes() for folder in "abc"]
    assert svg[0] == svg[1] != svg[2]
    assert b"<dc:date>" not in svg[0]
    assert read_json(tmp_path / "a" / "shift.json") == {
        "schema": 1, "analysis": "shift", "n": 3, "value": 1.0, "notes": ["A note"],
    }  # fmt: skip


def test_a_users_own_style_changes_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = figure.svg(a_finding(1.0).draw, size_in=(3.0, 2.0))
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 20.0}):
        assert figure.svg(a_finding(1.0).draw, size_in=(3.0, 2.0)) == plain


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"qadtr-edge\[report\]"):
        figure.require()


def test_the_package_names_its_analyses_without_torch() -> None:
    import subprocess
    import sys

    code = blocking(["torch", "matplotlib"]) + "import qadtr_edge.cli.analyze"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
