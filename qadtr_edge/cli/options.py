"""The options verbs share, as annotated types: one spelling, one help text, one range each.

A verb writes ``run: options.RunPath = None, engine: options.Engines = "ort"`` and nothing else.
Values that hold several names or widths come as text; ``split``, ``named``, ``widths`` and
``subjects`` read them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from .. import registry
from ..errors import BadInput, UnknownName
from ..runs import Run
from ..types import FLOAT_BITS
from . import completion

WIDTHS = (2, 3, 4, 5, 6, 7, 8)
MOST = 1 << 16
"""Of images a call, and of milliseconds a pause: what is beyond is a slip."""

VICTIM = "twin"
VICTIMS = (VICTIM, "simulation", "float", "other", "widths")
"""What patches are crafted on; the first without ``--victim``."""


def _not_empty(text: str | None) -> str | None:
    """``text`` itself; an option that names no width is refused, not taken for a missing one."""
    if text is not None and not split(text):
        raise BadInput("--bits names no width.", "Give widths, --bits 8,4, or leave --bits out.")
    return text


RunPath = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder. Without it: the newest run, or the packaged model."),
]
RunsRoot = Annotated[
    Path, typer.Option("--runs", envvar="QADTR_RUNS", help="Folder that holds the runs.")
]
Engines = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Engine, several with commas, or all.",
        metavar="NAME[,…]",
        autocompletion=completion.names("engine", "artefact", also=["all"]),
    ),
]
Bits = Annotated[
    str | None,
    typer.Option(
        "--bits",
        metavar="N[,…]",
        callback=_not_empty,
        autocompletion=completion.words(map(str, (*WIDTHS, FLOAT_BITS))),
        help="Widths from 2 to 8, or 32 for float. Without it: those there are.",
    ),
]
Artefact = Annotated[
    Path | None,
    typer.Option("--artefact", help="A model file that ships, run untouched in place of a run."),
]
PreprocessFile = Annotated[
    Path | None,
    typer.Option(
        "--preprocess", help="TOML file: how pixels become its input. Default: beside the model."
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="signs, cifar10, imagenet, a folder, or an .npz file.",
        autocompletion=completion.names("dataset"),
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", envvar="QADTR_DATA", help="Folder that holds the data sets' files."
    ),
]
Images = Annotated[int | None, typer.Option("--images", min=1, help="Number of images.")]
PatchSize = Annotated[
    str | None,
    typer.Option(
        "--patch-size",
        metavar="PX",
        help="Side, HxW, circle:D, frame:T around the image, or mask:FILE.png, its white. "
        "Default: 6, and 50 from 96 px images on.",
    ),
]
Placement = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="HOW",
        help="random, plain, physical (perspective and light too), within:MASK.png (on its white "
        "alone), any of these with *N for N copies, centre, or fixed:TOP,LEFT. Default: the "
        "attack's own.",
    ),
]
Victim = Annotated[
    str | None,
    typer.Option(
        "--victim",
        help="Craft on: twin (the deployed integers), simulation, float, other (another width), "
        "widths (all at once).",
        show_default=VICTIM,
        autocompletion=completion.words(VICTIMS),
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random stream.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads the engine may use.")]
Full = Annotated[
    bool, typer.Option("--full", help="Time five windows of 10 s each instead of 0.2 s.")
]
Gaps = Annotated[
    str | None,
    typer.Option(
        metavar="MS", help="Also time one image after pauses of these milliseconds: 0,10,100,1000."
    ),
]
WithEnergy = Annotated[
    bool, typer.Option("--energy", help="Also energy per image, from what the machine tells.")
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the answer as one JSON document on stdout.")
]


def example(command: str) -> str:
    """What stands at the end of the help of a command."""
    return f"Example: {command}"


def split(text: str) -> tuple[str, ...]:
    """The comma-separated words of an option, each once, in order."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def counts(option: str, text: str, *, least: int = 1) -> list[int]:
    """The whole numbers of a comma-separated option, from ``least`` to ``MOST``, each once."""
    words = split(text)
    read = [int(word) for word in words if re.fullmatch(r"[0-9]{1,9}", word)]
    if not words or len(read) < len(words) or not all(least <= each <= MOST for each in read):
        raise BadInput(
            f"{option} {text!r} is not a list of counts from {least} to {MOST}.",
            f"Give numbers: {option} 1,8,32.",
        )
    return list(dict.fromkeys(read))


def named(kind: str, text: str, *, also: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Registered names of ``kind``, or of ``also``, from a comma-separated option.

    ``all`` means every one. Raises ``UnknownName`` with the nearest known name.
    """
    known = (*registry.names(kind), *also)
    chosen = known if text == "all" else split(text)
    for name in chosen:
        if name not in known:
            raise UnknownName(kind, name, known)
    if not chosen:
        raise BadInput(f"No {kind} was named.", f"Known: {', '.join(known)}, or all.")
    return chosen


def widths(text: str, *, allow_float: bool = True) -> tuple[int, ...]:
    """Bit-widths from a comma-separated option, each once, in order.

    Raises ``BadInput`` for what is no number, or outside 2 to 8 (and 32 when ``allow_float``).
    """
    allowed = (*WIDTHS, FLOAT_BITS) if allow_float else WIDTHS
    spoken = "2 to 8, or 32 for float" if allow_float else "2 to 8"
    found = []
    for word in split(text):
        if not word.isdecimal() or int(word) not in allowed:
            raise BadInput(
                f"{word!r} is not a bit-width.", f"Give numbers from {spoken}: --bits 8,4."
            )
        found.append(int(word))
    if not found:
        raise BadInput("No bit-width was given.", f"Give numbers from {spoken}: --bits 8,4.")
    return tuple(dict.fromkeys(found))


def subjects(run: Run, engine: str, *, bits: str | None) -> list[tuple[str, int]]:
    """Engine and width of everything exported that ``--engine`` and ``--bits`` choose.

    Without ``--bits``: every width, the float model first. Raises ``BadInput``, with the command
    that exports it, for what is not there.
    """
    wanted = None if bits is None else widths(bits)
    found: list[tuple[str, int]] = []
    command = f"qadtr-edge export --run {run.folder}"
    for name in named("engine", engine):
        there = run.widths(name)
        for width in there if wanted is None else wanted:
            if width in there:
                found.append((name, width))
            elif there or engine != "all":
                raise BadInput(
                    f"{run.folder} holds no {name} engine at width {width}; "
                    f"it holds: {', '.join(map(str, there)) or 'none'}.",
                    f"Make it: {command} --engine {name} --bits {width}.",
                )
    if not found:
        raise BadInput(
            f"{run.folder} holds no {'engine' if engine == 'all' else engine + ' engine'}.",
            f"Make one: {command}.",
        )
    return found
