"""From a recipe, by name or as a file, to the defence it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from .. import registry
from .defence import Defence
from .options import assignments, changed, recipe_file


def build(recipe: str, *, settings: Sequence[str] = (), seed: int = 0) -> tuple[Defence, object]:
    """The defence of ``recipe``, a registered name or a YAML file, and its options as resolved.

    ``settings``: ``KEY=VALUE`` pairs that come on top. Raises ``BadInput`` for what is not there.
    """
    name, given = recipe, dict[str, object]()
    if Path(recipe).suffix in (".yaml", ".yml"):
        name, given = recipe_file(Path(recipe))
    make = cast(Callable[..., Defence], registry.resolve("defence", name))
    options = changed(changed(make.Options(), given), assignments(settings))  # type: ignore[attr-defined]
    return make(options, seed=seed), options
