"""A model file that ships, as the verbs take it: ``--artefact FILE --data NAME``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from .. import console, registry
from ..data import preprocess as preprocessing
from ..engines import ArtefactEngine, open_artefact
from ..errors import BadInput, Unsupported
from ..files import digest
from ..report.engine import SHIPPED
from ..runs import Run
from ..types import Json, Parity
from .verify_answer import Row

if TYPE_CHECKING:
    from ..data import Dataset
    from ..integer.graph import IntegerGraph

BATCH = 64

Compare = Callable[..., Parity]


class Shaped(Protocol):
    """An ``ArtefactEngine``, or what is known of one: ``image`` is (3, H, W)."""

    @property
    def image(self) -> tuple[int, int, int]: ...
    @property
    def classes(self) -> int: ...


class _Lowered(Protocol):
    """What the reader makes of a file: ``export.reader.Lowered``."""

    @property
    def graph(self) -> IntegerGraph: ...


@dataclass(frozen=True)
class Shown:
    """A file, and the images it is shown: ``limit`` of the test split, or all without one."""

    file: Path
    preprocess: Path | None
    data: str | None
    data_root: Path | None
    limit: int | None

    def run(self, root: Path) -> Run:
        """The folder under ``root`` that keeps what is measured of this file."""
        run = Run(root / f"{SHIPPED}-{digest(self.file)[:12]}")
        run.folder.mkdir(parents=True, exist_ok=True)
        return run

    def open(self, engine: str, *, threads: int) -> ArtefactEngine:
        return open_artefact(self.file, engine, preprocess=self.preprocess, threads=threads)

    def graph(self) -> IntegerGraph:
        """The integer graph that the file becomes.

        Raises ``Unsupported`` for a file that cannot be read, with the nodes that are in the way.
        """
        kind = self.file.suffix.removeprefix(".")
        if kind not in registry.names("reader"):
            raise Unsupported(
                f"Files that end in .{kind} are not read as an integer graph.", "Leave --patch out."
            )
        lower = cast("Callable[..., _Lowered]", registry.resolve("reader", kind))
        told = preprocessing.agreed(self.file, self.preprocess)
        return lower(self.file, preprocess=told, data=self.data).graph

    def load(self, engine: Shaped, split: str, *, limit: int | None) -> Dataset:
        """Images of the engine's size. Raises ``BadInput`` where size or labels do not fit it."""
        from ..data import load

        if self.data is None:
            raise BadInput(
                f"{self.file} does not say which data set it is for.",
                "Give --data NAME, and --data-root DIR where its files are.",
            )
        _, rows, columns = engine.image
        if rows != columns:
            raise BadInput(
                f"{self.file} takes images of {rows} x {columns} pixels, and data sets are square.",
                "Use a model for square images.",
            )
        data = load(self.data, split, root=self.data_root, limit=limit, image_size=rows)
        check_labels(data, file=self.file, classes=engine.classes)
        return data


def check_labels(data: Dataset, *, file: Path, classes: int) -> None:
    """Raises ``BadInput`` for images of more classes than ``file`` tells apart."""
    if int(data.labels.max()) >= classes:
        raise BadInput(
            f"{file} tells {classes} classes apart, and {data.name} has the label "
            f"{int(data.labels.max())}.",
            "Name the data set the model was made for, or set class_offset in its "
            "preprocessing file.",
        )


def alone(others: Mapping[str, object], *, file: Path) -> None:
    """Raises ``BadInput`` for options that choose in a run, beside a ``file`` made elsewhere."""
    for name, value in others.items():
        if value is not None:
            raise BadInput(
                f"{name} chooses among what a run holds, and {file} stands for itself.",
                f"Leave out {name}.",
            )


def needed(preprocess: Path | None) -> None:
    """Raises ``BadInput`` for ``--preprocess`` without a file that it could be about."""
    if preprocess is not None:
        raise BadInput(
            "--preprocess tells of a model made elsewhere, and none is named.",
            "Name it, or leave --preprocess out.",
        )


def verified(shown: Shown, name: str, *, threads: int, trace: bool) -> Row:
    """What ran of the file, its accuracy, and its parity with the judge where it can be read."""
    from ..data import preprocess as preprocessing

    told = preprocessing.agreed(shown.file, shown.preprocess)
    compare = cast(Compare, registry.resolve("artefact parity", name))
    with shown.open(name, threads=threads) as engine:
        data = shown.load(engine, "test", limit=shown.limit)
        right = 0
        with console.Progress(f"{name}, as it ships", len(data), unit="images") as progress:
            for start in range(0, len(data), BATCH):
                part = slice(start, start + BATCH)
                labels = engine(np.ascontiguousarray(data.images[part])).argmax(1)
                right += int((labels == data.labels[part]).sum())
                progress.advance(len(labels))
        with console.Progress(f"verify {name}", len(data), unit="images") as progress:
            try:
                parity = compare(
                    shown.file, images=data.images, preprocess=told, threads=threads, trace=trace,
                    on_batch=progress.advance,
                )  # fmt: skip
            except Unsupported as error:
                parity = Parity(
                    len(data), 0, 0, 0.0, 0, notes=("it was not compared with the judge",)
                )
                console.say(str(error))
        more: dict[str, Json] = {
            "artefact": str(shown.file),
            "data": data.name,
            "accuracy": right / len(data),
        }
        return Row(engine.facts.bits, engine.facts, parity, more)
