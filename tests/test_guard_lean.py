"""The torch-free side works where torch is not, and ``--help`` loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from source import blocking, modules
from test_guard_layers import HEAVY, torch_free


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_torch_free_modules_import_without_any_heavy_package() -> None:
    """In one process where importing torch, onnx, scipy, PIL … fails."""
    names = [module.name for module in modules() if torch_free(module)]
    done = run(blocking(HEAVY) + "\n".join(f"import {name}" for name in names))
    assert done.returncode == 0, done.stderr


def test_the_block_blocks() -> None:
    done = run(blocking(["torch"]) + "import torch")
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("code", ["import qadtr_edge", "from qadtr_edge.cli import app"])
def test_import_loads_nothing_heavy(code: str) -> None:
    done = run(f"{code}; import sys; print(*sorted(set(sys.modules) & {HEAVY!r}))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from qadtr_edge.cli import main; sys.argv = ['qadtr-edge', '--help']\n"
        "try: main()\n"
        f"except SystemExit as end: print('heavy:', *(set(sys.modules) & {HEAVY!r}), end.code)"
    )
    done = run(code)
    assert done.stdout.rstrip().endswith("heavy: 0"), done.stdout + done.stderr
