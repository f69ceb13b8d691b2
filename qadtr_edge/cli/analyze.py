"""``qadtr-edge analyze``: what a patch does inside the network, where it wins, how it may hide."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, replay
from ..analysis import ANALYSES
from ..engines import open_engine
from ..errors import BadInput, UnknownName
from ..files import digest
from ..integer import graph_file
from ..results import Store
from ..runs import DEFAULT_ROOT, Run, open_run, record
from ..types import FLOAT_BITS, Json
from . import attack_plan, completion, options, patch_form

if TYPE_CHECKING:
    from ..analysis.finding import Finding
    from ..analysis.patches import Chosen
    from ..analysis.scene import Scene, Viewer

IMAGES = 500
CRAFT_IMAGES = 1000

Name = Annotated[
    str,
    typer.Argument(
        metavar="|".join(ANALYSES),
        help="What to analyse.",
        autocompletion=completion.words(ANALYSES),
    ),
]


def analyze(
    analysis: Name,
    *,
    run: options.RunPath = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,…]", help="Engines to show the patch. Default: those exported."
        ),
    ] = None,
    bits: options.Bits = None,
    patch: Annotated[
        Path | None,
        typer.Option(help="A .png or .npz. Default: the newest of the run (gradients: noise)."),
    ] = None,
    patch_size: Annotated[
        str | None, typer.Option(metavar="PX", help="Craft one of this side, or HxW, instead.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Craft one in so many steps instead.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="spatial: pixels between places. Default: 2, or 29 from 96 px."),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Test images that must be right at every width.")
    ] = IMAGES,
    data: Annotated[
        str | None, typer.Option(help="Data set, folder or .npz. Default: the model's own.")
    ] = None,
    data_root: options.DataRoot = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of the engines.")] = 1,
    seed: options.Seed = 0,
    json: options.JsonFlag = False,
) -> None:
    """Analyse a run: align its gradients, map a patch's places, hide it, follow its rounding.

    Writes analysis/NAME.json and analysis/NAME.svg into the run.
    """
    if analysis not in ANALYSES:
        raise UnknownName("analysis", analysis, ANALYSES)
    _refuse(analysis, engine=engine, stride=stride, patch=patch, patch_size=patch_size, steps=steps)
    import torch

    from ..analysis import figure, finding

    figure.require()
    torch.set_num_threads(threads)
    asked = Asked(
        open_run(run, runs), engine, options.widths(bits) if bits else None, patch, patch_size,
        steps, images, data, data_root, threads, seed,
    )  # fmt: skip
    scene, chosen = _scene(asked, analysis)
    with ExitStack() as stack:
        viewers = _viewers(asked, scene, analysis, stack=stack)
        found = _analysed(asked, scene, chosen, name=analysis, viewers=viewers, stride=stride)
    head: dict[str, Json] = {
        "run": asked.run.name,
        "n": int(scene.right.sum()),
        "images": len(scene.test),
        "widths": list(scene.widths),
        "options": {
            "engine": engine, "bits": bits, "steps": steps,
            "patch": None if patch is None else str(patch),
            "patch_size": patch_size, "stride": stride, "images": images, "data": scene.test.name,
            "threads": threads, "seed": seed,
        },
        "digests": {
            "checkpoint": scene.digest,
            "data": replay.data_digest(scene.test),
            "models": {viewer.title: viewer.subject.digest for viewer in viewers},
        },
    }  # fmt: skip
    folder = asked.run.analysis
    document = finding.write(found, folder, name=analysis, head=head)
    record(asked.run, f"analyze {analysis}", options=dict(_options(head)),
           inputs=(asked.run.checkpoint,))  # fmt: skip
    if json:
        console.print_json(document)
    else:
        for table in found.tables:
            console.print_table(table.columns, table.rows, title=table.title)
    for note in found.notes:
        console.say(f"Note: {note}.")
    console.say(f"Written: {folder / analysis}.json and .svg")


@dataclass(frozen=True)
class Asked:
    """The options of one command; ``widths``: those named, ``None`` for all the checkpoint has."""

    run: Run
    engine: str | None
    widths: tuple[int, ...] | None
    patch: Path | None
    patch_size: str | None
    steps: int | None
    images: int
    data: str | None
    data_root: Path | None
    threads: int
    seed: int


def _refuse(
    analysis: str,
    *,
    engine: str | None,
    stride: int | None,
    patch: Path | None,
    patch_size: str | None,
    steps: int | None,
) -> None:
    """Raises ``BadInput`` for options that this analysis, or another option, has no use for."""
    if engine is not None and analysis == "gradients":
        raise BadInput(
            "An engine has no gradients: they are those of the simulation.", "Leave out --engine."
        )
    if stride is not None and analysis != "spatial":
        raise BadInput(f"{analysis} has no grid of places.", "Leave out --stride.")
    for name, value in (("--patch-size", patch_size), ("--steps", steps)):
        if value is not None and patch is not None:
            raise BadInput(
                f"{name} says how to craft a patch, and --patch gives one that is made.",
                f"Leave out {name} or --patch.",
            )


def _scene(asked: Asked, analysis: str) -> tuple[Scene, Chosen]:
    """Network, widths, images and patch; what does not fit is refused before the long work."""
    from ..analysis import patches, scene
    from ..data.dataset import Dataset
    from ..models import checkpoint
    from ..patch.placement import check_fit, policy

    run = asked.run
    net, facts = checkpoint.load(run.checkpoint)
    widths = asked.widths or net.widths
    for bits in widths:
        net.select(bits)
    if analysis == "shift":
        net.select(FLOAT_BITS)
        widths = tuple(dict.fromkeys((FLOAT_BITS, *widths)))
    if analysis != "gradients":
        for bits in {width for _, width in _exported(asked, widths)}:
            attack_plan.require_fresh(run, bits)
    source = attack_plan.source(run, asked.data)
    side = facts.image_px
    patch_px = patch_form.patch_px(asked.patch_size, image_px=side)
    given = patches.of_file(asked.patch) if asked.patch is not None else None
    if given is None and asked.patch_size is None and asked.steps is None:
        is_noise = analysis == "gradients"
        given = patches.noise(patch_px, seed=asked.seed) if is_noise else patches.newest(run)
    px = patch_px if given is None else given.patch.mask.shape
    how = policy("plain" if analysis == "spatial" else patches.PLACEMENT, image_px=side)
    check_fit(how, px, image_px=(side, side))
    console.say(f"Loading {source.name} …")

    def load(limit: int) -> Dataset:
        test = source.load("test", root=asked.data_root, limit=limit)
        attack_plan.classes_of(run, test)
        return test

    seen = scene.look(
        net, load, widths=widths, wanted=asked.images, seed=asked.seed,
        digest=digest(run.checkpoint),
    )  # fmt: skip
    right = int(seen.right.sum())
    if right < asked.images:
        console.say(f"Only {right} of the {len(seen.test)} test images are right at every width.")
    if given is None:
        craft = source.load("craft", root=asked.data_root, limit=CRAFT_IMAGES)
        given = patches.crafted(
            run, craft, widths=widths, patch_px=patch_px, steps=asked.steps, seed=asked.seed
        )
    return seen, given


def _viewers(asked: Asked, scene: Scene, analysis: str, *, stack: ExitStack) -> list[Viewer]:
    """Who is shown the bytes, width by width: simulation, judge (shift alone), engines.

    ``visibility`` asks the simulation only where no engine was exported.
    """
    from ..analysis import scene as looked

    if analysis == "gradients":
        return []
    exported = _exported(asked, scene.widths)
    found = []
    for bits in scene.widths:
        names = [name for name, width in exported if width == bits]
        if analysis != "visibility" or not names:
            found.append(looked.simulation(scene, bits))
        path = asked.run.graph(bits)
        if analysis == "shift" and names and path.is_file():
            found.append(looked.judge(scene, graph_file.load(path), bits=bits))
        for name in names:
            running = stack.enter_context(
                open_engine(asked.run, name, bits=bits, threads=asked.threads)
            )
            found.append(looked.engine(scene, running, bits=bits))
    return found


def _exported(asked: Asked, widths: tuple[int, ...]) -> list[tuple[str, int]]:
    """Engine and width of everything there is to show; named ones must be there."""
    if asked.engine is not None:
        bits = None if asked.widths is None else ",".join(map(str, asked.widths))
        return options.subjects(asked.run, asked.engine, bits=bits)
    names = options.named("engine", "all")
    return [(name, bits) for name in names for bits in asked.run.widths(name) if bits in widths]


def _analysed(
    asked: Asked,
    scene: Scene,
    chosen: Chosen,
    *,
    name: str,
    viewers: list[Viewer],
    stride: int | None,
) -> Finding:
    if name == "gradients":
        from ..analysis import gradients

        rows = Store(asked.run.results, asked.run.labels).rows()
        return gradients.analyse(scene, chosen, rows=rows)
    if name == "spatial":
        from ..analysis import spatial

        return spatial.analyse(scene, viewers, chosen=chosen, stride=stride)
    if name == "visibility":
        from ..analysis import visibility

        return visibility.analyse(scene, viewers, chosen=chosen)
    from ..analysis import shift

    return shift.analyse(scene, viewers, chosen=chosen)


def _options(head: dict[str, Json]) -> dict[str, Json]:
    found = head["options"]
    assert isinstance(found, dict)
    return found
