"""``facts.json``: what was requested of an engine, beside what was observed of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

from qadtr_edge.errors import BadInput
from qadtr_edge.files import read_json, write_json
from qadtr_edge.types import EngineFacts, Json

FILE = "facts.json"
SCHEMA = 1
PORTABLE_DIGEST = "portable_digest"


@dataclass(frozen=True)
class Origin:
    """What only the builder of an engine file knows.

    - ``layers``: names of the network's nodes; ``bits``: width of its values (32: float).
    - ``may_saturate``: layers whose products may saturate on x86 CPUs without VNNI.
    - ``notes``: what a reader of a report must know.
    """

    layers: tuple[str, ...]
    bits: int
    may_saturate: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A facts file. ``more`` (kernels by layer, versions, digests) is for a reader's eyes."""

    facts: EngineFacts
    origin: Origin
    more: dict[str, Json]

    @property
    def digests(self) -> tuple[Json, ...]:
        """Of the files this record is about: the one it has facts of, and the portable one."""
        return (self.facts.digest, self.more.get(PORTABLE_DIGEST))


def write(folder: Path, record: Record) -> None:
    """Writes ``facts.json`` into ``folder``, whole or not at all."""
    document = {"schema": SCHEMA, **asdict(record.facts), "origin": asdict(record.origin)}
    write_json(folder / FILE, {**document, **record.more})


def read(folder: Path) -> Record | None:
    """The record in ``folder``, or ``None`` where there is none. ``BadInput`` for a newer one."""
    path = folder / FILE
    if not path.is_file():
        return None
    document = read_json(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BadInput(
            f"{path} is not a facts file of schema {SCHEMA}.",
            "Update qadtr-edge, or write it again with `qadtr-edge export`.",
        )
    names = {field.name for field in fields(EngineFacts)}
    own = {name: _frozen(value) for name, value in document.items() if name in names}
    origin = cast(dict[str, Json], document["origin"])
    rest = {k: v for k, v in document.items() if k not in names | {"schema", "origin"}}
    return Record(
        facts=EngineFacts(**own),  # type: ignore[arg-type]
        origin=Origin(**{name: _frozen(value) for name, value in origin.items()}),  # type: ignore[arg-type]
        more=rest,
    )


def _frozen(value: Json) -> object:
    """JSON has no tuples; a facts value has no lists."""
    return tuple(value) if isinstance(value, list) else value
