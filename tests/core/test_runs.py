"""Run folders: names, which one is meant, the manifest."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qadtr_edge import runs
from qadtr_edge.errors import BadInput, UnknownName


def test_runs_of_a_day_are_counted(tmp_path: Path) -> None:
    first, second = runs.new_run(tmp_path), runs.new_run(tmp_path)
    assert first.name.endswith("-1")
    assert second.name.endswith("-2")
    assert runs.newest_run(tmp_path) == second


def test_two_processes_never_share_a_fresh_run(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.new_run(tmp_path).folder, range(32)))
    assert len(set(made)) == 32


def test_the_newest_is_by_date_then_by_number(tmp_path: Path) -> None:
    for name in ("2026-01-31-2", "2026-02-01-9", "2026-02-01-10", "2027-notes", "demo"):
        (tmp_path / name).mkdir()
    assert runs.newest_run(tmp_path) == runs.Run(tmp_path / "2026-02-01-10")


def test_a_run_is_opened_by_path_by_name_or_as_the_latest(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    assert runs.open_run(run.folder, Path("elsewhere")) == run
    assert runs.open_run(Path(run.name), tmp_path) == run
    assert runs.open_run(Path("latest"), tmp_path) == run
    assert runs.open_run(tmp_path / "latest") == run
    assert runs.open_run(None, tmp_path) == run


def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    with pytest.raises(BadInput) as caught:
        runs.open_run(Path("2020-01-01-1"), tmp_path)
    assert run.name in caught.value.remedy


def test_without_any_run_the_packaged_model_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "files", lambda package: tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "plain-resnet8-signs.safetensors").write_bytes(b"weights")
    run = runs.open_run(None, tmp_path / "runs")
    assert run.checkpoint.read_bytes() == b"weights"
    stages = json.loads(run.manifest.read_text())["stages"]
    assert stages["checkpoint"]["options"] == {"model": "zoo:plain-resnet8-signs"}
    assert set(stages["checkpoint"]["inputs"]) == {"checkpoint.safetensors"}


def test_an_unknown_packaged_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="plain-resnet8-signs"):
        runs.packaged_run("plain-resnet8-sign", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_root_is_two_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Cannot write"):
        runs.new_run(tmp_path / "file" / "runs")


def test_the_manifest_keeps_one_entry_per_stage(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    runs.record(run, "export", options={"bits": [8]})
    runs.record(run, "attack", options={})
    runs.record(run, "export", options={"bits": [4]}, inputs=(run.manifest,))
    stages = runs.read_manifest(run)["stages"]
    assert isinstance(stages, dict)
    assert list(stages) == ["export", "attack"]
    assert stages["export"]["options"] == {"bits": [4]}
    assert len(stages["export"]["inputs"]["manifest.json"]) == 64


@pytest.mark.parametrize(
    ("text", "fact"), [("[]", "not a manifest"), ('{"schema": 99}', "reads schema 1")]
)
def test_a_strange_manifest_is_refused(tmp_path: Path, text: str, fact: str) -> None:
    run = runs.new_run(tmp_path)
    run.manifest.write_text(text)
    with pytest.raises(BadInput, match=fact):
        runs.record(run, "export", options={})
    assert run.manifest.read_text() == text


def test_paths_follow_the_layout(tmp_path: Path) -> None:
    run = runs.Run(tmp_path)
    assert run.graph(8) == tmp_path / "graphs" / "w8a8.npz"
    assert run.engine("ort", 32) == tmp_path / "engines" / "ort-fp32"
    for name in ("ort-w4a4", "ort-w8a8", "ort-fp32", "ort-w8a4", "ortx-w2a2"):
        (run.engines / name).mkdir(parents=True)
    assert run.widths("ort") == (32, 8, 4)
    assert run.widths("trt") == ()
