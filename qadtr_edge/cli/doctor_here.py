"""What ``doctor`` finds of this machine beside its engines: devices, and kernels for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from .. import provenance, registry
from ..devices import listing, power
from ..errors import QadtrError, Unsupported


@dataclass(frozen=True)
class State:
    """Whether something can be used here; ``reason`` and ``remedy`` when it cannot.

    ``version``: its version, or what it is.
    """

    available: bool
    version: str | None = None
    reason: str | None = None
    remedy: str | None = None

    def as_json(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Gpu(Protocol):
    """What is used of ``kernels.memory.Device``."""

    facts: dict[str, str]

    def close(self) -> None: ...


def no_driver(version: str | None = None) -> State:
    """What needs an NVIDIA GPU, where there is no driver for one."""
    return State(
        available=False,
        version=version,
        reason="there is no NVIDIA driver on this machine",
        remedy="use a machine with an NVIDIA GPU and its driver",
    )


def devices() -> dict[str, State]:
    """This CPU, its GPU, what tells energy, and the way to devices elsewhere."""
    return {
        "cpu": State(available=True, version=str(provenance.device()["cpu"])),
        "cuda": _cuda(),
        "energy": _energy(),
        "ssh": _ssh(),
    }


def kernels(cuda: State) -> dict[str, State]:
    """Each kernel: it is compiled here, and runs on the GPU, which ``cuda`` tells of."""
    return {name: _kernel(cuda) for name in registry.names("kernel")}


def _cuda() -> State:
    """The first GPU, opened and closed again."""
    if not provenance.has_nvidia_driver():
        return no_driver()
    opening = cast(Callable[[], Gpu], registry.resolve("device memory", "cuda"))
    try:
        with closing(opening()) as gpu:
            return State(available=True, version=gpu.facts["gpu"])
    except QadtrError as error:
        return _refused(error)


def _energy() -> State:
    try:
        with power.meter() as found:
            return State(available=True, version=found.name)
    except Unsupported as error:
        return _refused(error)


def _ssh() -> State:
    """The system's own ssh; named beside it, the devices that were added."""
    if shutil.which("ssh") is None:
        return State(
            available=False,
            reason="there is no ssh on the path",
            remedy="apt-get install openssh-client",
        )
    try:
        added = ", ".join(listing.devices())
    except QadtrError as error:
        return _refused(error)
    return State(
        available=True, version=added or "no device added: qadtr-edge device add NAME USER@HOST"
    )


def _kernel(cuda: State) -> State:
    try:
        compiler = cast(Callable[[], Path], registry.resolve("kernel compiler", "cuda"))()
    except QadtrError as error:
        return _refused(error)
    if not cuda.available:
        return State(
            available=False,
            version=str(compiler),
            reason=f"it compiles here; {cuda.reason}",
            remedy=cuda.remedy,
        )
    if find_spec("pycuda") is None:
        return State(
            available=False,
            version=str(compiler),
            reason="the package pycuda is not installed",
            remedy="pip install 'qadtr-edge[cuda]'",
        )
    return State(available=True, version=str(compiler))


def _refused(error: QadtrError) -> State:
    return State(available=False, reason=error.fact, remedy=error.remedy)
