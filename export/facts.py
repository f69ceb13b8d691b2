"""``facts.json``: what was requested of an engine, beside what was observed of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from qadtr_edge.errors import BadInput
from qadtr_edge.files import read_json, write_json
from qadtr_edge.types import EngineFacts, Json

FILE = "facts.json"
SCHEMA = 1
PORTABLE_DIGEST = "portable_digest"
EXACT_WITHOUT_VNNI = "exact_without_vnni"


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

    @property
    def exact_without_vnni(self) -> bool:
        """Whether the engine is to be opened so that products are exact on x86 without VNNI."""
        return self.more.get(EXACT_WITHOUT_VNNI) is True


def write(folder: Path, record: Record) -> None:
    """Writes ``facts.json`` into ``folder``, whole or not at all."""
    document = {"schema": SCHEMA, **asdict(record.facts), "origin": asdict(record.origin)}
    write_json(folder / FILE, {**document, **record.more})


def read(folder: Path) -> Record | None:
    """The record in ``folder``, or ``None`` where there is none.

    Raises ``BadInput`` for a newer schema, and for a file that is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    document = read_json(path)
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise BadInput(
            f"{path} has facts schema {schema}; this version reads up to {SCHEMA}.",
            "Update qadtr-edge: pip install --upgrade qadtr-edge.",
        )
    try:
        if not isinstance(document, dict) or schema != SCHEMA:
            raise ValueError(f"schema {schema!r}")
        return _record(document)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} is damaged ({error}).", "Write it again with `qadtr-edge export`."
        ) from error


def origin_of(artefact: Path, *, digest: str, bits: int) -> Origin:
    """What the facts beside ``artefact`` say of the file of this ``digest``.

    Of a file they do not describe, as much as can be said: ``bits``, and that nobody described it.
    """
    recorded = read(artefact.parent)
    if recorded is not None and digest in recorded.digests:
        return recorded.origin
    note = "no facts file describes this file"
    layers: tuple[str, ...] = ()
    if recorded is not None:
        note = "this is not the file that the facts file beside it describes"
        layers = recorded.origin.layers
    return Origin(layers=layers, bits=bits, may_saturate=("unknown layers",), notes=(note,))


def _record(document: dict[str, Json]) -> Record:
    names = {field.name for field in fields(EngineFacts)}
    rest = {k: v for k, v in document.items() if k not in names | {"schema", "origin"}}
    return Record(
        facts=EngineFacts(**_checked(EngineFacts, document)),  # type: ignore[arg-type]
        origin=Origin(**_checked(Origin, document["origin"])),  # type: ignore[arg-type]
        more=rest,
    )


def _checked(kind: type[EngineFacts | Origin], stored: Json) -> dict[str, object]:
    """The fields of ``kind`` in ``stored``; raises where one is missing or of another type."""
    if not isinstance(stored, dict):
        raise TypeError(f"{kind.__name__} is no object")
    found: dict[str, object] = {}
    for field in fields(kind):
        value = stored[field.name]
        form = next(form for start, form in _FORMS.items() if str(field.type).startswith(start))
        listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if type(value) is not form or (form is list and not listed):
            raise TypeError(f"{field.name} is {value!r}")
        found[field.name] = tuple(value) if isinstance(value, list) else value  # no tuples in JSON
    return found


_FORMS = {"str": str, "int": int, "Literal": str, "tuple": list, "Mapping": dict}
"""How a field's annotation starts -> the type that JSON gives it."""
