"""Writing one engine of a run, observing what runs, and comparing it with the judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from .. import registry, streams
from ..engines import ARTEFACT, open_engine
from ..runs import Run
from ..types import FLOAT_BITS, EngineFacts, Parity, Pixels
from .export_answer import Row

if TYPE_CHECKING:
    from ..integer.float_graph import FloatGraph
    from ..integer.graph import IntegerGraph

CHECKED_IMAGES = 32

Builder = Callable[..., EngineFacts]
Compare = Callable[..., Parity]


def integers(
    run: Run, graph: IntegerGraph, *, engine: str, threads: int, images: Pixels | None = None
) -> Row:
    """The graph's file and the engine's, and its parity on ``images``, without them on noise."""
    from ..integer import graph_file

    bits = graph.spec.bits
    graph_file.save(graph, run.graph(bits))
    build = cast(Builder, registry.resolve("builder", engine))
    observed = build(graph, run.engine(engine, bits), threads=threads)
    if observed.precision == "unknown":  # built for a device that is not here: nothing ran
        return _row(run, observed, engine=engine, bits=bits, parity=None)
    shown = noise(graph.tensors[graph.input].shape, seed=0) if images is None else images
    compare = cast(Compare, registry.resolve("parity", engine))
    with open_engine(run, engine, bits=bits, threads=threads) as opened:
        model = run.engine(engine, bits) / ARTEFACT
        parity = compare(graph, opened, images=shown, model=model)
    return _row(run, observed, engine=engine, bits=bits, parity=parity)


def floats(run: Run, graph: FloatGraph, *, engine: str, threads: int) -> Row:
    """The float model's file."""
    build = cast(Builder, registry.resolve("float builder", engine))
    observed = build(graph, run.engine(engine, FLOAT_BITS), threads=threads)
    return _row(run, observed, engine=engine, bits=FLOAT_BITS, parity=None)


def noise(shape: tuple[int, ...], *, seed: int, count: int = CHECKED_IMAGES) -> Pixels:
    """Images to check an engine with; ``verify`` does it on real ones."""
    return streams.generator(seed, "export").integers(0, 256, (count, *shape), dtype="uint8")


def _row(run: Run, facts: EngineFacts, *, engine: str, bits: int, parity: Parity | None) -> Row:
    artefact = run.engine(engine, bits) / ARTEFACT
    return Row(facts, str(artefact), artefact.stat().st_size, parity)
