"""The public names: a small list, each found, nothing heavy imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qadtr_edge
import reported
from qadtr_edge.errors import BadInput
from qadtr_edge.results import Store

PUBLIC = {
    "load_checkpoint", "load_patch", "open_engine", "paste", "read_results", "replay", "run_suite",
}  # fmt: skip
REPLAY = {"replay", "Unit", "Subject", "Attacked"}


def test_every_public_name_is_there() -> None:
    assert set(qadtr_edge.__all__) == PUBLIC
    assert list(qadtr_edge.__all__) == sorted(qadtr_edge.__all__)
    for name in qadtr_edge.__all__:
        assert getattr(qadtr_edge, name) is not None
    assert set(dir(qadtr_edge.replay)) >= REPLAY
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qadtr_edge.nothing  # type: ignore[attr-defined]


def test_types_ship() -> None:
    assert Path(qadtr_edge.__file__).with_name("py.typed").is_file()


def test_replay_is_the_same_whatever_was_imported_before() -> None:
    code = "import qadtr_edge as qe; first = qe.replay; import qadtr_edge.replay as r; "
    code += "assert first is r is qe.replay and callable(qe.replay.replay)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_patch_goes_from_its_file_onto_an_image(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    patch = qadtr_edge.load_patch(next(run.patches.glob("*.png")))
    images = np.zeros((1, 3, 32, 32), np.uint8)
    from qadtr_edge.types import Placements

    at = Placements(np.array([3.0]), np.array([5.0]), np.zeros(1), np.ones(1))
    shown = qadtr_edge.paste(images, patch.pixels, mask=patch.mask, placements=at)
    assert (shown[0, :, 3:9, 5:11] == patch.pixels).all()
    with pytest.raises(BadInput, match=r"no patch file patch\.png"):
        qadtr_edge.load_patch("patch.png")


@pytest.mark.parametrize("name", ["images", "batch", "threads"])
def test_a_suite_of_nothing_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    words: dict[str, int] = {name: 0}
    with pytest.raises(BadInput, match=f"{name} is 0, less than 1"):
        qadtr_edge.run_suite(tmp_path, **words)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="patch_px is 0"):
        qadtr_edge.run_suite(tmp_path, patch_px=(6, 0))


def test_results_are_a_flat_table(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", attacks=("gap", "grey"))
    found = qadtr_edge.read_results(run.folder)
    assert [row["attack"] for row in found] == ["gap", "grey", "gap", "grey"]
    assert len({tuple(row) for row in found}) == 1
    assert not any(isinstance(value, list | dict) for row in found for value in row.values())
    counts = {row.key: row.counts for row in Store(run.results, run.labels).rows()}
    for row in found:
        kept = counts[str(row["key"])]
        assert row["asr"] == kept.fooled / kept.eligible
        assert kept.sim_fooled is not None
        assert row["sim_asr"] == kept.sim_fooled / (kept.sim_eligible or 0)
