"""``export --onnx``: a quantized file that another tool wrote becomes a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import console, registry
from ..data import preprocess as preprocessing
from ..engines import open_artefact
from ..errors import EngineFailed, Unsupported
from ..runs import Run, new_run, record, width_name
from ..types import Json, Pixels
from . import export_files
from .export_answer import Row

if TYPE_CHECKING:
    from ..integer.graph import Float32, IntegerGraph

LARGE_SIDE_PX = 64
CHECKED_LARGE_IMAGES = 8


@dataclass(frozen=True)
class Given:
    """The file, and what is said of it."""

    file: Path
    preprocess: Path | None
    data: str | None
    data_root: Path | None


def export(
    given: Given, runs: Path, *, engines: Sequence[str], threads: int, seed: int
) -> tuple[Run, list[Row]]:
    """A fresh run with the file's integer graph, its engines and its float model, and their rows.

    Whatever fails leaves no run behind.
    """
    told = preprocessing.agreed(given.file, given.preprocess)
    lower = cast(Callable[..., _Lowered], registry.resolve("reader", "onnx"))
    lowered = lower(given.file, preprocess=told, data=given.data)
    console.say(f"All {lowered.nodes} nodes of {given.file} were read.")
    images = _images(given, lowered.graph, seed=seed)
    agreed = _same_classes(given, lowered.graph, images)
    run = new_run(runs)
    try:
        rows = _written(run, lowered, images, engines=engines, threads=threads, agreed=agreed)
        sidecar = given.preprocess or preprocessing.sidecar_of(given.file)
        record(run, "export", options={
            "onnx": str(given.file), "preprocess": sidecar and str(sidecar), "data": given.data,
            "engine": list(engines), "threads": threads, "seed": seed,
        }, inputs=(given.file, *([sidecar] if sidecar else [])))  # fmt: skip
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise
    return run, rows


class _Lowered:
    """What the reader returns, as far as it is used here."""

    graph: IntegerGraph
    pixels: Float32
    nodes: int


def _images(given: Given, graph: IntegerGraph, *, seed: int) -> Pixels:
    """A few images to compare on: of the data set where one is named, else noise."""
    shape = graph.tensors[graph.input].shape
    large = max(shape) > LARGE_SIDE_PX
    count = CHECKED_LARGE_IMAGES if large else export_files.CHECKED_IMAGES
    if given.data is None:
        return export_files.noise(shape, seed=seed, count=count)
    from ..data import load

    return load(given.data, "test", root=given.data_root, limit=count, image_size=shape[1]).images


def _same_classes(given: Given, graph: IntegerGraph, images: Pixels) -> int | None:
    """On how many images the judge says what the file itself says; ``None`` if that cannot run."""
    from ..integer import judge

    try:
        with open_artefact(given.file, preprocess=given.preprocess) as engine:
            theirs = engine(images).argmax(1)
    except EngineFailed as error:
        console.say(f"The file itself does not run: {error}")
        return None
    same = int((judge.run(graph, images).argmax(1) == theirs).sum())
    console.say(f"Its integer graph and the file itself name one class on {same} of {len(theirs)}.")
    return same


def _written(
    run: Run, lowered: _Lowered, images: Pixels, *, engines: Sequence[str], threads: int,
    agreed: int | None,
) -> list[Row]:  # fmt: skip
    from ..integer.dequantized import dequantized

    more: dict[str, Json] = {"same_class_as_file": agreed}
    rows: list[Row] = []
    with console.Progress("export", len(engines), unit="engines") as progress:
        for name in engines:
            made = export_files.integers(
                run, lowered.graph, engine=name, threads=threads, images=images
            )
            rows.append(replace(made, more=more))
            try:
                real = dequantized(lowered.graph, pixels=lowered.pixels)
                rows.append(export_files.floats(run, real, engine=name, threads=threads))
            except Unsupported as error:
                console.say(str(error))
            progress.advance(note=f"{name}-{width_name(lowered.graph.spec.bits)}")
    return rows
