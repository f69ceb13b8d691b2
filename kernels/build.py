"""Compiling kernels: once for each source, compiler and target, and with a reason where it cannot.

A CUDA kernel becomes a cubin by ``nvcc``, which needs no GPU; the same source becomes a library for
this CPU by the C++ compiler, to be held to its reference where there is no GPU.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from importlib import resources
from pathlib import Path

from qadtr_edge.errors import EngineFailed, MissingDependency
from qadtr_edge.files import write_bytes

CUDA = Path(__file__).parent / "cuda"

_TIMEOUT_S = 120


def cubin(source: Path, architecture: str) -> bytes:
    """``source`` (a .cu file) compiled for ``architecture``, as ``sm_87``.

    Raises ``MissingDependency`` without a compiler, ``EngineFailed`` with its first error.
    """
    compiler = nvcc()
    flags = ["-O3", "-cubin", f"-arch={architecture}", *_includes(compiler)]
    return _compiled([str(compiler), *flags], source).read_bytes()


def host_library(source: Path) -> Path:
    """``source`` compiled as C++ into a shared library for this CPU."""
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if found is None:
        raise MissingDependency("c++", "kernels", purpose="Compiling a kernel for this CPU")
    return _compiled([found, "-O2", "-std=c++14", "-shared", "-fPIC", "-x", "c++"], source)


def nvcc() -> Path:
    """The CUDA compiler. Raises ``MissingDependency`` where there is none."""
    for place in nvcc_places():
        if place.is_file() and os.access(place, os.X_OK):
            return place
    raise MissingDependency("nvidia-cuda-nvcc", "kernels", purpose="Compiling a CUDA kernel")


def nvcc_places() -> list[Path]:
    """Where it may be: under ``CUDA_HOME``, in NVIDIA's Python package, on the path, by custom."""
    home, on_path = os.environ.get("CUDA_HOME"), shutil.which("nvcc")
    return [
        *([Path(home) / "bin" / "nvcc"] if home else []),
        *sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/nvcc")),
        *([Path(on_path)] if on_path else []),
        Path("/usr/local/cuda/bin/nvcc"),
    ]


def _includes(compiler: Path) -> list[str]:
    """NVIDIA's Python packages put the headers beside ``bin``."""
    beside = compiler.parent.parent / "include"
    return ["-I", str(beside)] if beside.is_dir() else []


def _compiled(command: list[str], source: Path) -> Path:
    """The compiled file, from the cache where source, command and compiler are the same."""
    content = _content(source)
    told = subprocess.run([command[0], "--version"], capture_output=True, timeout=_TIMEOUT_S)
    material = "\0".join(command).encode() + told.stdout + content
    made = _cache() / f"{source.stem}-{hashlib.sha256(material).hexdigest()[:32]}"
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    scratch = made.with_name(f"{made.name}.{os.getpid()}")
    written = scratch.with_name(f"{scratch.name}{source.suffix}")
    try:
        written.write_bytes(content)
        ran = subprocess.run(
            [*command, "-o", str(scratch), str(written)], capture_output=True, text=True,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
        if ran.returncode != 0:
            told_why = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
            reason = next((line for line in told_why if "error" in line.lower()), "no reason")
            raise EngineFailed(
                f"{command[0]} does not compile {source.name}: {reason[:300]}.",
                "Use a compiler that knows this target, or do without the kernel.",
            )
        write_bytes(made, scratch.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)
        written.unlink(missing_ok=True)
    return made


def _content(source: Path) -> bytes:
    """The text of a kernel. Ours may lie in a zip application, where no file has its name."""
    is_packed = source.parent == CUDA and not source.exists()
    held = resources.files(__package__) / CUDA.name / source.name if is_packed else source
    try:
        return held.read_bytes()
    except OSError as error:
        raise EngineFailed(
            f"The source of a kernel, {source}, cannot be read: {error.strerror or error}.",
            "Install the package again, or do without the kernel.",
        ) from error


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "qadtr-edge" / "kernels"
