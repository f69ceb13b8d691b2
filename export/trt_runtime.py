"""TensorRT and TensorRT-RTX as one package: found by name, its log kept, its refusals raised.

Neither raises where it refuses: a parse, build or load gives False or None, and only the logger
was told why.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from qadtr_edge.errors import EngineFailed, MissingDependency, Unsupported

if TYPE_CHECKING:
    import tensorrt

PACKAGES = ("tensorrt", "tensorrt_rtx")
"""In order of choice: the enterprise package also runs on Jetson and on Hopper."""

OLDEST = (10, 3)
"""Of the enterprise package: JetPack 6.1. TensorRT-RTX counts from 1.0 and is newer throughout."""

_KEPT_LINES = 3


def runtime() -> ModuleType:
    """The package that is installed.

    Raises ``MissingDependency`` where there is none, ``EngineFailed`` where it does not load,
    ``Unsupported`` where it is too old.
    """
    broken: tuple[str, Exception] | None = None
    for name in PACKAGES:
        try:
            found = import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:
            broken = broken or (name, error)
            continue
        _check_version(found)
        return found
    if broken is not None:
        raise EngineFailed(
            f"{broken[0]} is installed but does not load: {str(broken[1]).splitlines()[0][:200]}.",
            "Install its libraries: pip install 'qadtr-edge[trt]' on a machine with a driver.",
        ) from broken[1]
    raise MissingDependency("tensorrt", "trt", purpose="The engine trt")


def _check_version(found: ModuleType) -> None:
    numbers = tuple(int(part) for part in found.__version__.split(".")[:2])
    if found.__name__ == "tensorrt" and numbers < OLDEST:
        raise Unsupported(
            f"TensorRT {found.__version__} is too old.",
            "Use TensorRT 10.3 or newer, or tensorrt-rtx.",
        )


def version(trt: ModuleType) -> str:
    """The runtime that answers: package and version."""
    return f"{trt.__name__} {trt.__version__}"


def is_rtx(trt: ModuleType) -> bool:
    """Whether this is TensorRT-RTX, which can build without a GPU."""
    return trt.__name__ == "tensorrt_rtx"


class Log(Protocol):
    """A logger TensorRT writes to. ``errors``: what went wrong; ``warnings``: what may have."""

    errors: list[str]
    warnings: list[str]

    def log(self, severity: object, msg: str) -> None: ...


def log_of(trt: ModuleType) -> Log:
    """A new logger that keeps its messages; the uint8 warning counts as an error."""
    made: Log = _kind_of_log(trt.ILogger)()
    return made


def _kind_of_log(base: type[tensorrt.ILogger]) -> Callable[[], Log]:
    class Messages(base):  # type: ignore[misc]
        """Keeps errors and warnings apart; the rest is chatter."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: object, msg: str) -> None:
            is_uint8 = "UINT8" in msg.upper() and "INT8 INSTEAD" in msg.upper()
            if severity in (base.ERROR, base.INTERNAL_ERROR) or is_uint8:
                self.errors.append(msg)
            elif severity == base.WARNING:
                self.warnings.append(msg)

    return Messages


def refused(trt: ModuleType, what: str, *, log: Log, remedy: str) -> EngineFailed:
    """The error for ``what`` that failed, with the last lines the logger was told."""
    lines = " | ".join(line.strip()[:300] for line in log.errors[-_KEPT_LINES:])
    told = f": {lines}" if lines else ", without saying why"
    return EngineFailed(f"{version(trt)} refuses to {what}{told}.", remedy)


def deserialized(trt: ModuleType, plan: bytes, *, path: Path, log: Log) -> tensorrt.ICudaEngine:
    """The engine in ``plan``. Raises ``EngineFailed`` for one of another GPU or version."""
    try:
        loader = trt.Runtime(log)
    except (TypeError, RuntimeError) as error:  # the binding's way to say that it got null
        raise refused(trt, "start", log=log, remedy=_NEEDS_GPU) from error
    engine = loader.deserialize_cuda_engine(plan)
    if engine is None:
        raise refused(
            trt, f"load {path}", log=log,
            remedy="An engine is valid for one version and GPU: build it here with "
            "`qadtr-edge export --engine trt`.",
        )  # fmt: skip
    return engine


_NEEDS_GPU = "Use a machine with an NVIDIA GPU and its driver."
