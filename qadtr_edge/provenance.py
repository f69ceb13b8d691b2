"""Who made a number, with what, where: git, versions, device, options, digests of the inputs.

Everything here is read without importing the packages it speaks about. Clock times are kept apart
from what identifies the work, so that equal work has equal identity.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .files import digest
from .types import Json

PACKAGES = (
    "qadtr-edge", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt",
    "tensorrt-rtx", "pycuda", "openvino", "ai-edge-litert", "scipy", "safetensors", "pillow",
    "typer", "rich",
)  # fmt: skip

CPU_FLAGS = (
    "sse4_1", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8",  # x86
    "asimddp", "i8mm", "sve",  # Arm: dot product, matrix product, scalable vectors
)  # fmt: skip


def collect(*, options: Mapping[str, object], inputs: tuple[Path, ...] = ()) -> dict[str, object]:
    """One manifest entry: argv as passed, ``options`` as resolved, and where they met what."""
    return {
        "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "options": dict(options),
        "inputs": {path.name: digest(path) for path in inputs},
        "git": dict(git()),
        "versions": dict(versions()),
        "device": dict(device()),
        "finished_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)
def git() -> dict[str, Json]:
    """Commit and whether the checkout differs from it; nulls outside a checkout of this project."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


@lru_cache(maxsize=1)
def versions() -> dict[str, Json]:
    """Versions of Python and of the packages that can change a number; absent ones left out."""
    found: dict[str, Json] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def device() -> dict[str, Json]:
    """The machine: operating system, CPU model, the instruction sets that matter, usable cores."""
    flags = cpu_flags()
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cores": usable_cores(),
    }


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The board's or CPU's name where the system tells it, else its architecture."""
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(errors="replace").rstrip("\0\n")
    for key in ("model name", "Model", "Hardware"):
        if value := _cpuinfo().get(key):
            return value
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of the first core, as Linux spells them; empty where unknown."""
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def usable_cores() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_nvidia_driver() -> bool:
    """Whether the kernel has loaded NVIDIA's driver (desktop GPUs, or Jetson's integrated one)."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/etc/nv_tegra_release").exists()


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    return first


def _output(*command: str) -> str | None:
    """What a command prints, or ``None`` when it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
