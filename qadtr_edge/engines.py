"""Opening an engine of a run by name, without knowing which runtime it is."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Protocol, cast

from . import registry
from .data import preprocess as preprocessing
from .errors import BadInput
from .files import digest
from .integer.graph import IntegerGraph
from .runs import DEFAULT_ROOT, Run, open_run
from .types import Engine

ARTEFACT = "model.onnx"


def open_engine(
    run: Run | str | PathLike[str] | None, engine: str, *, bits: int, threads: int = 1
) -> Engine:
    """The engine ``engine`` of ``run`` at width ``bits``, ready to be called on uint8 images.

    ``run`` is a run, a path (``runs/latest`` is the newest), or ``None`` for the newest. Raises
    ``BadInput`` when that engine was not exported at that width.
    """
    opened = run if isinstance(run, Run) else open_run(None if run is None else Path(run))
    artefact = artefact_of(opened, engine, bits=bits)
    make = cast(Callable[..., Engine], registry.resolve("engine", engine))
    return make(artefact, threads=threads)


class ArtefactEngine(Engine, Protocol):
    """An engine over a file that ships; ``image`` is (3, H, W), ``classes`` its outputs."""

    @property
    def image(self) -> tuple[int, int, int]: ...

    @property
    def classes(self) -> int: ...

    def __enter__(self) -> ArtefactEngine: ...


def open_artefact(
    path: str | PathLike[str],
    engine: str = "ort",
    *,
    preprocess: Path | None = None,
    threads: int = 1,
) -> ArtefactEngine:
    """The file at ``path`` on ``engine``, untouched, ready to be called on uint8 images.

    ``preprocess`` says how pixels become its input; without it the sidecar beside the file does,
    and without that an integer input takes raw pixels. Raises ``BadInput`` where it stays unclear.
    """
    make = cast(Callable[..., ArtefactEngine], registry.resolve("artefact", engine))
    file = Path(path)
    return make(file, preprocess=preprocessing.agreed(file, preprocess), threads=threads)


def artefact_of(run: Run, engine: str, *, bits: int) -> Path:
    """The file an engine loads. Raises ``BadInput`` with the command that makes it."""
    registry.path_of("engine", engine)  # an unknown name is answered before a missing file
    artefact = run.engine(engine, bits) / ARTEFACT
    if not artefact.is_file():
        place = "" if run.folder.parent == DEFAULT_ROOT else f" --run {run.folder}"
        raise BadInput(
            f"{run.folder} holds no {engine} engine at {bits} bits.",
            f"Make it: qadtr-edge export{place} --engine {engine} --bits {bits}.",
        )
    return artefact


def is_stale(run: Run, graph: IntegerGraph) -> bool:
    """Whether ``graph`` was exported from another checkpoint than the one the run holds."""
    made_from = graph.source.get("checkpoint")
    return bool(made_from) and run.checkpoint.is_file() and made_from != digest(run.checkpoint)
