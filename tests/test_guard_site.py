"""The documentation builds without a warning, and what it shows runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import readers
from commands import parse
from source import ROOT
from test_guard_docs import NOT_RUN_HERE, blocks, run, small

DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.slow
@pytest.mark.needs("mkdocs", "torch")
def test_the_site_builds_and_every_link_resolves(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir",
         str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text()
    assert "QuantSpec" in page, "the reference is made from the docstrings"
    assert not re.findall(r'(?:src|href)="https?://(?!github)[^"]*\.(?:js|css|woff2?)"', page)


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == [page.name for page in DOCS]


def lines(page: Path) -> list[str]:
    """The commands of a page's console blocks."""
    told = "".join(blocks(page, "console")).splitlines()
    return [line.removeprefix("$ ") for line in told if line.startswith("$ ")]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.name))
def test_what_a_page_says_in_passing_parses(page: Path) -> None:
    """Commands between backquotes have options that exist; those in blocks are run below."""
    for line in re.findall(r"`(qadtr-edge [^`]+)`", page.read_text().replace("\n", " ")):
        parse(line)


def test_every_command_in_a_block_is_in_one_that_is_run() -> None:
    for page in DOCS:
        held = re.findall(r"^(?:\$ )?qadtr-edge .*$", "".join(blocks(page, "[^\n]*")), re.MULTILINE)
        assert held == [f"$ {line}" for line in lines(page) if line.startswith("qadtr-edge")], page
    assert "qadtr-edge device run --all --bundle signs.pyz" in lines(ROOT / "docs" / "jetson.md")


def pages() -> list[object]:
    """Every page, with what its commands need beyond a runtime and torch."""
    needs = {page: pytest.mark.needs(*wanted) for page, wanted in readers.NEEDS.items()}
    return [
        pytest.param(page, marks=needs.get(page.name, ()), id=page.name)
        for page in DOCS
        if lines(page) or blocks(page, "python")
    ]


@pytest.mark.slow
@pytest.mark.needs("ort", "torch")
@pytest.mark.parametrize("page", pages())
def test_what_a_page_shows_runs(page: Path, tmp_path: Path) -> None:
    """Its commands in order, in a folder with a run of the packaged model and the files that its
    reader is said to have; then Python. A suite has its budgets cut."""
    whole = [str(Path(sys.executable).parent / "qadtr-edge")]
    short = [sys.executable, str(ROOT / "tests" / "cut_suites.py")]
    commands, codes = lines(page), blocks(page, "python")
    if codes and "qadtr-edge export" not in commands:
        commands.insert(0, "qadtr-edge export")
    with readers.having(page.name, tmp_path) as told:
        for command in commands:
            name, *words = shlex.split(command, comments=True)
            assert name in NOT_RUN_HERE | {"qadtr-edge", "python"}, command
            if name == "python":
                run([sys.executable, *words], tmp_path, **told)
            if name == "qadtr-edge":
                program = short if "--suite" in words else whole
                run([*program, *small(words)], tmp_path, **told)
        for code in codes:
            run([sys.executable, "-c", code], tmp_path, **told)
