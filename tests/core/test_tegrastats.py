"""Every known line of ``tegrastats`` is read right, and no line whatever breaks the reader."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from qadtr_edge.devices.rails import total_of
from qadtr_edge.devices.tegrastats import parse
from tegrastats_lines import GPU, HOTTEST_C, LINES, RAILS, TOTAL_MW


@pytest.mark.parametrize("board", LINES)
def test_rails_are_those_of_the_line(board: str) -> None:
    found = [(rail.name, rail.now_mw, rail.mean_mw) for rail in parse(LINES[board]).rails]
    assert found == RAILS[board]


@pytest.mark.parametrize("board", LINES)
def test_the_total_is_that_of_the_board_and_counts_nothing_twice(board: str) -> None:
    rails = {rail.name: rail.now_mw for rail in parse(LINES[board]).rails}
    names = total_of(rails)
    assert (None if names is None else sum(rails[name] for name in names)) == TOTAL_MW[board]


@pytest.mark.parametrize("board", LINES)
def test_gpu_load_and_clock(board: str) -> None:
    reading = parse(LINES[board])
    assert (reading.gpu_percent, reading.gpu_mhz) == GPU[board]


@pytest.mark.parametrize("board", LINES)
def test_temperatures_leave_out_sensors_that_are_off(board: str) -> None:
    assert max(parse(LINES[board]).temperatures_c.values(), default=None) == HOTTEST_C[board]


def by_words(line: str) -> list[tuple[str, int, int]]:
    """The rails of a line by another way than the parser's: word by word, no pattern.

    A rail is a name in capitals before numbers with slashes; what holds a unit of memory is none.
    """
    found = []
    words = line.split()
    for name, value in pairwise(words):
        numbers = [part.removesuffix("mW") for part in value.split("/")]
        if name.isupper() and len(numbers) in (2, 3) and all(map(str.isdecimal, numbers)):
            found.append((name, int(numbers[0]), int(numbers[1])))
    return found


@pytest.mark.parametrize("board", LINES)
def test_another_parser_reads_the_same_rails(board: str) -> None:
    assert by_words(LINES[board]) == [
        (r.name, r.now_mw, r.mean_mw) for r in parse(LINES[board]).rails
    ]


def test_a_rail_and_a_temperature_of_one_name_are_told_apart() -> None:
    reading = parse(LINES["agx_xavier_r32"])
    assert reading.temperatures_c["GPU"] == 32.0
    assert next(rail for rail in reading.rails if rail.name == "GPU").now_mw == 0


def test_ten_thousand_broken_lines_are_read_without_an_error() -> None:
    draw = random.Random(0)
    lines = list(LINES.values())
    rails = 0
    for _ in range(10_000):
        line = list(draw.choice(lines))
        for _ in range(draw.randint(1, 12)):
            at = draw.randrange(len(line))
            line[at] = draw.choice(
                ["", "/", "@", "%", "mW", " ", "9" * 30, "\0", "é", "[", line[at] * 3]
            )
        cut = draw.randint(0, len(line))
        rails += len(parse("".join(line[:cut])).rails)
    assert rails > 1000, "the broken lines still held something to read"
