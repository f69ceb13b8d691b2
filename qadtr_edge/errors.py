"""Errors the user can fix. Everything that is not one of these is a bug and keeps its traceback.

QadtrError                  exit code 2: one sentence of fact, one of remedy
├── BadInput                a file, option or value that cannot be used
│   └── UnknownName         a name that is not in a registry, with "did you mean"
├── MissingDependency       a package of an extra that is not installed
├── Unsupported             the thing asked for exists, but this model or engine cannot hold it
└── EngineFailed            an inference runtime refused to build, load or run
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QadtrError(Exception):
    """Something the user can fix: ``fact`` says what is wrong, ``remedy`` what to do about it."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact} {remedy}")
        self.fact = fact
        self.remedy = remedy


class BadInput(QadtrError):
    """A file, option or value that cannot be used."""


class UnknownName(BadInput):
    """``name`` is no known ``kind``; the remedy names the nearest known one and lists all."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        super().__init__(f"There is no {kind} {name!r}.", f"{hint}Known: {', '.join(names)}.")


class MissingDependency(QadtrError):
    """``package`` is not installed; it comes with the extra ``extra``."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it: pip install 'qadtr-edge[{extra}]'.",
        )
        self.package = package
        self.extra = extra


class Unsupported(QadtrError):
    """The thing asked for exists, but this model or engine cannot hold it."""


class EngineFailed(QadtrError):
    """An inference runtime refused to build, load or run."""
