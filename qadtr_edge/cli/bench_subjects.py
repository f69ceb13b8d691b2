"""Which engines ``bench`` measures: those of a run, or a file that ships, as it is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from .. import console, streams
from ..engines import ArtefactEngine, open_engine
from ..errors import BadInput, EngineFailed
from ..integer import graph_file
from ..integer.graph import IntegerGraph
from ..latency import Subject, open_subject
from ..runs import Run, width_name
from ..types import FLOAT_BITS, Pixels
from . import options
from .artefact import Shown


@dataclass(frozen=True, eq=False)
class Measured:
    """``run``: where the rows are kept; ``image``: (3, H, W) and ``classes`` of all subjects."""

    run: Run
    subjects: list[Subject]
    image: tuple[int, ...]
    classes: int

    def noise(self, batch: int, *, seed: int) -> Pixels:
        """Images to time on: what they show changes no duration."""
        shape = (batch, *self.image)
        return streams.generator(seed, "bench", batch).integers(0, 256, shape, dtype=np.uint8)


def of_run(stack: ExitStack, run: Run, *, engine: str, bits: str | None, threads: int) -> Measured:
    """The chosen engines of a run, the float model of each beside them where it was exported.

    Under ``all``, engines that were built for a device that is not here are said and left out.
    """
    chosen = options.subjects(run, engine, bits=bits)
    floats = [(name, FLOAT_BITS) for name, _ in chosen if FLOAT_BITS in run.widths(name)]
    graph = _any_graph(run)
    subjects = []
    for name, width in dict.fromkeys([*floats, *chosen]):
        opening = partial(open_engine, run, name, bits=width, threads=threads)
        try:
            subjects.append(stack.enter_context(open_subject(opening)))
        except EngineFailed as error:
            if engine != "all" or name == "ort":
                raise
            console.say(f"{name} {width_name(width)}: not run. {error.fact}")
    return Measured(run, subjects, graph.tensors[graph.input].shape, graph.classes)


def of_file(stack: ExitStack, shown: Shown, *, engine: str, root: Path, threads: int) -> Measured:
    """The file on each engine; its rows go into a folder under ``root`` named after its digest."""
    subjects = [
        stack.enter_context(open_subject(partial(shown.open, name, threads=threads)))
        for name in options.named("artefact", engine)
    ]
    first = cast(ArtefactEngine, subjects[0].engine)
    return Measured(shown.run(root), subjects, first.image, first.classes)


def _any_graph(run: Run) -> IntegerGraph:
    """A graph of the run, for the shape of its images: it is the same at every width."""
    for path in sorted(run.graphs.glob("w*a*.npz")):
        return graph_file.load(path)
    raise BadInput(
        f"{run.folder} holds no integer graph.", f"Make it: qadtr-edge export --run {run.folder}."
    )
