"""The options verbs share, as annotated types: one spelling, one help text, one range each.

A verb writes ``run: options.Run = None, engine: options.Engines = "ort"`` and nothing else.
Values that hold several names or widths come as text and are split by ``split`` and ``widths``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from .. import registry
from ..errors import BadInput, UnknownName
from ..types import FLOAT_BITS

WIDTHS = (2, 3, 4, 5, 6, 7, 8)

RunPath = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder. Without it: the newest run, or the packaged model."),
]
RunsRoot = Annotated[
    Path, typer.Option("--runs", envvar="QADTR_RUNS", help="Folder that holds the runs.")
]
Engines = Annotated[
    str, typer.Option("--engine", help="Engine, several with commas, or all.", metavar="NAME[,…]")
]
Bits = Annotated[
    str | None,
    typer.Option(
        "--bits",
        metavar="N[,…]",
        help="Widths from 2 to 8, or 32 for float. Without it: those there are.",
    ),
]
Data = Annotated[
    str,
    typer.Option(help="signs, cifar10, imagenet, a folder, or an .npz file."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", envvar="QADTR_DATA", help="Folder that holds the data sets' files."
    ),
]
Images = Annotated[int | None, typer.Option("--images", min=1, help="Number of images.")]
Seed = Annotated[int, typer.Option(help="Seed of every random stream.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads the engine may use.")]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the answer as one JSON document on stdout.")
]


def split(text: str) -> tuple[str, ...]:
    """The comma-separated words of an option, each once, in order."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def named(kind: str, text: str) -> tuple[str, ...]:
    """Registered names of ``kind`` from a comma-separated option; ``all`` means every one.

    Raises ``UnknownName`` with the nearest known name.
    """
    known = registry.names(kind)
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


def offered(bits: Iterable[int], chosen: str | None, *, remedy: str) -> tuple[int, ...]:
    """The widths a verb works on: ``chosen``, or all of ``bits``; each must be among ``bits``."""
    there = tuple(bits)
    wanted = widths(chosen) if chosen is not None else there
    for width in wanted:
        if width not in there:
            listed = ", ".join(map(str, there)) or "none"
            raise BadInput(f"Width {width} is not there; there is: {listed}.", remedy)
    return wanted
