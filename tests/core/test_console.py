"""stdout is the answer, stderr the story."""

from __future__ import annotations

import io
import json
import sys

import pytest

from qadtr_edge import console


def test_progress_is_a_line_every_tenth_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.track(range(200), "pasting", total=200)) == list(range(200))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 10
    assert lines[0].startswith("pasting: 10 % (20/200)")
    assert lines[-1].startswith("pasting: 100 % (200/200)")


def test_big_steps_print_no_more_lines_than_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Progress("crafting", 4, unit="steps") as progress:
        for step in range(4):
            progress.advance(note=f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "(2/4 steps)" in lines[1]
    assert lines[1].endswith("loss 1")


def test_nothing_to_do_is_not_an_error() -> None:
    assert list(console.track([], "nothing", total=0)) == []


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"name": "é", "rates": [0.5, None]})
    assert json.loads(capsys.readouterr().out) == {"name": "é", "rates": [0.5, None]}


def test_an_encoding_that_lacks_a_character_costs_neither_the_answer_nor_its_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.spare_stdout()
    console.print_json({"name": "é…"})
    console.answer("é…")
    document, line = raw.getvalue().decode("ascii").splitlines()
    assert json.loads(document) == {"name": "é…"}
    assert line == "??"


def test_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.print_json(float("nan"))


def test_a_table_keeps_every_cell_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"column-number-{index}" for index in range(10)]
    console.print_table(cells, [cells], title="wide")
    out = capsys.readouterr().out
    assert all(out.count(cell) == 2 for cell in cells)


def test_a_table_is_plain_where_the_terminal_can_do_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.print_table(
        ["engine", "p50 ms"], [["ort", "0.35"], ["trt", "not run"]], title="Latency"
    )
    text = raw.getvalue().decode("ascii")
    assert "\x1b" not in text
    assert all(cell in text for cell in ("Latency", "engine", "p50 ms", "ort", "0.35", "not run"))
    assert "|" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_clock(seconds: float, text: str) -> None:
    assert console.clock(seconds) == text
