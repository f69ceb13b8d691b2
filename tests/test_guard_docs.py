"""Every link leads somewhere, and the commands of the README run, in order, at smoke size."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from source import ROOT

SMOKE = {  # what makes a documented command small enough for a test
    "attack": "--images 16 --steps 5",
    "export": "--bits 8",
    "verify": "--images 16 --bits 8",
    "train": "--epochs 1 --limit 256 --bits 32,8",
    "bench": "--batch 1",
    "bundle": "--images 16 --steps 5",
    "analyze": "--images 16 --steps 5 --stride 13",
}
NOT_RUN_HERE = {"make", "pip", "git", "cd", "docker"}

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "runs", "build"} & set(path.relative_to(ROOT).parts)
)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines after a prompt in the README's console blocks."""
    lines = "".join(blocks(ROOT / "README.md", "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def small(words: list[str]) -> list[str]:
    """A documented command at smoke size. A suite takes no budget, a file that ships no width."""
    if "--suite" in words:
        return [*words, "--images", "8"]
    held = SMOKE.get(words[0], "")
    if {"--artefact", "--onnx"} & set(words):
        held = held.replace("--bits 8", "")
    return [*words, *shlex.split(held)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            path = page.parent / target.partition("#")[0]
            assert path.exists(), f"{page.name} links to {target}, which is not there"


def test_every_number_of_the_readme_is_in_a_committed_report() -> None:
    report = (ROOT / "benchmarks" / "results" / "quickstart.md").read_text().splitlines()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "| ort " in line]
    assert rows
    for row in rows:
        engine, *cells = row.strip("| ").split(" | ")
        lines = [line for line in report if line.startswith(f"| {engine} |")]
        for cell in cells:
            assert any(f"| {cell} |" in line for line in lines), f"{engine}: {cell}"


def test_the_readme_shows_commands_this_test_understands() -> None:
    shown = {shlex.split(command)[0] for command in commands()}
    assert "qadtr-edge" in shown
    assert shown <= NOT_RUN_HERE | {"qadtr-edge"}


@pytest.mark.slow
@pytest.mark.needs("ort", "torch")
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """In one empty folder, one after the other, then the Python examples."""
    program = str(Path(sys.executable).parent / "qadtr-edge")
    for command in commands():
        name, *words = shlex.split(command, comments=True)
        if name == "qadtr-edge":
            run([program, *small(words)], tmp_path)
    for code in blocks(ROOT / "README.md", "python"):
        run([sys.executable, "-c", code], tmp_path)


def run(command: list[str], folder: Path, **told: str) -> None:
    """``told``: what the environment says besides."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **told}
    environment.pop("QADTR_RUNS", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
