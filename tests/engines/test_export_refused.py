"""An export that is refused leaves nothing partial behind: no run of its own, no half engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import handmade
from qadtr_edge import registry, runs
from qadtr_edge.cli import export_files
from qadtr_edge.cli.export import export
from qadtr_edge.errors import EngineFailed, Unsupported
from qadtr_edge.integer import graph_file
from qadtr_edge.types import EngineFacts

pytestmark = pytest.mark.needs("torch")


class Refused(BaseException):
    """What may end a build beside our own errors, as Ctrl-C does."""


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the builder of TensorRT refuse."""

    def by(error: BaseException) -> None:
        def build(graph: object, folder: Path, *, threads: int) -> EngineFacts:
            raise error

        monkeypatch.setattr(
            registry, "resolve",
            lambda kind, name, ours=registry.resolve: (
                build if (kind, name) == ("builder", "trt") else ours(kind, name)
            ),
        )  # fmt: skip

    return by


@pytest.mark.parametrize("model", [None, "zoo:plain-resnet8-signs"])
@pytest.mark.parametrize(
    "error", [EngineFailed("No.", "Go."), Unsupported("No.", "Go."), Refused()],
    ids=["the builder refuses", "the graph does not fit", "interrupted"],
)  # fmt: skip
def test_a_run_that_was_made_for_the_export_goes_again(
    error: BaseException, model: str | None, tmp_path: Path,
    refusing: Callable[[BaseException], None],
) -> None:  # fmt: skip
    refusing(error)
    with pytest.raises(type(error)):
        export(model=model, runs=tmp_path, engine="trt", bits="8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs("ort")
def test_a_run_that_was_there_keeps_all_it_had_and_gains_nothing(
    tmp_path: Path, refusing: Callable[[BaseException], None]
) -> None:
    export(runs=tmp_path, engine="ort", bits="8")
    held = content(tmp_path)
    refusing(EngineFailed("No.", "Go."))
    for asked in ({}, {"run": runs.newest_run(tmp_path).folder}):  # type: ignore[union-attr]
        with pytest.raises(EngineFailed):
            export(runs=tmp_path, engine="trt", bits="4", **asked)
    assert content(tmp_path) == held


@pytest.mark.needs("ort")
def test_a_graph_that_our_lint_or_the_dialect_refuses_writes_no_file(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path)
    with pytest.raises(Unsupported):
        export_files.integers(
            run, handmade.residual(unsigned=True), engine="trt", threads=1, asked={}
        )
    assert content(run.folder) == {}


def test_a_graph_of_before_stays_beside_the_engine_of_before(
    tmp_path: Path, refusing: Callable[[BaseException], None]
) -> None:
    run = runs.new_run(tmp_path)
    graph_file.save(handmade.residual(), run.graph(8))
    held = content(run.folder)
    refusing(EngineFailed("No.", "Go."))
    with pytest.raises(EngineFailed):
        export_files.integers(run, handmade.residual(seed=1), engine="trt", threads=1, asked={})
    assert content(run.folder) == held
