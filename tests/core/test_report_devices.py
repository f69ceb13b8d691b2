"""What devices timed stands in the report, joined with what they were fooled by on one digest."""

from __future__ import annotations

import json
from pathlib import Path

from qadtr_edge import runs
from qadtr_edge.report import evidence


def _pulled(run: runs.Run, name: str, *, sha: str, p50_ms: float) -> None:
    folder = run.folder / "devices" / name
    folder.mkdir(parents=True)
    row = {"engine": "ort", "bits": 8, "batch": 1, "p50_ms": p50_ms, "engine_digest": sha,
           "precision": "integer"}  # fmt: skip
    (folder / "bench.json").write_text(json.dumps({"results": [row, {**row, "batch": 8}]}))
    described = {"engine": "ort", "bits": 8, "digest": sha, "precision": "integer"}
    (folder / "device.json").write_text(json.dumps({"engines": [described]}))


def test_each_device_is_an_engine_of_its_own(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    _pulled(run, "nano", sha="a" * 64, p50_ms=3.5)
    _pulled(run, "orin", sha="a" * 64, p50_ms=0.9)
    found = evidence.read(run)
    nano, orin = found.engine("ort@nano", 8), found.engine("ort@orin", 8)
    assert nano is not None
    assert orin is not None
    assert (nano.latency[1]["p50_ms"], orin.latency[1]["p50_ms"]) == (3.5, 0.9)
    assert sorted(nano.latency) == [1, 8]
    assert nano.precision == "integer"
    assert not found.unread


def test_a_torn_file_of_a_device_is_named_and_the_others_stand(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    _pulled(run, "nano", sha="a" * 64, p50_ms=3.5)
    _pulled(run, "orin", sha="a" * 64, p50_ms=0.9)
    (run.folder / "devices" / "orin" / "bench.json").write_text("{")
    found = evidence.read(run)
    assert [engine.engine for engine in found.engines] == ["ort@nano"]
    assert "bench.json" in found.unread[0]
