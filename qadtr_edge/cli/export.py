"""``qadtr-edge export``: from a checkpoint to integer graphs and the engines that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .. import console, registry, streams
from ..engines import ARTEFACT, open_engine
from ..errors import BadInput, MissingDependency, UnknownName
from ..files import digest
from ..runs import DEFAULT_ROOT, Run, open_run, packaged_run, record, width_name
from ..types import FLOAT_BITS, EngineFacts, Json, Parity
from . import options

if TYPE_CHECKING:
    from ..integer.graph import IntegerGraph
    from ..models.checkpoint import CheckpointFacts
    from ..models.quantnet import QuantNet

CHECKED_IMAGES = 32

Builder = Callable[..., EngineFacts]
Compare = Callable[..., Parity]


def export(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    model: Annotated[
        str | None, typer.Option(help="A packaged model, as zoo:NAME, into a fresh run.")
    ] = None,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    threads: options.Threads = 1,
    json: options.JsonFlag = False,
) -> None:
    """Write integer graphs and engine files, observe what runs, and compare it with the judge.

    The float model is always written beside them, as the yardstick.
    """
    names = options.named("engine", engine)
    for name in names:
        registry.path_of("builder", name)
    wanted = None if bits is None else options.widths(bits)
    opened = _opened(run, runs, model)
    net, facts = _loaded(opened)
    widths = wanted or tuple(width for width in facts.widths if width != FLOAT_BITS)
    if FLOAT_BITS in facts.widths:
        widths = tuple(dict.fromkeys((*widths, FLOAT_BITS)))
    else:
        console.say("The checkpoint holds no float width, so there is no float model to write.")
    rows: list[_Row] = []
    with console.Progress("export", len(widths) * len(names), unit="engines") as progress:
        for width in widths:
            for name in names:
                rows.append(_built(opened, net, facts, name=name, bits=width, threads=threads))
                progress.advance(note=f"{name}-{width_name(width)}")
    record(
        opened,
        "export",
        options={"engine": list(names), "bits": list(widths), "threads": threads},
        inputs=(opened.checkpoint,),
    )
    if json:
        console.print_json({"run": str(opened.folder), "results": [row.as_json() for row in rows]})
    else:
        _print(opened, rows)


@dataclass(frozen=True)
class _Row:
    """One engine file: what was observed of it, and its parity on a few images (not for float)."""

    facts: EngineFacts
    file: str
    size_bytes: int
    parity: Parity | None

    def as_json(self) -> dict[str, Json]:
        row: dict[str, Json] = {
            "engine": self.facts.engine,
            "bits": self.facts.bits,
            "file": self.file,
            "size_bytes": self.size_bytes,
            "engine_digest": self.facts.digest,
            "precision": self.facts.precision,
            "integer_kernels": self.facts.integer_kernels,
            "float_layers": list(self.facts.float_layers),
            "notes": list(self.facts.notes),
        }
        if self.parity is not None:
            row |= {
                "images": self.parity.images,
                "logits_compared": self.parity.logits_compared,
                "logit_mismatches": self.parity.logit_mismatches,
                "first_divergent_layer": self.parity.first_divergent_layer,
            }
        return row


def _opened(run: options.RunPath, runs: options.RunsRoot, model: str | None) -> Run:
    if model is None:
        return open_run(run, runs)
    if run is not None:
        raise BadInput("--run and --model were both given.", "Give one of them.")
    if not model.startswith(registry.ZOO):
        known = (registry.ZOO + name for name in registry.names("packaged model"))
        raise UnknownName("packaged model", model, known)
    return packaged_run(model.removeprefix(registry.ZOO), runs)


def _loaded(run: Run) -> tuple[QuantNet, CheckpointFacts]:
    try:
        from ..models import checkpoint
    except ImportError as error:
        raise MissingDependency("torch", "train", purpose="Reading a checkpoint") from error
    return checkpoint.load(run.checkpoint)


def _built(
    run: Run, net: QuantNet, facts: CheckpointFacts, *, name: str, bits: int, threads: int
) -> _Row:
    """One engine at one width: its graph, its files, what ran, and the comparison."""
    folder = run.engine(name, bits)
    source = _source(run, facts, bits)
    parity: Parity | None = None
    if bits == FLOAT_BITS:
        from ..integer.lower_float import lower_float

        build = cast(Builder, registry.resolve("float builder", name))
        observed = build(lower_float(net, source=source), folder, threads=threads)
    else:
        from ..integer import graph_file
        from ..integer.lower import lower

        graph = lower(net, bits=bits, source=source)
        graph_file.save(graph, run.graph(bits))
        build = cast(Builder, registry.resolve("builder", name))
        observed = build(graph, folder, threads=threads)
        parity = _checked(run, graph, name=name, bits=bits, threads=threads)
    artefact = folder / ARTEFACT
    return _Row(observed, str(artefact), artefact.stat().st_size, parity)


def _source(run: Run, facts: CheckpointFacts, bits: int) -> Mapping[str, str]:
    """What the graph is made of, for whoever holds only the graph."""
    return {
        "model": facts.model,
        "data": facts.data,
        "checkpoint": digest(run.checkpoint),
        "trained_at_this_width": "yes" if bits in facts.trained_widths else "no",
    }


def _checked(run: Run, graph: IntegerGraph, *, name: str, bits: int, threads: int) -> Parity:
    """Engine against judge on a few images of noise; ``verify`` does it on real ones."""
    shape = (CHECKED_IMAGES, *graph.tensors[graph.input].shape)
    noise = streams.generator(0, "export").integers(0, 256, shape, dtype="uint8")
    compare = cast(Compare, registry.resolve("parity", name))
    with open_engine(run, name, bits=bits, threads=threads) as engine:
        return compare(graph, engine, images=noise, model=run.engine(name, bits) / ARTEFACT)


def _print(run: Run, rows: list[_Row]) -> None:
    columns = ["engine", "values", "kB", "ran as", "integer kernels", "float layers", "parity"]
    table = [
        [
            row.facts.engine,
            width_name(row.facts.bits),
            f"{row.size_bytes / 1000:,.0f}",
            row.facts.precision,
            str(row.facts.integer_kernels),
            str(len(row.facts.float_layers)),
            _parity(row.parity),
        ]
        for row in rows
    ]
    console.print_table(columns, table, title=f"Engines of {run.folder}")
    for note in dict.fromkeys(note for row in rows for note in row.facts.notes):
        console.say(f"Note: {note}.")


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return "yardstick"
    found = f"{parity.logit_mismatches} of {parity.logits_compared} logits differ"
    return f"{found}, first in {parity.first_divergent_layer}" if parity.logit_mismatches else found
