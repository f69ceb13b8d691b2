"""How a TensorRT engine is asked for, and what the installed package does not have of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

from qadtr_edge import provenance
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.types import Json

from . import trt_runtime
from .trt_runtime import is_rtx, version

Hardware = Literal["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]


@dataclass(frozen=True)
class Options:
    """How an engine is built. Part of its digest.

    - ``batch``: smallest, usual and largest number of images of one call.
    - ``workspace_mebibytes``: scratch memory the builder may plan with.
    - ``optimization_level``: 0 to 5; ``None`` is the builder's own.
    - ``hardware``: GPUs beyond this one; ``is_version_compatible``: carries a lean runtime along.
    - ``compute_capabilities``: of TensorRT-RTX, ``("SM86", …)``; empty: the GPU here, or without
      one ``RTX_TARGETS``.
    - ``timing_cache``: a file read before and written after the build.
    - ``dla_core``: builds for that accelerator, with fallback to the GPU.
    """

    batch: tuple[int, int, int] = (1, 64, 256)
    workspace_mebibytes: int = 1024
    optimization_level: int | None = None
    hardware: Hardware = "NONE"
    is_version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None
    dla_core: int | None = None

    def as_json(self) -> dict[str, Json]:
        """Every option that was set, by name."""
        cache = None if self.timing_cache is None else str(self.timing_cache)
        return {**asdict(self), "timing_cache": cache, "batch": [*self.batch],
                "compute_capabilities": [*self.compute_capabilities]}  # fmt: skip


_LEVELS = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}


def options_of(
    *, compute_capabilities: Sequence[str] = (), workspace_mebibytes: int | None = None,
    hardware: str | None = None, is_version_compatible: bool = False,
    batch: Sequence[int] | None = None, timing_cache: Path | None = None,
    dla_core: int | None = None,
) -> Options:  # fmt: skip
    """Options as a user words them, ``None`` being ours: capabilities 8.6, levels ampere+.

    Raises ``BadInput`` for what makes no sense, ``Unsupported`` for what the installed package does
    not have.
    """
    trt, plain = trt_runtime.runtime(), Options()
    if hardware is not None and hardware not in _LEVELS:
        raise BadInput(
            f"{hardware!r} is no level of hardware compatibility.", f"Give {' or '.join(_LEVELS)}."
        )
    if batch is not None and (len(batch) != 3 or list(batch) != sorted(batch)):
        raise BadInput(
            f"A batch profile is the smallest, usual and largest batch; {list(batch)} is not.",
            "Give three numbers in order, such as 1,64,256.",
        )
    made = Options(
        batch=plain.batch if batch is None else (batch[0], batch[1], batch[2]),
        workspace_mebibytes=workspace_mebibytes or plain.workspace_mebibytes,
        hardware=plain.hardware if hardware is None else cast(Hardware, _LEVELS[hardware]),
        is_version_compatible=is_version_compatible,
        compute_capabilities=tuple(_target(each) for each in compute_capabilities),
        timing_cache=timing_cache, dla_core=dla_core,
    )  # fmt: skip
    check(trt, made)
    return made


def again(stored: Mapping[str, Json]) -> Options:
    """What an earlier build was asked for, ``Options.as_json``, for one on this machine.

    The GPUs it was for and its file of timings stay where it was made. Of what is not stored, our
    own. Raises ``BadInput`` for a value of another kind.
    """
    plain, taken = Options(), {}
    for name, usual in plain.as_json().items():
        value = stored.get(name, usual)
        kinds = {type(usual), int} if usual is None else {type(usual)}
        listed = isinstance(value, list) and [type(item) for item in value] != [int] * 3
        if name in _OF_THE_BUILD:
            continue
        if type(value) not in kinds or listed:
            raise BadInput(
                f"The recorded option {name} is {value!r}.",
                "Export the model again: qadtr-edge export --engine trt.",
            )
        taken[name] = tuple(value) if isinstance(value, list) else value
    return replace(plain, **taken)  # type: ignore[arg-type]


_OF_THE_BUILD = {"compute_capabilities", "timing_cache"}


def _target(capability: str) -> str:
    """8.6 -> SM86."""
    major, dot, minor = capability.partition(".")
    if not (major.isdecimal() and dot and len(minor) == 1 and minor.isdecimal()):
        raise BadInput(
            f"{capability!r} is no compute capability.", "Give numbers such as 8.6, with commas."
        )
    return f"SM{major}{minor}"


def _spoken(target: str) -> str:
    """SM86 -> 8.6."""
    numbers = target.removeprefix("SM")
    return f"{numbers[:-1]}.{numbers[-1:]}"


def check(trt: ModuleType, options: Options) -> None:
    """Raises ``Unsupported`` for what the installed package or this machine does not have.

    The enterprise package may lack ``ComputeCapability``: it is asked for where one is named.
    """
    if options.compute_capabilities and not is_rtx(trt):
        raise Unsupported(
            "TensorRT builds for the GPU at hand; only TensorRT-RTX takes compute capabilities.",
            "Leave them out, or use tensorrt-rtx.",
        )
    for name in options.compute_capabilities:
        known = [each for each in trt.ComputeCapability.__members__ if each.startswith("SM")]
        if name not in {*known, "CURRENT"}:
            raise Unsupported(
                f"{version(trt)} does not build for compute capability {_spoken(name)} ahead of "
                "time.",
                f"Use one of: {', '.join(_spoken(each) for each in known)}; or build where it "
                "runs: qadtr-edge bundle --engine trt.",
            )
    if options.timing_cache is not None and not provenance.has_nvidia_driver():
        raise Unsupported(
            "A timing cache holds timings of a GPU, and there is no NVIDIA driver here.",
            "Leave it out, or build on a machine with the GPU.",
        )
    if options.timing_cache is not None and options.timing_cache.is_dir():
        raise BadInput(
            f"{options.timing_cache} is a folder, and a timing cache is a file.", "Name a file."
        )
    if options.hardware != "NONE":
        member(trt, trt.HardwareCompatibilityLevel, name=options.hardware)


def member(trt: ModuleType, kind: type[Enum], *, name: str) -> object:
    found = getattr(kind, name, None)
    if found is None:
        known = sorted(each for each in kind.__members__ if each not in {"NONE", "CURRENT"})
        raise Unsupported(
            f"{version(trt)} has no {kind.__name__} {name!r}.",
            f"Use one of: {', '.join(known)}.",
        )
    return found
