"""The command line as a test asks it: every command, and whether a line parses; none is run."""

from __future__ import annotations

import shlex

import typer

from qadtr_edge import cli

PROGRAM = typer.main.get_command(cli.app)


def every(command: object = PROGRAM, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every command and sub-command, by the words that name it."""
    found = {path: command}
    for name, inner in getattr(command, "commands", {}).items():
        found |= every(inner, (*path, name))
    return found


def parse(line: str) -> tuple[str, ...]:
    """The command that ``line`` calls. Raises for unknown commands, options and bad values."""
    program, *words = shlex.split(line, comments=True)
    assert program == "qadtr-edge", line
    command, path = PROGRAM, ()
    if words[0].startswith("-"):  # of the program itself, which acts as soon as it is read
        assert words[0] in {name for option in PROGRAM.params for name in option.opts}, line
        return path
    while hasattr(command, "commands"):
        command, path, words = command.commands[words[0]], (*path, words[0]), words[1:]
    context = command.make_context("line", list(words))
    assert not context.args, line
    return path
