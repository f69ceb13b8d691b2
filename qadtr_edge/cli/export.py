"""``qadtr-edge export``: from a checkpoint to integer graphs and the engines that run them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, registry
from ..errors import BadInput, MissingDependency, UnknownName
from ..files import digest
from ..runs import DEFAULT_ROOT, Run, newest_run, open_run, packaged_run, record, width_name
from ..types import FLOAT_BITS
from . import completion, export_build, export_files, export_onnx, options
from .artefact import alone, needed
from .export_answer import Row, answer

if TYPE_CHECKING:
    from ..models.checkpoint import CheckpointFacts
    from ..models.quantnet import QuantNet


def export(
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    model: Annotated[
        str | None,
        typer.Option(
            help="A packaged model, as zoo:NAME, into a fresh run.",
            autocompletion=completion.names("packaged model", prefix=registry.ZOO),
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", help="A quantized ONNX classifier, into a fresh run."),
    ] = None,
    preprocess: options.PreprocessFile = None,
    data: Annotated[
        str | None, typer.Option(help="With --onnx: the data set the model is for.")
    ] = None,
    data_root: options.DataRoot = None,
    images: options.Images = None,
    requantize: Annotated[
        str | None,
        typer.Option(
            help="With --onnx: symmetric gives an asymmetric file the integers TensorRT needs."
        ),
    ] = None,
    engine: options.Engines = "ort",
    bits: options.Bits = None,
    compute_capability: export_build.Capabilities = None,
    workspace: export_build.Workspace = None,
    hardware_compatible: export_build.Hardware = None,
    version_compatible: export_build.VersionCompatible = False,
    batch_profile: export_build.Batches = None,
    timing_cache: export_build.TimingCache = None,
    dla_core: export_build.DlaCore = None,
    threads: options.Threads = 1,
    seed: options.Seed = 0,
    json: options.JsonFlag = False,
) -> None:
    """Write integer graphs and engine files, observe what runs, and compare it with the judge.

    With --onnx the graph is read from a Q/DQ, QCDQ or QOperator file that another tool wrote.
    The float model is always written beside them, as the yardstick.
    """
    names = options.named("engine", engine)
    for name in names:
        registry.path_of("builder", name)
    asked = export_build.Asked(
        compute_capability, workspace, hardware_compatible, version_compatible, batch_profile,
        timing_cache, dla_core,
    ).by_engine(names)  # fmt: skip
    if onnx is not None:
        alone({"--run": run, "--model": model, "--bits": bits}, file=onnx)
        if requantize is not None:
            registry.path_of("requantization", requantize)
        given = export_onnx.Given(onnx, preprocess, data, data_root, images, requantize)
        made, foreign = export_onnx.export(
            given, runs, engines=names, asked=asked, threads=threads, seed=seed
        )
        answer(made, foreign, json=json)
        return
    needed(preprocess)
    _of_a_file({"--requantize": requantize, "--images": images, "--data": data})
    wanted = None if bits is None else options.widths(bits)
    with _opened(run, runs, model) as opened:
        net, facts = _loaded(opened)
        widths = wanted or tuple(width for width in facts.widths if width != FLOAT_BITS)
        if FLOAT_BITS in facts.widths:
            widths = tuple(dict.fromkeys((*widths, FLOAT_BITS)))
        else:
            console.say("The checkpoint holds no float width, so there is no float model to write.")
        rows: list[Row] = []
        with console.Progress("export", len(widths) * len(names), unit="engines") as progress:
            for width in widths:
                for name in names:
                    built = _built(
                        opened, net, facts, name=name, bits=width, asked=asked, threads=threads,
                        seed=seed,
                    )  # fmt: skip
                    rows.append(built)
                    progress.advance(note=f"{name}-{width_name(width)}")
        record(
            opened,
            "export",
            options={"engine": list(names), "bits": list(widths), "threads": threads, "seed": seed},
            inputs=(opened.checkpoint,),
        )
    answer(opened, rows, json=json)


def _of_a_file(given: Mapping[str, object]) -> None:
    """Raises ``BadInput`` for options that are about a file made elsewhere, where none is named."""
    for name, value in given.items():
        if value is not None:
            raise BadInput(
                f"{name} is about a file made elsewhere.", f"Name it: --onnx FILE {name}."
            )


@contextmanager
def _opened(run: options.RunPath, runs: options.RunsRoot, model: str | None) -> Iterator[Run]:
    """The run to export. One that had to be made for it goes again when the export fails."""
    if run is not None and model is not None:
        raise BadInput("--run and --model were both given.", "Give one of them.")
    if model is None and (run is not None or newest_run(runs) is not None):
        yield open_run(run, runs)
        return
    name = model or registry.ZOO + registry.DEFAULT_MODEL
    if not name.startswith(registry.ZOO):
        known = (registry.ZOO + name for name in registry.names("packaged model"))
        raise UnknownName("packaged model", name, known)
    with export_files.whole(packaged_run(name.removeprefix(registry.ZOO), runs)) as made:
        yield made


def _loaded(run: Run) -> tuple[QuantNet, CheckpointFacts]:
    try:
        from ..models import checkpoint
    except ImportError as error:
        raise MissingDependency("torch", "train", purpose="Reading a checkpoint") from error
    return checkpoint.load(run.checkpoint)


def _built(
    run: Run, net: QuantNet, facts: CheckpointFacts, *, name: str, bits: int,
    asked: Mapping[str, object], threads: int, seed: int,
) -> Row:  # fmt: skip
    """One engine at one width: its graph, its files, what ran, and the comparison."""
    source = _source(run, facts, bits)
    if bits == FLOAT_BITS:
        from ..integer.lower_float import lower_float

        real = lower_float(net, source=source)
        return export_files.floats(run, real, engine=name, threads=threads, asked=asked)
    from ..integer.lower import lower

    graph = lower(net, bits=bits, source=source)
    return export_files.integers(run, graph, engine=name, threads=threads, seed=seed, asked=asked)


def _source(run: Run, facts: CheckpointFacts, bits: int) -> Mapping[str, str]:
    """What the graph is made of, for whoever holds only the graph."""
    return {
        "model": facts.model,
        "data": facts.data,
        "checkpoint": digest(run.checkpoint),
        "trained_at_this_width": "yes" if bits in facts.trained_widths else "no",
    }
