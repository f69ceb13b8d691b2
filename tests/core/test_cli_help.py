"""The help of every command ends in an example that parses, on plain terminals too."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from qadtr_edge import cli
from test_guard_docs import SMOKE, run

PREFIX = "Example: "
PROGRAM = typer.main.get_command(cli.app)
NOT_RUN = {"quantize", "data", "train"}
"""Examples that need a file of the user, the network, or minutes."""


def commands(
    command: object = PROGRAM, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], object]:
    """Every command and sub-command, by the words that name it."""
    found = {path: command}
    for name, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, (*path, name))
    return found


COMMANDS = commands()


def example(path: tuple[str, ...]) -> list[list[str]]:
    """The commands of an example, as words."""
    epilog = COMMANDS[path].epilog  # type: ignore[attr-defined]
    assert epilog is not None, f"{' '.join(path)} has no example"
    assert epilog.startswith(PREFIX)
    return [shlex.split(part) for part in epilog.removeprefix(PREFIX).split("&&")]


def test_there_are_commands_and_sub_commands() -> None:
    assert {(), ("attack",), ("device",), ("device", "add")} < set(COMMANDS)
    assert {path[0] for path in COMMANDS if path} == {*cli.VERBS, "device"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_its_example_is_a_call_of_it_that_parses(path: tuple[str, ...]) -> None:
    for program, *words in example(path):
        assert program == "qadtr-edge"
        assert tuple(words[: len(path)]) == path
        group = PROGRAM
        while hasattr(group, "commands"):
            group, words = group.commands[words[0]], words[1:]
        context = group.make_context("example", list(words))  # unknown options, bad values: raises
        assert not context.args


def test_an_example_that_does_not_parse_is_noticed() -> None:
    with pytest.raises(Exception, match="--atack"):
        COMMANDS[("attack",)].make_context("example", ["--atack", "gap"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [(), ("attack",), ("train",), ("device", "add")], ids=" ".join)
def test_a_terminal_that_can_do_little_gets_plain_text(path: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qadtr_edge", *path, "--help"], capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "PYTHONIOENCODING": "ascii",
             "COLUMNS": "60"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
    joined = "".join(done.stdout.decode().split())
    assert "".join(COMMANDS[path].epilog.split()) in joined  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_example_is_one_line_of_a_terminal(path: tuple[str, ...]) -> None:
    assert len(COMMANDS[path].epilog) < 79  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.needs("ort", "torch")
def test_the_examples_work_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the packaged model, at smoke size; those that go to a device need one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    order = [verb for verb in cli.VERBS if verb not in NOT_RUN]
    local = [(verb,) for verb in order] + [("device", name) for name in ("add", "list", "remove")]
    for path in local:
        for _, *words in example(path):
            small = shlex.split(SMOKE.get(words[0], ""))
            small += ["--queries", "20"] if "--attack" in words else []
            run([sys.executable, "-m", "qadtr_edge", *words, *small], tmp_path)
