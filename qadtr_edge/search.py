"""Searching: a search and an engine give placed patches, kept under the digest of their recipe.

What is already in the folder is read, not searched again. Since no image sways another's, a search
is stored in parts as it goes; one that was interrupted goes on with the part it was in, and ends
with the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from . import replay
from .attacks.queries import Search, Told, UniversalSearch, require_eligible
from .data.dataset import Dataset
from .patch import bank, placed
from .patch.placement import Policy
from .types import Json, Labels, Patch, PlacedPatches

RECIPE = 1
"""Grows when a search's code changes what it finds, so that older files are not taken for it."""

PART = 512
"""Images searched and stored together."""


def search(
    attack: Search, subject: replay.Subject, *, folder: Path, seed: int, told: Told
) -> PlacedPatches:
    """What ``attack`` finds on each image of ``subject``, from ``folder`` or searched now.

    Counts depend neither on the batch size nor on the parts. Raises ``QadtrError`` when no image
    can be won, or when the engine's answers leave nothing to search by.
    """
    data = subject.data
    recipe: dict[str, Json] = {
        "recipe": RECIPE,
        "attack": attack.name,
        "parameters": attack.parameters,
        "search_seed": seed,
        "engine": subject.digest,
        "data": replay.data_digest(data),
    }

    def find(rows: Labels) -> PlacedPatches:
        return attack.search(
            subject.model,
            only(data, rows),
            clean=subject.clean[rows],
            seed=seed,
            batch=subject.batch,
            told=told,
        )

    def require() -> None:
        require_eligible(subject.clean, data.labels, target=attack.target)
        attack.require(subject.clean)

    each = attack.budget((data.images.shape[2], data.images.shape[3]))
    return in_parts(
        find, recipe, images=len(data), part=PART, folder=folder, require=require,
        spared=lambda count: told(count * each, ""),
    )  # fmt: skip


def unit(
    attack: Search, subject: replay.Subject, *, victim: str, folder: Path, seed: int, told: Told
) -> replay.Unit:
    """What ``attack`` finds, to be replayed; ``victim``: what its row says it was made on."""
    patches = search(attack, subject, folder=folder, seed=seed, told=told)
    said = replay.Attacked(attack.name, attack.knowledge, victim, attack.tier, attack.threat)
    return replay.Unit(said, patches, Policy(attack.placement), seed)


def in_parts(
    find: Callable[[Labels], PlacedPatches],
    recipe: Mapping[str, Json],
    *,
    images: int,
    part: int,
    folder: Path,
    spared: Callable[[int], None],
    require: Callable[[], None] = lambda: None,
) -> PlacedPatches:
    """``all_in_parts`` of one."""
    (found,) = all_in_parts(
        lambda rows: (find(rows),), (recipe,), images=images, part=part, folder=folder,
        spared=spared, require=require,
    )  # fmt: skip
    return found


def all_in_parts(
    find: Callable[[Labels], Sequence[PlacedPatches]],
    recipes: Sequence[Mapping[str, Json]],
    *,
    images: int,
    part: int,
    folder: Path,
    spared: Callable[[int], None],
    require: Callable[[], None] = lambda: None,
) -> tuple[PlacedPatches, ...]:
    """What ``find`` gives for the rows of all images, ``part`` of them found and stored together.

    It gives patches for each of ``recipes``, in their order. What ``folder`` holds under the keys
    of all is read, and ``spared`` told how many images that were. ``require`` is called before
    anything is looked for.
    """
    keys = [bank.key(recipe) for recipe in recipes]
    paths = [folder / f"{key}.npz" for key in keys]
    if all(path.is_file() for path in paths):
        spared(images)
        return tuple(placed.load(path) for path in paths)
    require()
    parts: list[Sequence[PlacedPatches]] = []
    files: list[Path] = []
    for start in range(0, images, part):
        rows = np.arange(start, min(start + part, images))
        there = [folder / f"{key}-{start}.npz" for key in keys]
        files += there
        if all(file.is_file() for file in there):
            spared(len(rows))
            parts.append([placed.load(file) for file in there])
            continue
        parts.append(find(rows))
        for one, file in zip(parts[-1], there, strict=True):
            placed.save(one, file)
    found = tuple(
        _whole(each, recipe=recipe, path=path)
        for each, recipe, path in zip(zip(*parts, strict=True), recipes, paths, strict=True)
    )
    for file in files:
        file.unlink()
    return found


def _whole(
    parts: Sequence[PlacedPatches], *, recipe: Mapping[str, Json], path: Path
) -> PlacedPatches:
    """The parts as one, kept at ``path``."""
    found = placed.joined(parts)
    origin = {**found.origin, **recipe}
    tallies = [cast(dict[str, Json], one.origin["tally"]) for one in parts if "tally" in one.origin]
    if tallies:
        origin["tally"] = _sum(tallies)
    found = replace(found, origin=origin)
    placed.save(found, path)
    return found


def universal(
    attack: UniversalSearch, subject: replay.Subject, *, data: Dataset, folder: Path, seed: int,
    told: Told,
) -> Patch:  # fmt: skip
    """The patch ``attack`` finds for all images, from ``folder`` or searched now on ``data``.

    ``data`` is the crafting split; the engine is that of ``subject``.
    """
    recipe: dict[str, Json] = {
        "recipe": RECIPE,
        "attack": attack.name,
        "parameters": attack.parameters,
        "seed": seed,
        "engine": subject.digest,
        "data": replay.data_digest(data),
    }
    path = folder / f"{bank.key(recipe)}.npz"
    if path.is_file():
        told(attack.queries, "")
        return bank.load(path)
    made = attack.craft(subject.model, data, seed=seed, batch=subject.batch, told=told)
    patch = replace(made, origin={**made.origin, **recipe, "knowledge": attack.knowledge})
    bank.save(patch, path)
    return patch


def tied_share(patches: PlacedPatches) -> float | None:
    """Share of the proposals that scored what stood; ``None`` where nothing was proposed."""
    tally = patches.origin.get("tally")
    if not isinstance(tally, dict) or not isinstance(proposed := tally.get("proposed"), int):
        return None
    tied = tally.get("tied")
    return tied / proposed if isinstance(tied, int) and proposed else None


def only(data: Dataset, rows: Labels) -> Dataset:
    """The images ``rows`` of a data set."""
    return replace(
        data, images=data.images[rows], labels=data.labels[rows], ids=data.ids[rows], files=()
    )


def _sum(tallies: Sequence[dict[str, Json]]) -> dict[str, Json]:
    """Counts, or tables of counts, added up by name."""
    return {
        name: np.sum([np.array(tally[name]) for tally in tallies], axis=0).tolist()
        for name in tallies[0]
    }
