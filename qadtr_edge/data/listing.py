"""What a folder of images holds, before any picture is opened: files, classes, parts.

Two layouts: class folders (``cat/1.jpg``; classes are the sorted folder names), and ``labels.csv``
with the columns ``file`` and ``label`` (``class_index`` also serves; optional ``class_name`` and
``split``), its files lying beside it or in ``images/``. Either may stand once per part, in
folders named train, val, test, calibration or craft.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..errors import BadInput
from .pictures import SUFFIXES
from .shares import PARTS, WHOLE

TABLE = "labels.csv"
_REMEDY = "Expected: one folder of images per class, or labels.csv with the columns file and label."


@dataclass(frozen=True)
class Entry:
    """One image: its file relative to the data set's folder, its class, the part that lists it.

    ``label`` is a class number or, where numbers are not given, a class name.
    """

    file: str
    label: int | str
    class_name: str
    part: str


def listed(root: Path) -> tuple[Entry, ...]:
    """All images of ``root``, sorted by file. Raises ``BadInput`` when there is none."""
    folders = _folders(root)
    if folders and all(folder.name in PARTS for folder in folders) and not _table(root):
        entries = [entry for part in folders for entry in _part(root, part, part=part.name)]
    else:
        entries = list(_part(root, root, part=WHOLE))
    if not entries:
        raise BadInput(f"{root} holds no images.", _REMEDY)
    entries.sort(key=lambda entry: entry.file)
    for one, other in pairwise(entries):
        if one.file == other.file:
            raise BadInput(f"{root / TABLE} lists {one.file} twice.", "Remove one of the rows.")
    if len({type(entry.label) for entry in entries}) > 1:
        raise BadInput(f"{root} mixes class numbers and class names.", _REMEDY)
    return tuple(entries)


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _table(folder: Path) -> bool:
    return (folder / TABLE).is_file()


def _part(root: Path, folder: Path, *, part: str) -> Iterator[Entry]:
    if _table(folder):
        yield from _rows(root, folder, part=part)
        return
    for named in _folders(folder):
        for path in named.rglob("*"):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                yield Entry(path.relative_to(root).as_posix(), named.name, named.name, part)


def _rows(root: Path, folder: Path, *, part: str) -> Iterator[Entry]:
    path = folder / TABLE
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.DictReader(file, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{path} is no CSV table: {error}.", _REMEDY) from error
    column = next((name for name in ("label", "class_index") if rows and name in rows[0]), None)
    if rows and (column is None or "file" not in rows[0]):
        raise BadInput(f"{path} has the columns {', '.join(map(str, rows[0]))}.", _REMEDY)
    beside = folder / "images" if (folder / "images").is_dir() else folder
    prefix = beside.relative_to(root)
    for number, row in enumerate(rows, start=2):
        name, text = row["file"], row[column or "label"]
        if not name or not text:
            raise BadInput(f"Row {number} of {path} has no file or no label.", _REMEDY)
        home = row.get("split") or part
        if home not in PARTS and home != WHOLE:
            raise BadInput(
                f"Row {number} of {path} has the split {home!r}.", f"Known: {', '.join(PARTS)}."
            )
        label = _label(text, f"Row {number} of {path}")
        yield Entry((prefix / name).as_posix(), label, row.get("class_name") or text, home)


def _label(text: str, where: str) -> int | str:
    try:
        number = int(text)
    except ValueError:
        return text
    if number < 0:
        raise BadInput(f"{where} has the label {number}.", "Number the classes from 0.")
    return number
