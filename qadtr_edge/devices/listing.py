"""The devices a user has named: a small JSON file of the user's, never of a project."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..errors import BadInput, UnknownName
from ..files import read_json, write_json

SCHEMA = 1
FOLDER = ".cache/qadtr-edge"


@dataclass(frozen=True)
class Device:
    """A machine that system OpenSSH reaches without a question.

    - ``target``: what `ssh` is given, ``user@host`` or a name of the user's ssh configuration.
    - ``python``: the interpreter there, by name or path (relative ones start at the home).
    - ``identity``: file of the key; ``folder``: what is kept there, relative to the home.
    """

    name: str
    target: str
    port: int | None = None
    python: str = "python3"
    identity: str | None = None
    folder: str = FOLDER


def listing() -> Path:
    """The file: ``QADTR_DEVICES``, else in the user's configuration (XDG)."""
    if named := os.environ.get("QADTR_DEVICES"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "qadtr-edge" / "devices.json"


def devices() -> dict[str, Device]:
    """All devices by name. Raises ``BadInput`` for a file that is damaged."""
    path = listing()
    if not path.is_file():
        return {}
    held = read_json(path)
    known = {field.name for field in fields(Device)}
    try:
        if not isinstance(held, dict) or held["schema"] != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        listed = held["devices"]
        assert isinstance(listed, list)
        rows = [row for row in listed if isinstance(row, dict) and set(row) <= known]
        found = [_checked(Device(**row)) for row in rows]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise BadInput(
            f"{path} is no list of devices ({error}).", "Delete it and add the devices again."
        ) from error
    return {device.name: device for device in found}


def add(device: Device) -> None:
    """Adds the device, or changes the one of that name."""
    _write([*({**devices(), device.name: _checked(device)}).values()])


def remove(name: str) -> None:
    """Forgets the device; what is on it stays there. Raises ``UnknownName``."""
    known = devices()
    chosen(known, (name,))
    _write([device for device in known.values() if device.name != name])


def chosen(known: dict[str, Device], names: Iterable[str]) -> list[Device]:
    """The devices called so. Raises ``UnknownName``."""
    found = []
    for name in names:
        if name not in known:
            raise UnknownName("device", name, known)
        found.append(known[name])
    return found


def _write(devices: list[Device]) -> None:
    write_json(listing(), {"schema": SCHEMA, "devices": [asdict(device) for device in devices]})


def _checked(device: Device) -> Device:
    """The device itself. Raises ``BadInput`` for what would be read as an option or a path."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", device.name):
        raise BadInput(
            f"{device.name!r} is no name for a device.", "Use letters, digits, dots and dashes."
        )
    if not device.target or device.target.startswith("-") or any(map(str.isspace, device.target)):
        raise BadInput(
            f"{device.target!r} is no target of ssh.", "Give user@host, or a name ssh knows."
        )
    return device
