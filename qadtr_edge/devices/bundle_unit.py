"""A unit of work as a part of a bundle: arrays in an ``.npz``, the rest in the plan."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .. import replay, timing
from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.placement import Policy
from ..patch.places import columns, from_columns
from ..replay import Attacked, Unit
from ..types import Json, Labels, Patch, PatchPerImage, Pixels, PlacedPatches, Placements

Arrays = Mapping[str, NDArray[np.generic]]
KINDS: dict[type, Json] = {Patch: "patch", PatchPerImage: "per image", PlacedPatches: "placed"}
"""What a unit shows, as the plan says it."""


def unit_key(unit: Unit, data: Dataset) -> str:
    """What stands for a unit on these images before it is known which engine it will meet."""
    nobody = replay.Subject(timing.null_subject(1), "any", data)
    return replay.identity(unit, nobody)


def shown_digest(unit: Unit, data: Dataset) -> str:
    """SHA-256 of the bytes every engine is shown: all images with the patch on them."""
    places = replay.places_of(unit, data)
    sha = hashlib.sha256()
    for start in range(0, len(data), replay.BATCH):
        part = slice(start, start + replay.BATCH)
        sha.update(replay.pasted(unit, data, places=places, part=part).tobytes())
    return sha.hexdigest()


def described(unit: Unit, data: Dataset) -> dict[str, Json]:
    """The part of a unit that is no array, and the digest of what it shows."""
    return {
        "attacked": asdict(unit.attacked),
        "policy": asdict(unit.policy),
        "seed": unit.seed,
        "target": unit.patch.target,
        "origin": dict(unit.patch.origin),
        "kind": KINDS[type(unit.patch)],
        "shown": shown_digest(unit, data),
    }


def packed_unit(unit: Unit, data: Dataset) -> bytes:
    """The arrays of a unit whose places are computed; placed patches bring their own along."""
    patch, places = unit.patch, unit.places
    if isinstance(patch, PlacedPatches):
        own: Arrays = {"ids": patch.ids, "pixels": patch.pixels, "mask": patch.mask}
        queries: Arrays = {} if patch.queries is None else {"queries": patch.queries}
        return packed({**own, **columns(patch.placements), **queries})
    assert places is not None
    pixels = patch.pixels if isinstance(patch, Patch) else patch.pixels_of(data.ids)
    return packed({"pixels": pixels, "mask": patch.mask, **columns(places)})


def packed(arrays: Arrays) -> bytes:
    """An ``.npz`` of the arrays. NumPy dates every member 1980, so equal arrays are equal bytes."""
    made = io.BytesIO()
    np.savez_compressed(made, **arrays)  # type: ignore[arg-type]
    return made.getvalue()


def arrays(archive: zipfile.ZipFile, name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(io.BytesIO(archive.read(name)), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def unpacked_unit(held: Arrays, key: str, *, said: object, data: Dataset) -> Unit:
    """The unit called ``key``. Raises ``BadInput`` unless it and what it shows are as packed."""
    assert isinstance(said, dict)
    patch, where = _patch(held, said=said, data=data)
    policy = dict(said["policy"])
    for name, value in policy.items():
        policy[name] = tuple(value) if isinstance(value, list) else value
    unit = Unit(Attacked(**said["attacked"]), patch, Policy(**policy), said["seed"], where)
    if unit_key(unit, data) != key:
        raise BadInput(
            f"Unit {key} of the bundle is not the unit its name stands for.", "Make it again."
        )
    if shown_digest(unit, data) != said["shown"]:
        raise BadInput(
            f"This machine pastes unit {key} differently from the one that packed it.",
            "Update NumPy here; if that does not help, report it: bytes must be equal everywhere.",
        )
    return unit


def _patch(
    held: Arrays, *, said: Mapping[str, Json], data: Dataset
) -> tuple[Patch | PatchPerImage | PlacedPatches, Placements | None]:
    """The patch of a unit, and its place on each image; placed patches hold theirs themselves."""
    pixels, mask = cast(Pixels, held["pixels"]), cast("NDArray[np.bool_]", held["mask"])
    target, origin = cast("int | None", said["target"]), cast("dict[str, Json]", said["origin"])
    where = from_columns(held)
    if said["kind"] == KINDS[PlacedPatches]:
        ids, queries = cast(Labels, held["ids"]), cast("Labels | None", held.get("queries"))
        return PlacedPatches(ids, pixels, mask, where, target, queries, origin), None
    if said["kind"] == KINDS[Patch]:
        return Patch(pixels, mask, target, origin), where
    order = np.argsort(data.ids)

    def pixels_of(ids: Labels) -> Pixels:
        found: Pixels = pixels[order[np.searchsorted(data.ids, ids, sorter=order)]]
        return found

    return PatchPerImage(pixels_of, mask, target, origin), where
