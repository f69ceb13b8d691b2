"""What ``attack`` aims at: the engines of a run, or a file that ships, as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from .. import console
from ..data.dataset import Dataset
from ..engines import open_engine
from ..errors import BadInput, Unsupported
from ..integer import graph_file
from ..runs import Run
from ..types import FLOAT_BITS, Engine
from . import attack_plan, options
from .artefact import Shown


class Source(Protocol):
    """Where the images come from: ``attack_plan.Source``, or a file's own data set."""

    @property
    def name(self) -> str: ...
    @property
    def image_px(self) -> int: ...

    def load(self, split: str, *, root: Path | None, limit: int) -> Dataset: ...


@dataclass(frozen=True, eq=False)
class Target:
    """``run`` keeps what is found; ``engines``: name, width and how each is opened.

    ``classes``: how many the model knows, given the test images.
    """

    run: Run
    source: Source
    engines: tuple[tuple[str, int, Callable[[], AbstractContextManager[Engine]]], ...]
    classes: Callable[[Dataset], int]


def of_run(run: Run, *, engine: str, bits: str | None, data: str | None, threads: int) -> Target:
    """The engines of a run; the float model only when asked for.

    Raises ``BadInput`` when the run's checkpoint changed after they were exported.
    """
    there = options.subjects(run, engine, bits=bits)
    chosen = [(name, width) for name, width in there if bits is not None or width != FLOAT_BITS]
    if not chosen:
        raise BadInput(
            f"{run.folder} holds only float models.",
            f"Make an integer one: qadtr-edge export --run {run.folder} --bits 8; or --bits 32.",
        )
    for width in dict.fromkeys(width for _, width in chosen):
        attack_plan.require_fresh(run, width)
    return Target(
        run,
        attack_plan.source(run, data),
        tuple(
            (name, width, partial(open_engine, run, name, bits=width, threads=threads))
            for name, width in chosen
        ),
        partial(attack_plan.classes_of, run),
    )


def of_file(shown: Shown, *, engine: str, root: Path, threads: int) -> Target:
    """The file untouched, on each engine; where it can be read, its integers for white-box attacks.

    What is found goes into a folder under ``root`` that is named after the file's digest.
    """
    names = options.named("artefact", engine)
    run = shown.run(root)
    with shown.open(names[0], threads=threads) as first:
        source = _OfFile(shown, first.image, first.classes)
        bits = first.facts.bits
    _read(shown, run, bits=bits)
    return Target(
        run,
        source,
        tuple((name, bits, partial(shown.open, name, threads=threads)) for name in names),
        lambda test: source.classes,
    )


@dataclass(frozen=True, eq=False)
class _OfFile:
    """The data set named beside a file, in the size of its input."""

    shown: Shown
    image: tuple[int, int, int]
    classes: int

    @property
    def name(self) -> str:
        return str(self.shown.data)

    @property
    def image_px(self) -> int:
        return self.image[1]

    def load(self, split: str, *, root: Path | None, limit: int) -> Dataset:
        return self.shown.load(self, split, limit=limit)


def _read(shown: Shown, run: Run, *, bits: int) -> None:
    """Keeps the file's integer graph in ``run``, or says that only the engine can be asked."""
    try:
        graph_file.save(shown.graph(), run.graph(bits))
    except Unsupported as error:
        console.say(
            f"No gradients: {error.fact} Attacks that ask the engine are left: --attack "
            "patch_rs,mpa,label_search,patch_rs_universal, or --patch FILE."
        )
