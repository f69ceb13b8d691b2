"""The help of every command ends in an example that parses, on plain terminals too."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands import every, parse
from qadtr_edge import cli
from test_guard_docs import SMOKE, run

PREFIX = "Example: "
NOT_RUN = {"quantize", "data", "train"}
"""Examples that need a file of the user, the network, or minutes."""

COMMANDS = every()


def examples(path: tuple[str, ...]) -> list[str]:
    """The lines of the example of a command."""
    epilog = COMMANDS[path].epilog  # type: ignore[attr-defined]
    assert epilog is not None, f"{' '.join(path)} has no example"
    assert epilog.startswith(PREFIX)
    return [part.strip() for part in epilog.removeprefix(PREFIX).split("&&")]


def test_there_are_commands_and_sub_commands() -> None:
    assert {(), ("attack",), ("device",), ("device", "add")} < set(COMMANDS)
    assert {path[0] for path in COMMANDS if path} == {*cli.VERBS, "device"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_it_answers_in_json_when_asked(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    if not hasattr(command, "commands"):
        assert "--json" in {name for option in command.params for name in option.opts}  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_its_example_is_a_call_of_it_that_parses(path: tuple[str, ...]) -> None:
    for line in examples(path):
        assert parse(line)[: len(path)] == path


@pytest.mark.parametrize("line", ["qadtr-edge attack --atack gap", "qadtr-edge bench --threads 0"])
def test_an_example_that_does_not_parse_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such option|greater than"):
        parse(line)


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
        for line in examples(path):
            words = shlex.split(line)[1:]
            small = shlex.split(SMOKE.get(words[0], ""))
            small += ["--queries", "20"] if "--attack" in words else []
            run([sys.executable, "-m", "qadtr_edge", *words, *small], tmp_path)
