"""An interpreter that has only the packages named: a device, as far as Python is concerned."""

from __future__ import annotations

import os
import subprocess
import venv
from importlib.util import find_spec
from pathlib import Path

SLOW_DISK = """import os, time
fsync = os.fsync
def slow(handle):
    time.sleep(0.03)
    fsync(handle)
os.fsync = slow
"""
"""A ``site`` that makes finishing a unit slow enough to be interrupted."""


def interpreter(folder: Path, *packages: str, site: str = "") -> Path:
    """The Python of a fresh environment with these packages of this one, and ``site`` run first."""
    venv.create(folder, with_pip=False, symlinks=True)
    [home] = (folder / "lib").glob("python*/site-packages")
    for name in packages:
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        there = Path(next(iter(spec.submodule_search_locations)))
        (home / name).symlink_to(there)
        libraries = there.with_name(f"{name}.libs")
        for beside in (libraries, *there.parent.glob(f"{name}-*.dist-info")):
            if beside.is_dir():
                (home / beside.name).symlink_to(beside)
    if site:
        (home / "sitecustomize.py").write_text(site)
    return folder / "bin" / "python"


def call(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What that Python does with these words, in an environment that says nothing of ours."""
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [python, *words], env=environment, capture_output=True, text=True, check=False
    )
