"""``export --onnx``: a quantized file that another tool wrote becomes a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import console, registry
from ..data import preprocess as preprocessing
from ..engines import open_artefact
from ..errors import EngineFailed, Unsupported
from ..runs import Run, new_run, record, width_name
from ..types import Json, Labels, Pixels
from . import export_files
from .artefact import check_labels
from .export_answer import Row
from .export_requantize import requantized

if TYPE_CHECKING:
    from ..integer.graph import Float32, IntegerGraph

LARGE_SIDE_PX = 64
CHECKED_LARGE_IMAGES = 8
REQUANTIZED_IMAGES, REQUANTIZED_LARGE_IMAGES = 1000, 100


@dataclass(frozen=True)
class Given:
    """The file, and what is said of it; ``requantize``: the form its integers are to take."""

    file: Path
    preprocess: Path | None
    data: str | None
    data_root: Path | None
    limit: int | None
    requantize: str | None


class _Lowered:
    """What the reader returns, as far as it is used here."""

    graph: IntegerGraph
    pixels: Float32
    nodes: int


@dataclass(frozen=True, eq=False)
class _Work:
    """A file that was read: its own integers, those to build of, and what it is compared on."""

    lowered: _Lowered
    graph: IntegerGraph
    images: Pixels
    more: dict[str, Json]


def export(
    given: Given, runs: Path, *, engines: Sequence[str], asked: Mapping[str, object], threads: int,
    seed: int,
) -> tuple[Run, list[Row]]:  # fmt: skip
    """A fresh run with the file's integer graph, its engines and its float model, and their rows.

    ``asked``: by engine, the builder's own options. Whatever fails leaves no run behind.
    """
    told = preprocessing.agreed(given.file, given.preprocess)
    lower = cast(Callable[..., _Lowered], registry.resolve("reader", "onnx"))
    lowered = lower(given.file, preprocess=told, data=given.data)
    console.say(f"All {lowered.nodes} nodes of {given.file} were read.")
    work = _prepared(given, lowered, seed=seed)
    with export_files.whole(new_run(runs)) as run:
        rows = _written(run, work, engines=engines, asked=asked, threads=threads)
        sidecar = given.preprocess or preprocessing.sidecar_of(given.file)
        record(run, "export", options={
            "onnx": str(given.file), "preprocess": sidecar and str(sidecar), "data": given.data,
            "requantize": given.requantize, "images": given.limit,
            "engine": list(engines), "threads": threads, "seed": seed,
        }, inputs=(given.file, *([sidecar] if sidecar else [])))  # fmt: skip
    return run, rows


def _prepared(given: Given, lowered: _Lowered, *, seed: int) -> _Work:
    """The graph to build of, and how it compares with the file."""
    graph = lowered.graph
    large = max(graph.tensors[graph.input].shape) > LARGE_SIDE_PX
    count = CHECKED_LARGE_IMAGES if large else export_files.CHECKED_IMAGES
    many = REQUANTIZED_LARGE_IMAGES if large else REQUANTIZED_IMAGES
    wanted = given.limit or (many if given.requantize and given.data else count)
    images, labels, name = _images(given, graph, seed=seed, count=wanted)
    shown = images[: given.limit or count]
    more: dict[str, Json] = {"same_class_as_file": _same_classes(given, graph, shown)}
    if given.requantize is not None:
        graph, change = requantized(
            graph, given.requantize, pixels=lowered.pixels, images=images, labels=labels,
            data=name,
        )  # fmt: skip
        if change is None:
            console.say(f"The file has {given.requantize} scales already: nothing was requantized.")
        else:
            console.say(f"The file was {change.told()}.")
            more["requantized"] = change.as_json()
    return _Work(lowered, graph, shown, more)


def _images(
    given: Given, graph: IntegerGraph, *, seed: int, count: int
) -> tuple[Pixels, Labels | None, str]:
    """Images to compare on, their labels and whose they are: of the data set, else noise."""
    shape = graph.tensors[graph.input].shape
    if given.data is None:
        return export_files.noise(shape, seed=seed, count=count), None, "noise"
    from ..data import load

    held = load(given.data, "test", root=given.data_root, limit=count, image_size=shape[1])
    check_labels(held, file=given.file, classes=graph.classes)
    return held.images, held.labels, held.name


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
    run: Run, work: _Work, *, engines: Sequence[str], asked: Mapping[str, object], threads: int
) -> list[Row]:
    from ..integer.dequantized import dequantized

    rows: list[Row] = []
    bits = work.graph.spec.bits
    with console.Progress("export", len(engines), unit="engines") as progress:
        for name in engines:
            made = export_files.integers(
                run, work.graph, engine=name, threads=threads, images=work.images, asked=asked
            )
            if "requantized" in work.more:
                export_files.tell(run, name, bits=bits, more=work.more)
            rows.append(replace(made, more=work.more))
            try:
                real = dequantized(work.lowered.graph, pixels=work.lowered.pixels)
                rows.append(
                    export_files.floats(run, real, engine=name, threads=threads, asked=asked)
                )
            except Unsupported as error:
                console.say(str(error))
            progress.advance(note=f"{name}-{width_name(bits)}")
    return rows
