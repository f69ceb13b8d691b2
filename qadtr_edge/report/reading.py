"""Reading the files of a run folder: one that cannot be read is noted and passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ..errors import BadInput
from ..files import read_json
from ..types import Json

Object = Mapping[str, Json]
T = TypeVar("T")


def attempted(read: Callable[[], T], otherwise: T, *, unread: list[str]) -> T:
    """What ``read`` gives, or ``otherwise`` with the reason noted when it cannot be read."""
    try:
        return read()
    except BadInput as error:
        unread.append(f"{error.fact} {error.remedy}")
        return otherwise


def object_in(file: Path, unread: list[str]) -> Object | None:
    """The JSON object in a file, or ``None`` when it is absent or cannot be read."""
    if not file.is_file():
        return None
    value = attempted(lambda: read_json(file), None, unread=unread)
    if isinstance(value, dict):
        return value
    if value is not None:
        unread.append(f"{file} does not hold a JSON object. Delete it and run its stage again.")
    return None


def objects_in(value: Json) -> list[Object]:
    """The objects in a list, or none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
