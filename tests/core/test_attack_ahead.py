"""What is crafted beside a search: at the same time, and neither outlives the other's failure."""

from __future__ import annotations

import io
import sys
import threading
from concurrent.futures import Future

import pytest

from qadtr_edge import console, provenance
from qadtr_edge.cli.attack_ahead import Ahead
from qadtr_edge.errors import BadInput

PATIENCE_S = 30.0


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("cores")
def test_the_caller_goes_on_while_something_is_made() -> None:
    begun, searched = threading.Event(), threading.Event()

    def craft() -> str:
        begun.set()
        assert searched.wait(PATIENCE_S), "the caller waits for what it has asked for"
        return "patch"

    with Ahead(threads=1) as ahead:
        made = ahead.make(craft)
        assert begun.wait(PATIENCE_S)
        searched.set()
        assert made.result() == "patch"


@pytest.mark.usefixtures("cores")
def test_without_cores_for_both_it_is_made_at_once() -> None:
    with Ahead(threads=2) as ahead:
        made = ahead.make(threading.get_ident)
        assert made.done()
        assert made.result() == threading.get_ident()


@pytest.mark.usefixtures("cores")
def test_what_is_made_is_made_in_turn() -> None:
    done: list[int] = []
    with Ahead(threads=1) as ahead:
        for number in range(5):
            ahead.make(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == list(range(5))


@pytest.mark.usefixtures("cores")
def test_an_error_of_the_crafting_ends_the_search() -> None:
    def craft() -> None:
        raise BadInput("The victim is right on no image.", "Give more.")

    def search() -> None:
        with Ahead(threads=1) as ahead, console.Progress("Searching", 1) as progress:
            ahead.make(craft)
            while True:
                progress.advance(0)

    with pytest.raises(BadInput, match="right on no image"):
        search()


@pytest.mark.usefixtures("cores")
def test_an_error_of_the_search_ends_the_crafting() -> None:
    begun = threading.Event()
    made: list[Future[None]] = []

    def craft() -> None:
        with console.Progress("Crafting", 2) as progress:
            while True:
                begun.set()
                progress.advance(0)

    def search() -> None:
        with Ahead(threads=1) as ahead:
            made.extend(ahead.make(craft) for _ in range(2))
            assert begun.wait(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()
    first, second = made
    assert first.done()
    assert second.cancelled()
    with console.Progress("Later", 1) as progress:
        progress.advance()  # nobody watches any more


@pytest.mark.usefixtures("cores")
def test_work_of_other_threads_is_left_alone() -> None:
    def fails() -> None:
        raise BadInput("The victim is right on no image.", "Give more.")

    told: list[int] = []

    def elsewhere() -> None:
        with console.Progress("Elsewhere", 1) as progress:
            progress.advance()
        told.append(1)

    with Ahead(threads=1) as ahead:
        made = ahead.make(fails)
        assert made.exception() is not None
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
    assert told


def test_two_bars_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.Progress("Crafting", 2) as one, console.Progress("Searching", 4) as other:
        one.advance(2)
        other.advance(3)
    last = screen.getvalue().rpartition("Crafting")[2]
    assert "2/2" in last
    assert "Searching" in last
    assert "3/4" in last
    with console.Progress("Alone", 1) as alone:
        alone.advance()
    assert "Crafting" not in screen.getvalue().rpartition("Alone")[2]
