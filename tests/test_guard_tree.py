"""The packages list is complete, and nothing of one machine or one day is left in the tree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from source import HOMES, ROOT, Module, module_id, modules

LEFT_BEHIND = re.compile(
    r"/(?:home|root|work|Users)/\w"  # a path of somebody's machine
    r"|\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b"
    r"|pdb\.set_trace|\bbreakpoint\(\)"
    r"|except:\s*$",
    re.MULTILINE,
)  # fmt: skip
UNSAFE = re.compile(r"\bimport (?:c?[Pp]ickle|dill|joblib)\b|allow_pickle=True|weights_only=False")
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".yml", ".cfg", ""}
MAX_KIBIBYTES = 2048


def tracked() -> list[Path]:
    """Files under version control; without git, every file of the source folders."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]
    return [path for home in (*HOMES, "tests") for path in (ROOT / home).rglob("*.*")]


def packages_in_pyproject() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return set(re.findall(r'"([\w.]+)"', found[1]))


def test_every_package_is_listed_for_the_wheel() -> None:
    there = {
        ".".join([name, *init.parent.relative_to(ROOT / home).parts])
        for home, name in HOMES.items()
        for init in (ROOT / home).rglob("__init__.py")
    }
    assert packages_in_pyproject() == there


def test_every_folder_with_code_is_a_package() -> None:
    for home in HOMES:
        for path in (ROOT / home).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"


def test_nothing_is_left_behind() -> None:
    for path in tracked():
        if path.suffix in TEXT and path != Path(__file__):
            found = LEFT_BEHIND.search(path.read_text(errors="replace"))
            assert found is None, f"{path.relative_to(ROOT)} holds {found and found[0]!r}"


@pytest.mark.parametrize("text", ["cd /home/me/x", "# TO" + "DO later", "    except:\n"])
def test_the_search_finds(text: str) -> None:
    assert LEFT_BEHIND.search(text)


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_nothing_can_load_a_pickle(module: Module) -> None:
    found = UNSAFE.search(module.path.read_text())
    assert found is None, f"{found and found[0]!r}: what users hand us is never unpickled"


def test_no_file_is_big() -> None:
    for path in tracked():
        assert path.stat().st_size <= 1024 * MAX_KIBIBYTES, f"{path.relative_to(ROOT)} is too big"
