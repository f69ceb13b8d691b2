"""Writing one engine of a run, observing what runs, and comparing it with the judge."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from .. import registry, streams
from ..engines import ARTEFACT, open_engine
from ..files import read_json, write_json
from ..runs import Run
from ..types import FLOAT_BITS, EngineFacts, Json, Parity, Pixels
from .export_answer import Row

if TYPE_CHECKING:
    from ..integer.float_graph import FloatGraph
    from ..integer.graph import IntegerGraph

CHECKED_IMAGES = 32
FACTS = "facts.json"

Builder = Callable[..., EngineFacts]
Compare = Callable[..., Parity]


@contextmanager
def whole(run: Run) -> Iterator[Run]:
    """The fresh ``run``, which goes again with all that was written when anything fails inside."""
    try:
        yield run
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise


def integers(
    run: Run, graph: IntegerGraph, *, engine: str, threads: int, images: Pixels | None = None,
    seed: int = 0, asked: Mapping[str, object],
) -> Row:  # fmt: skip
    """The engine's file and the graph's, and its parity on ``images``, or on noise of ``seed``.

    ``asked``: by engine, the builder's own options. Where that refuses, neither file is touched.
    """
    from ..integer import graph_file

    bits = graph.spec.bits
    build = cast(Builder, registry.resolve("builder", engine))
    observed = build(graph, run.engine(engine, bits), threads=threads, **_own(asked, engine))
    graph_file.save(graph, run.graph(bits))
    if observed.precision == "unknown":  # built for a device that is not here: nothing ran
        return _row(run, observed, engine=engine, bits=bits, parity=None)
    shown = noise(graph.tensors[graph.input].shape, seed=seed) if images is None else images
    compare = cast(Compare, registry.resolve("parity", engine))
    with open_engine(run, engine, bits=bits, threads=threads) as opened:
        model = run.engine(engine, bits) / ARTEFACT
        parity = compare(graph, opened, images=shown, model=model)
    return _row(run, observed, engine=engine, bits=bits, parity=parity)


def floats(
    run: Run, graph: FloatGraph, *, engine: str, threads: int, asked: Mapping[str, object]
) -> Row:
    """The float model's file; ``asked`` as of ``integers``."""
    build = cast(Builder, registry.resolve("float builder", engine))
    folder = run.engine(engine, FLOAT_BITS)
    observed = build(graph, folder, threads=threads, **_own(asked, engine))
    return _row(run, observed, engine=engine, bits=FLOAT_BITS, parity=None)


def _own(asked: Mapping[str, object], engine: str) -> dict[str, object]:
    return {"options": asked[engine]} if engine in asked else {}


def tell(run: Run, engine: str, *, bits: int, more: Mapping[str, Json]) -> None:
    """Adds ``more`` to the facts beside an engine's file."""
    path = run.engine(engine, bits) / FACTS
    write_json(path, {**cast("dict[str, Json]", read_json(path)), **more})


def noise(shape: tuple[int, ...], *, seed: int, count: int = CHECKED_IMAGES) -> Pixels:
    """Images to check an engine with; ``verify`` does it on real ones."""
    return streams.generator(seed, "export").integers(0, 256, (count, *shape), dtype="uint8")


def _row(run: Run, facts: EngineFacts, *, engine: str, bits: int, parity: Parity | None) -> Row:
    artefact = run.engine(engine, bits) / ARTEFACT
    return Row(facts, str(artefact), artefact.stat().st_size, parity)
