"""Another CPU on this machine: the same runtime under QEMU's user emulation, for its numbers alone.

Emulation tells what integers another instruction set computes and nothing about its speed. Nothing
is installed: packages are unpacked into a cache folder (``QADTR_CACHE``, or the user's own), once.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.errors import EngineFailed, Unsupported
from qadtr_edge.types import Json, Pixels

from . import arm64_root

TIMEOUT_S = 600
SCRIPT = Path(__file__).with_name("emulated_run.py")


@dataclass(frozen=True)
class Machine:
    """A CPU that is emulated. ``stands_for``: the machines that compute as it does."""

    name: str
    emulator: str
    cpu: str
    stands_for: str


MACHINES = {
    "avx2": Machine("avx2", "qemu-x86_64", "Haswell", "x86 with AVX2 and without VNNI"),
    "arm64": Machine(
        "arm64", "qemu-aarch64", "cortex-a76", "Arm with dot products, near Jetson Orin"
    ),
}


@dataclass(frozen=True)
class Emulated:
    """A machine that is ready: how a Python of it is started."""

    machine: Machine
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def python(self, arguments: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> str:
        """What a Python program prints there. Raises ``EngineFailed`` when it fails or hangs."""
        try:
            done = subprocess.run(
                [*self.command, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=timeout_s, check=False, env={**_quiet(), **self.environment},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineFailed(
                f"The emulated {self.machine.name} did not answer within {timeout_s:g} s.",
                "Give fewer --images.",
            ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EngineFailed(
                f"The emulated {self.machine.name} ended with {done.returncode}: {last[:300]}",
                "Check that the model runs here: qadtr-edge verify without --isa.",
            )
        return done.stdout

    def logits(
        self, model: Path, images: Pixels, *, options: Mapping[str, Json]
    ) -> NDArray[np.float32]:
        """Logits ``(N, K)`` of onnxruntime there, of ``images (N, 3, H, W)``, with its options."""
        with TemporaryDirectory() as folder:
            given, found = Path(folder) / "images.npy", Path(folder) / "logits.npy"
            np.save(given, images)
            chosen = [f"{k}={v}" for k, v in options.items() if k.startswith("session.")]
            self.python([str(SCRIPT), str(model.resolve()), str(given), str(found), *chosen])
            logits: NDArray[np.float32] = np.load(found)
        return logits


def prepare(name: str) -> Emulated:
    """The machine called ``name``, set up on first use.

    Raises ``Unsupported`` where it cannot be set up, with what would help.
    """
    machine = MACHINES[name]
    cache = _cache()
    emulator = _emulator(machine.emulator, cache)
    start = (emulator, "-cpu", machine.cpu)
    if machine.emulator == "qemu-x86_64":
        if platform.machine() != "x86_64":
            raise Unsupported(
                f"{name} is emulated with this machine's Python, which is {platform.machine()}.",
                "Check it on an x86-64 machine.",
            )
        site = sysconfig.get_paths()["purelib"]
        python = os.path.realpath(sys.executable)
        return Emulated(machine, (*start, python), {"PYTHONPATH": site})
    root = arm64_root.prepare(
        cache / "arm64", packages={name: version(name) for name in ("numpy", "onnxruntime")}
    )
    command = (*start, "-L", str(root.folder), str(root.python))
    return Emulated(machine, command, {"PYTHONPATH": str(root.site)})


def _emulator(name: str, cache: Path) -> str:
    """The emulator's program: the system's own, or one unpacked into the cache."""
    for program in (f"{name}-static", name):
        if found := shutil.which(program):
            return found
    unpacked = cache / "qemu" / "usr" / "bin" / f"{name}-static"
    if not unpacked.is_file():
        arm64_root.unpack(cache / "qemu", ("qemu-user-static",), architecture=None)
    return str(unpacked)


def _cache() -> Path:
    chosen = os.environ.get("QADTR_CACHE")
    if chosen:
        return Path(chosen) / "isa"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qadtr-edge" / "isa"


def _quiet() -> dict[str, str]:
    """This environment, with one thread and nothing of this Python's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "OMP_NUM_THREADS": "1"}
