"""Placed patches, one patch and one place for each image: on disk, and for the images asked for.

The file is an ``.npz`` of the arrays of ``PlacedPatches`` and a header with target, origin and
digest. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..files import replacing
from ..types import Labels, Pixels, PlacedPatches, Placements
from . import places


def digest(patches: PlacedPatches) -> str:
    """SHA-256 of everything a replay and its row are made of, but target and origin."""
    sha = hashlib.sha256(repr((patches.pixels.shape, patches.mask.shape)).encode())
    sha.update(np.packbits(patches.mask).tobytes())
    sha.update(np.ascontiguousarray(patches.pixels).tobytes())
    columns = places.columns(patches.placements)
    for name in columns:
        sha.update(b"" if name in places.ALWAYS else name.encode())
    for numbers, kind in (
        (patches.ids, "<i8"),
        *((column, "<f8") for column in columns.values()),
        (np.array([-1]) if patches.queries is None else patches.queries, "<i8"),
    ):
        sha.update(np.ascontiguousarray(numbers, dtype=kind).tobytes())
    return sha.hexdigest()


def rows_of(patches: PlacedPatches, ids: Labels) -> NDArray[np.int64]:
    """The rows ``(len(ids),) int64`` of these images. Raises ``BadInput`` when one has none."""
    order = np.argsort(patches.ids, kind="stable")
    at = np.searchsorted(patches.ids, ids, sorter=order)
    rows: NDArray[np.int64] = order[np.minimum(at, len(order) - 1)]
    if (absent := patches.ids[rows] != ids).any():
        raise BadInput(
            f"The placed patches hold none for {int(absent.sum())} of {len(ids)} images.",
            "Make them on the images they are to be scored on.",
        )
    return rows


def pixels_of(patches: PlacedPatches, ids: Labels) -> Pixels:
    """Pixels ``(len(ids), 3, h, w) uint8`` of these images, or ``(3, h, w)`` when all share one."""
    return patches.pixels if patches.pixels.ndim == 3 else patches.pixels[rows_of(patches, ids)]


def places_of(patches: PlacedPatches, ids: Labels) -> Placements:
    """The places of these images, in their order."""
    return places.taken(patches.placements, rows_of(patches, ids))


def joined(parts: Sequence[PlacedPatches]) -> PlacedPatches:
    """The patches of several sets of images as those of one set, of the first part's origin."""
    first = parts[0]
    queries = [part.queries for part in parts if part.queries is not None]
    return replace(
        first,
        ids=np.concatenate([part.ids for part in parts]),
        pixels=first.pixels
        if first.pixels.ndim == 3
        else np.concatenate([part.pixels for part in parts]),
        placements=places.joined([part.placements for part in parts]),
        queries=np.concatenate(queries) if queries else None,
    )


def save(patches: PlacedPatches, path: Path) -> None:
    """Writes ``path`` (``.npz``), whole or not at all."""
    header = {
        "target": patches.target,
        "origin": dict(patches.origin),
        "digest": digest(patches),
    }
    columns: dict[str, NDArray[np.generic]] = {
        "ids": patches.ids,
        "pixels": patches.pixels,
        "mask": patches.mask,
        **places.columns(patches.placements),
        "header": np.array(json.dumps(header, sort_keys=True, allow_nan=False)),
    }
    if patches.queries is not None:
        columns["queries"] = patches.queries
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **columns)  # type: ignore[arg-type]


def load(path: Path) -> PlacedPatches:
    """The placed patches in a file of ``save``. Raises ``BadInput`` for a damaged file."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            found = PlacedPatches(
                ids=file["ids"],
                pixels=file["pixels"],
                mask=file["mask"],
                placements=places.from_columns(file),
                target=header["target"],
                queries=file.get("queries"),
                origin=header["origin"],
            )
        whole = _whole(found) and header["digest"] == digest(found)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if not whole:
        raise _damaged(path, "its digest does not match what it holds")
    return found


def _whole(patches: PlacedPatches) -> bool:
    """Whether all arrays have the shapes and types the noun asks for."""
    n = len(patches.ids)
    rows = [patches.ids] if patches.queries is None else [patches.ids, patches.queries]
    shape = (3, *patches.mask.shape)
    return (
        n > 0
        and all(row.shape == (n,) and row.dtype == np.int64 for row in rows)
        and places.whole(patches.placements, n)
        and len(np.unique(patches.ids)) == n
        and patches.pixels.shape in (shape, (n, *shape))
        and patches.pixels.dtype == np.uint8
        and patches.mask.dtype == np.bool_
    )


def _damaged(path: Path, why: str) -> BadInput:
    return BadInput(
        f"{path} is missing or damaged ({why}).",
        "Delete it: the next run makes it again.",
    )
