"""``qadtr-edge data``: which data sets are here; ``data cifar10`` gets CIFAR-10 and checks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console, registry
from ..errors import BadInput, UnknownName
from . import options

if TYPE_CHECKING:
    from ..data.catalog import Holding
    from ..types import Json

DOWNLOADS = "cifar10"

Name = Annotated[str | None, typer.Argument(metavar="[cifar10]", help="Data set to get and check.")]


def data(
    name: Name = None, *, data_root: options.DataRoot = None, json: options.JsonFlag = False
) -> None:
    """List the data sets and where each is found; `data cifar10` gets CIFAR-10 and checks it."""
    from ..data.catalog import holdings

    if name is not None:
        _get(name, data_root, json=json)
        return
    found = holdings(data_root)
    if json:
        console.print_json({"datasets": [_as_json(holding) for holding in found]})
        return
    for holding in found:
        console.answer(holding.name)
        for line in _lines(holding):
            console.answer(f"  {line}")
    console.answer("A folder of images or an .npz file is a data set too: --data PATH.")


def _lines(holding: Holding) -> list[str]:
    where = f"{holding.layout} at {holding.path}" if holding.path else holding.layout
    lines = [where or f"not found in {holding.searched}"]
    if holding.sizes:
        lines.append("images: " + ", ".join(f"{s} {n:,}" for s, n in holding.sizes.items()))
    return [*lines, f"licence: {holding.licence}", f"note: {holding.note}"]


def _get(name: str, root: Path | None, *, json: bool) -> None:
    """Downloads the data set unless it is here, checks it, and says what there is."""
    from ..data import catalog, cifar10
    from ..data.cifar10_files import BINARY

    if name != DOWNLOADS:
        if name not in registry.names("dataset"):
            raise UnknownName("data set", name, registry.names("dataset"))
        raise BadInput(
            f"{name} cannot be downloaded by this command.",
            "`qadtr-edge data` says where it is looked for and under what licence.",
        )
    with console.Progress(f"Downloading {BINARY.file}", BINARY.size_bytes) as bar:
        cifar10.obtain(root, progress=bar.advance)
    holding = catalog.cifar10_holding(root)
    if json:
        console.print_json(_as_json(holding))
        return
    console.answer(f"{name}: checked")
    for line in _lines(holding):
        console.answer(f"  {line}")


def _as_json(holding: Holding) -> dict[str, Json]:
    return {
        "name": holding.name,
        "found": holding.layout is not None,
        "layout": holding.layout,
        "path": str(holding.path) if holding.path else None,
        "searched": str(holding.searched) if holding.searched else None,
        "images": dict(holding.sizes),
        "licence": holding.licence,
        "note": holding.note,
    }
