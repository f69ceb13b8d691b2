"""The documentation builds without a warning, and what it shows runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands import parse
from source import ROOT
from test_guard_docs import NOT_RUN_HERE, SMOKE, blocks, run

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


def shown(page: Path) -> list[str]:
    """Every line of the command line on a page, in blocks of either kind and between backquotes."""
    text = page.read_text()
    fenced = "".join(blocks(page, "text") + blocks(page, "console")).splitlines()
    lines = [line.strip().removeprefix("$ ") for line in fenced]
    lines += re.findall(r"`(qadtr-edge [^`]+)`", text.replace("\n", " "))
    return [line for line in lines if line.startswith("qadtr-edge ")]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.name))
def test_what_a_page_shows_and_no_test_can_run_parses_at_least(page: Path) -> None:
    """Commands that go to a device, or that need a file of the user's, have options that exist."""
    for line in shown(page):
        parse(line)


def test_commands_are_found_on_the_pages() -> None:
    assert "qadtr-edge device run --all --bundle signs.pyz" in shown(ROOT / "docs" / "jetson.md")


@pytest.mark.slow
@pytest.mark.needs("ort", "torch")
@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.name))
def test_what_a_page_shows_runs(page: Path, tmp_path: Path) -> None:
    """Its commands in order, in an empty folder with a run of the packaged model; then Python."""
    program = str(Path(sys.executable).parent / "qadtr-edge")
    lines = "".join(blocks(page, "console")).splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    codes = blocks(page, "python")
    if codes and "qadtr-edge export" not in commands:
        commands.insert(0, "qadtr-edge export")
    for command in commands:
        name, *words = shlex.split(command, comments=True)
        assert name in NOT_RUN_HERE | {"qadtr-edge", "python"}, command
        if name == "python":
            run([sys.executable, *words], tmp_path)
        if name == "qadtr-edge":
            run([program, *words, *shlex.split(SMOKE.get(words[0], ""))], tmp_path)
    for code in codes:
        run([sys.executable, "-c", code], tmp_path)
