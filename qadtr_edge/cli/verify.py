"""``qadtr-edge verify``: did integers run, and are they the judge's, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from .. import console, registry
from ..engines import artefact_of, is_stale, open_engine
from ..errors import BadInput
from ..files import write_json
from ..integer import graph_file
from ..integer.graph import IntegerGraph
from ..runs import DEFAULT_ROOT, Run, open_run, read_manifest, record, width_name
from ..types import FLOAT_BITS, Json, Parity, Pixels
from . import artefact as artefacts
from . import options, verify_answer, verify_isa, verify_saturation
from .verify_answer import Row

Compare = Callable[..., Parity]


def verify(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    artefact: options.Artefact = None,
    preprocess: options.PreprocessFile = None,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    images: options.Images = None,
    data: Annotated[
        str | None, typer.Option(help="Data set, folder or .npz. Default: the model's own.")
    ] = None,
    data_root: options.DataRoot = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare every layer even when all logits are equal.")
    ] = False,
    isa: Annotated[
        str | None,
        typer.Option(help="Also emulate other CPUs, for onnxruntime: avx2,arm64."),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(
            help="A patch, .png or .npz: count the products that saturate without VNNI, "
            "clean and with it; of a file too, where it can be read."
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="With --isa: apply the cure where products saturate.")
    ] = False,
    threads: options.Threads = 1,
    seed: options.Seed = 0,
    json: options.JsonFlag = False,
) -> None:
    """Compare engines with the exact integer graph on all test images, and check their kernels.

    With --artefact, a file that ships is run untouched, and compared where it can be read.
    Exit code 1 when a layer ran in float or a logit differs, on an emulated CPU too. With one
    engine at one width, --json prints its result; with several, an object whose "results" lists
    them.
    """
    isas = verify_isa.names(isa) if isa else ()
    if fix and not isas:
        raise BadInput("--fix cures what --isa finds.", "Add --isa avx2, or leave --fix out.")
    if artefact is not None:
        artefacts.alone({"--run": run, "--bits": bits, "--isa": isa}, file=artefact)
        shown = artefacts.Shown(artefact, preprocess, data, data_root, images)
        counted = verify_saturation.of_file(shown, patch=patch, seed=seed) if patch else None
        rows = [
            artefacts.verified(shown, name, threads=threads, trace=layers)
            for name in options.named("artefact", engine)
        ]
        saturation = {row.bits: counted for row in rows} if counted else {}
        _answer(rows, [], saturation, layers=layers, json=json)
        return
    artefacts.needed(preprocess)
    opened = open_run(run, runs)
    read_manifest(opened)  # a damaged one is refused now, not after the work
    chosen = _chosen(opened, engine, bits)
    if isas and "ort" not in {name for name, _ in chosen}:
        raise BadInput(
            "--isa emulates CPUs for onnxruntime, which is not among the engines.",
            "Add it, --engine ort, or leave --isa out.",
        )
    rows = []
    loaded: dict[tuple[str, int], Pixels] = {}
    of_width: dict[int, Pixels] = {}
    for name, width in chosen:
        graph = graph_file.load(opened.graph(width))
        if is_stale(opened, graph):
            console.say(
                f"Warning: {opened.graph(width)} was exported from another checkpoint than the one "
                f"in {opened.folder}; `qadtr-edge export --run {opened.folder}` makes it anew."
            )
        source = _source(graph, data)
        if source not in loaded:
            loaded[source] = _images(source, root=data_root, limit=images)
            if patch is not None:  # one that does not fit is refused now, not after the work
                verify_saturation.patched(loaded[source][:1], patch, seed=seed)
        of_width[width] = loaded[source]
        row = _verified(
            opened, graph, loaded[source], name=name, bits=width, threads=threads, trace=layers
        )
        write_json(opened.engine(name, width) / "verify.json", row.as_json(layers=True))
        rows.append(row)
    elsewhere: list[verify_isa.Row] = []
    for width in [width for name, width in chosen if name == "ort"] if isas else []:
        clean = of_width[width][: images or verify_isa.IMAGES]
        patched = verify_saturation.patched(clean, patch, seed=seed) if patch else None
        elsewhere += verify_isa.check(
            opened, width, isas=isas, images=clean, patched=patched, seed=seed, fix=fix
        )
    saturation = {}
    if patch is not None:
        for width, all_images in of_width.items():
            clean = all_images[: images or verify_saturation.IMAGES]
            graph = graph_file.load(opened.graph(width))
            saturation[width] = verify_saturation.count(graph, clean, patch=patch, seed=seed)
    record(opened, "verify", options={"engine": engine, "bits": bits, "images": images,
           "data": data, "isa": isa, "fix": fix, "patch": patch and str(patch), "threads": threads,
           "seed": seed})  # fmt: skip
    _answer(rows, elsewhere, saturation, layers=layers, json=json)


def _answer(
    rows: list[Row], elsewhere: list[verify_isa.Row],
    saturation: Mapping[int, verify_saturation.Row], *, layers: bool, json: bool,
) -> None:  # fmt: skip
    """Prints the rows; ``saturation`` by the width of the row that it belongs to."""
    if json:
        counted = {width: each.as_json() for width, each in saturation.items()}
        shown: list[Json] = [
            row.as_json(layers=layers, elsewhere=elsewhere, saturation=counted.get(row.bits))
            for row in rows
        ]
        console.print_json(shown[0] if len(shown) == 1 else {"results": shown})
    else:
        verify_answer.show(rows)
        if elsewhere:
            verify_isa.show(elsewhere)
        if saturation:
            verify_saturation.show(list(saturation.values()))
    if not all([*(row.holds for row in rows), *(row.holds for row in elsewhere)]):
        raise typer.Exit(1)


def _chosen(run: Run, engine: str, bits: str | None) -> list[tuple[str, int]]:
    """Engine and width of every file to verify; the float model has no integers to compare."""
    found: list[tuple[str, int]] = []
    asked = options.widths(bits, allow_float=False) if bits else None
    for name in options.named("engine", engine):
        there = [width for width in run.widths(name) if width != FLOAT_BITS]
        if asked is None and not there and engine != "all":
            artefact_of(run, name, bits=8)  # answers with the command that makes one
        for width in asked or there:
            artefact_of(run, name, bits=width)
            found.append((name, width))
    if not found:
        raise BadInput(f"{run.folder} holds no engine to verify.", "Make one: qadtr-edge export.")
    return found


def _source(graph: IntegerGraph, data: str | None) -> tuple[str, int]:
    """Which data set the images come from, and their side in pixels."""
    name = data or graph.source.get("data")
    if name is None:
        raise BadInput(
            "The integer graph does not say which data set its model is for.", "Give --data NAME."
        )
    return name, graph.tensors[graph.input].shape[1]


def _images(source: tuple[str, int], *, root: Path | None, limit: int | None) -> Pixels:
    from ..data import load

    name, side_px = source
    return load(name, "test", root=root, limit=limit, image_size=side_px).images


def _verified(
    run: Run,
    graph: IntegerGraph,
    images: Pixels,
    *,
    name: str,
    bits: int,
    threads: int,
    trace: bool,
) -> Row:
    compare = cast(Compare, registry.resolve("parity", name))
    label = f"verify {name} {width_name(bits)}"
    with (
        open_engine(run, name, bits=bits, threads=threads) as engine,
        console.Progress(label, len(images), unit="images") as progress,
    ):
        parity = compare(
            graph,
            engine,
            images=images,
            model=artefact_of(run, name, bits=bits),
            trace=trace,
            on_batch=progress.advance,
        )
        return Row(bits, engine.facts, parity)
