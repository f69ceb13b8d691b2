"""Crafting ahead: networks are attacked in a thread of their own while the engine is searched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from .. import console, provenance

T = TypeVar("T")


class Ahead:
    """A context manager whose ``make`` calls functions one after the other beside the caller.

    Where the cores are too few for both, with ``threads`` each, they are called at once. An error
    of theirs is raised in the caller as soon as its own work advances, and one of the caller ends
    them as soon as theirs does: nobody waits for what is no longer wanted.
    """

    def __init__(self, *, threads: int) -> None:
        is_beside = provenance.usable_cores() >= 2 * threads
        self._pool = ThreadPoolExecutor(1, initializer=self._begun) if is_beside else None
        self._failures: list[Callable[[], BaseException | None]] = []
        self._given_up = threading.Event()
        self._caller, self._maker = threading.get_ident(), 0
        self._watch = ExitStack()

    def make(self, function: Callable[[], T]) -> Future[T]:
        """What ``function`` returns, when it is asked for."""
        if self._pool is not None:
            made = self._pool.submit(function)
            self._failures.append(lambda: made.exception() if made.done() else None)
            return made
        now: Future[T] = Future()
        now.set_result(function())
        return now

    def __enter__(self) -> Ahead:
        self._watch.enter_context(console.watched(self._check))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._given_up.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)
        self._watch.close()

    def _begun(self) -> None:
        self._maker = threading.get_ident()

    def _check(self) -> None:
        """What concerns the two threads of this block; others may work beside them."""
        thread = threading.get_ident()
        if thread == self._maker and self._given_up.is_set():
            raise CancelledError
        if thread != self._caller:
            return
        for failure in self._failures:
            if (error := failure()) is not None:
                raise error
