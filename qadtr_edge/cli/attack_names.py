"""The names ``--attack`` takes, by the kind of thing they stand for, and how each is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .. import registry
from ..attacks import imagenet_patch
from ..attacks.patch_rs_differential import Original
from ..errors import BadInput
from ..patch import bank
from ..types import Json, Patch, PatchPerImage, Pixels
from . import options

CONTROLS = "controls"
UNIVERSAL, PER_IMAGE, SEARCH = "attack", "per-image attack", "search"
UNIVERSAL_SEARCH = "universal search"
Option = Json | tuple[int, int] | Patch | PatchPerImage | Pixels | Original
KINDS = (UNIVERSAL, PER_IMAGE, SEARCH, UNIVERSAL_SEARCH)
ANY_PLACE = ("random", "plain")
"""Placements that forbid no place, beside which attacks that look for one may be named."""


@dataclass(frozen=True)
class Named:
    """Names by kind: patches made for all images, for single images, and found on the engine.

    ``universal_searches``: found on the engine, one patch for all images.
    """

    universal: tuple[str, ...]
    per_image: tuple[str, ...]
    searches: tuple[str, ...]
    universal_searches: tuple[str, ...]

    @property
    def crafted(self) -> tuple[str, ...]:
        return self.universal + self.per_image

    @property
    def none(self) -> bool:
        """Whether nothing but the controls was named."""
        return not self.crafted + self.searches + self.universal_searches


def named(text: str) -> Named:
    """The names of a comma-separated text. Raises ``UnknownName`` for one in no table."""
    more = tuple(name for kind in KINDS[1:] for name in registry.names(kind))
    chosen = [name for name in options.named(UNIVERSAL, text, also=more) if name != CONTROLS]
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in chosen:
        kinds[kind_of(name) or UNIVERSAL].append(name)
    return Named(*(tuple(kinds[kind]) for kind in KINDS))


def replayed(attack: str | None, patch: Path | None) -> str | None:
    """``attack`` without the name that stands for the published patches of the file ``patch``.

    Raises ``BadInput`` for that name without a file: the patches are not shipped.
    """
    chosen = [] if attack is None else list(options.split(attack))
    if imagenet_patch.NAME not in chosen:
        return attack
    if patch is None:
        raise BadInput(
            f"{imagenet_patch.NAME} replays published patches, and no file of them is given.",
            "Give your copy of them: --patch FILE.npz.",
        )
    chosen.remove(imagenet_patch.NAME)
    return ",".join(chosen) or None


def given(path: Path | None) -> tuple[Patch, ...]:
    """The patches of ``--patch``: one of a picture or an ``.npz``, or all of ImageNet-Patch's."""
    if path is None:
        return ()
    published = path.suffix.lower() == ".npz" and imagenet_patch.is_published(path)
    return imagenet_patch.load(path) if published else (bank.load(path),)


def kind_of(name: str) -> str | None:
    """The table of the registry that holds ``name``; ``None`` when none does."""
    return next((kind for kind in KINDS if name in registry.names(kind)), None)


def takes(kind: str, name: str) -> tuple[str, ...]:
    """The options of an attack: the parameters of its constructor."""
    make = cast(Callable[..., object], registry.resolve(kind, name))
    return tuple(inspect.signature(make).parameters)


def built(kind: str, name: str, *, options: Mapping[str, Option]) -> object:
    """The attack, from those of the options that it takes and that are not ``None``."""
    make = cast(Callable[..., object], registry.resolve(kind, name))
    known = takes(kind, name)
    return make(**{key: value for key, value in options.items()
                   if key in known and value is not None})  # fmt: skip


def check(chosen: Named, given: Mapping[str, Json]) -> None:
    """Raises ``BadInput`` for an option of searches when none of those named takes it."""
    kinds = {SEARCH: chosen.searches, UNIVERSAL_SEARCH: chosen.universal_searches}
    for option, value in given.items():
        taken = (option in takes(kind, name) for kind, names in kinds.items() for name in names)
        if value is None or any(taken):
            continue
        able = [name for name in registry.names(SEARCH) if option in takes(SEARCH, name)]
        raise BadInput(
            f"--{option} is an option of {', '.join(able)}, and none of them was named.",
            f"Add --attack {able[0]}, or leave --{option} out.",
        )


def refuse_crafting(
    chosen: Named, *, attack: str | None, victim: str | None, steps: int | None
) -> None:
    """Raises ``BadInput`` for options that say how to craft, beside a patch that is made.

    Searches craft nothing, and may be named beside it.
    """
    asking = chosen.searches + chosen.universal_searches
    crafting = None if asking and not chosen.crafted else attack
    for name, value in {"--attack": crafting, "--victim": victim, "--steps": steps}.items():
        if value is not None:
            raise BadInput(
                f"{name} says how to craft a patch, and --patch gives one that is made.",
                f"Leave out {name} or --patch.",
            )


def check_placement(chosen: Named, placement: str | None) -> None:
    """Raises ``BadInput`` for places that a named attack, which looks for its own, cannot keep."""
    if placement in (None, *ANY_PLACE):
        return
    every = (chosen.universal, chosen.per_image, chosen.searches, chosen.universal_searches)
    for kind, names in zip(KINDS, every, strict=True):
        for name in names:
            if "placement" not in takes(kind, name):
                raise BadInput(
                    f"{name} looks for its own places, upright and anywhere in the image, and "
                    f"cannot keep to --placement {placement}.",
                    f"Leave out {name} or --placement.",
                )
