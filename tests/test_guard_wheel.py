"""The wheel holds every source file under one name, and works in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from source import HOMES, ROOT, modules
from test_guard_layers import torch_free

pytestmark = pytest.mark.slow

CARRIED = {".py", ".typed", ".toml", ".json", ".safetensors", ".cu", ".cuh", ".cpp"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no old build folder hides a missing file."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for home in HOMES:
        shutil.copytree(
            ROOT / home, source / home, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder, source], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel and its base dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("empty") / "environment"
    venv.create(folder, with_pip=True)
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [interpreter, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(command, check=True, cwd=folder)
    return interpreter


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=bare, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_source_under_one_name(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"qadtr_edge"}
    for home, installed in HOMES.items():
        for path in (ROOT / home).rglob("*"):
            if path.suffix in CARRIED and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT / home).as_posix()
                assert f"{installed.replace('.', '/')}/{inside}" in names, f"{path} is not carried"


def test_the_empty_environment_is_empty(python: Path, tmp_path: Path) -> None:
    for name in ("torch", "onnx", "onnxruntime", "scipy", "export", "kernels", "tests"):
        assert run(python, "-c", f"import {name}", folder=tmp_path).returncode == 1, name


def test_torch_free_modules_import_in_the_empty_environment(python: Path, tmp_path: Path) -> None:
    code = "; ".join(f"import {module.name}" for module in modules() if torch_free(module))
    done = run(python, "-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_command_works_in_the_empty_environment(python: Path, tmp_path: Path) -> None:
    program = python.parent / "qadtr-edge"
    assert run(program, "--help", folder=tmp_path).returncode == 0
    doctor = run(program, "doctor", "--json", folder=tmp_path)
    assert json.loads(doctor.stdout)["engines"]["ort"]["available"] is False


def test_a_missing_extra_is_answered_with_its_name(python: Path, tmp_path: Path) -> None:
    done = run(python.parent / "qadtr-edge", "export", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "pip install 'qadtr-edge[" in done.stderr
    assert "Traceback" not in done.stderr
