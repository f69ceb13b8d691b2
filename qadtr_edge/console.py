"""stdout carries the answer, stderr the story.

Progress is one rewriting bar on a terminal and a line every 10 % elsewhere, so that a log file
stays readable. Nothing here prints to stdout but ``print_json``, ``print_table`` and ``answer``.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

T = TypeVar("T")


class Progress:
    """A context manager around ``total`` units of work; call ``advance`` as they finish."""

    def __init__(self, label: str, total: int, *, unit: str = "") -> None:
        self._label = label
        self._total = total
        self._unit = f" {unit}" if unit else ""
        self._done = 0
        self._told = 0
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._begun_s = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _BARS.taken()
            self._task = self._bar.add_task(self._label, total=self._total)
        return self

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """``count`` more units are done; ``note`` (a loss, say) is shown beside the count.

        Raises what a ``watched`` block has to say.
        """
        for watch in tuple(_watches):
            watch()
        self._done += count
        if self._bar is not None:
            text = f"{self._label}  {note}" if note else self._label
            self._bar.update(self._task, advance=count, description=text)
            return
        tenth = 10 * self._done // max(1, self._total)
        if tenth > self._told:
            self._told = tenth
            say(self._line(note))

    def _line(self, note: str) -> str:
        spent_s = time.monotonic() - self._begun_s
        left_s = spent_s / self._done * max(0, self._total - self._done)
        tail = f", {note}" if note else ""
        counts = f"{self._done}/{self._total}{self._unit}"
        return f"{self._label}: {10 * self._told} % ({counts}), {clock(left_s)} left{tail}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            _BARS.given_back()


_watches: list[Callable[[], None]] = []


@contextmanager
def watched(check: Callable[[], None]) -> Iterator[None]:
    """Calls ``check`` whenever some work in the block advances, in the thread that does it."""
    _watches.append(check)
    try:
        yield
    finally:
        _watches.remove(check)


def track(items: Iterable[T], label: str, *, total: int) -> Iterator[T]:
    """The items, with progress shown as they are used up."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def say(text: str) -> None:
    """One line of the story, on stderr."""
    print(text, file=sys.stderr, flush=True)


def answer(text: str) -> None:
    """One line of the answer, on stdout."""
    print(text, flush=True)


def spare_stdout() -> None:
    """From now on a character that the encoding of stdout lacks is a question mark, not a failure.

    Python does so for stderr by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def print_json(value: object) -> None:
    """The answer as one JSON document on stdout. NaN is refused: it is not JSON."""
    narrow = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    print(json.dumps(value, allow_nan=False, ensure_ascii=narrow), flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout: columns that hold numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        numbers = any(row[number][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A pipe has no width: a table cut at 80 columns would lose numbers.
    width = None if sys.stdout.isatty() else 1000
    Console(file=sys.stdout, width=width).print(table)


def clock(seconds: float) -> str:
    """``42 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Bars:
    """The bars on a terminal, one below the other where two threads work at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._users = 0

    def taken(self) -> Bar:
        with self._lock:
            if self._bar is None:
                self._bar = _bar()
                self._bar.start()
            self._users += 1
            return self._bar

    def given_back(self) -> None:
        """Ends the bars when none is in use: they stay on the screen as they stand."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._bar is not None:
                self._bar.stop()
                self._bar = None


_BARS = _Bars()


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=Console(stderr=True),
    )  # fmt: skip
