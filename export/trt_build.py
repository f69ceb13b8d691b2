"""From an ONNX file to a TensorRT plan: strongly typed, and with no precision flag.

One code path for ``tensorrt`` 10.3 to 11 and for ``tensorrt_rtx``. What a version does not have is
asked for by ``getattr`` and refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

from qadtr_edge import provenance
from qadtr_edge.errors import BadInput, EngineFailed, Unsupported
from qadtr_edge.files import write_bytes
from qadtr_edge.types import Json

from . import trt_runtime
from .trt_runtime import Log, is_rtx, log_of, refused, version

if TYPE_CHECKING:
    import tensorrt

RTX_TARGETS = ("SM80", "SM86", "SM89", "SM120")
"""What an ahead-of-time build covers; SM75 is built when asked for, nearly twice as large."""

_REMEDY = "Check the model with `qadtr-edge export --engine ort`, or build with another version."
_MEBIBYTE = 1 << 20


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
    _check(trt, made)
    return made


def _target(capability: str) -> str:
    """8.6 -> SM86."""
    major, dot, minor = capability.partition(".")
    if not (major.isdecimal() and dot and len(minor) == 1 and minor.isdecimal()):
        raise BadInput(
            f"{capability!r} is no compute capability.", "Give numbers such as 8.6, with commas."
        )
    return f"SM{major}{minor}"


def _check(trt: ModuleType, options: Options) -> None:
    """Raises ``Unsupported`` for names that the installed package does not know."""
    if options.compute_capabilities and not is_rtx(trt):
        raise Unsupported(
            "TensorRT builds for the GPU at hand; only TensorRT-RTX takes compute capabilities.",
            "Leave them out, or use tensorrt-rtx.",
        )
    for name in options.compute_capabilities:
        _member(trt, trt.ComputeCapability, name=name)
    if options.hardware != "NONE":
        _member(trt, trt.HardwareCompatibilityLevel, name=options.hardware)


@dataclass(frozen=True)
class Plan:
    """A built engine: its bytes, and what the builder had to say."""

    content: bytes
    warnings: tuple[str, ...]
    on_gpu: tuple[str, ...] = ()
    """Layers that an accelerator (DLA) left to the GPU."""


def plan_of(trt: ModuleType, model: Path, *, options: Options) -> Plan:
    """The plan of the ONNX file ``model``.

    Raises ``EngineFailed`` with the logger's last errors where it is refused, ``Unsupported`` for
    an option this version does not have.
    """
    log = log_of(trt)
    builder = _builder(trt, log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)) or log.errors:
        _tell(parser, log)
        raise refused(trt, f"parse {model.name}", log=log, remedy=_REMEDY)
    _check(trt, options)
    config = builder.create_builder_config()
    _configure(trt, config, options=options)
    _add_profile(builder, network, config=config, batch=options.batch)
    if options.dla_core is not None and options.dla_core >= getattr(builder, "num_DLA_cores", 0):
        raise Unsupported(
            f"There is no DLA core {options.dla_core} for {version(trt)} here.",
            "Build for the GPU: leave dla_core out.",
        )
    on_gpu = _place_on_dla(trt, network, config=config, core=options.dla_core)
    _load_timings(config, options.timing_cache)
    content = builder.build_serialized_network(network, config)
    if content is None or log.errors:
        raise refused(trt, f"build {model.name}", log=log, remedy=_REMEDY)
    if options.timing_cache is not None:
        write_bytes(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return Plan(bytes(content), tuple(dict.fromkeys(log.warnings)), on_gpu)


def _builder(trt: ModuleType, log: Log) -> tensorrt.Builder:
    if not is_rtx(trt) and not provenance.has_nvidia_driver():
        raise EngineFailed(
            "TensorRT builds on the GPU it builds for, and there is no NVIDIA driver here.",
            "Use a machine with an NVIDIA GPU, or build ahead of time: "
            "pip install 'qadtr-edge[trt-rtx]'.",
        )
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        raise refused(trt, "start a build", log=log, remedy=_REMEDY) from error


def _network_flags(trt: ModuleType) -> int:
    """Strongly typed, where that is not the only kind there is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None or is_rtx(trt) else 1 << int(flag)


def _tell(parser: tensorrt.OnnxParser, log: Log) -> None:
    """Hands the parser's own errors to the log, with the node they are about."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = getattr(error, "node_name", lambda: "")()
        log.errors.append(f"node {name!r}: {error.desc()}" if name else str(error.desc()))


def _configure(trt: ModuleType, config: tensorrt.IBuilderConfig, *, options: Options) -> None:
    pool = trt.MemoryPoolType.WORKSPACE
    config.set_memory_pool_limit(pool, options.workspace_mebibytes * _MEBIBYTE)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector must see kernels
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware != "NONE":
        config.hardware_compatibility_level = _member(
            trt, trt.HardwareCompatibilityLevel, name=options.hardware
        )
    if options.is_version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if is_rtx(trt):
        chosen = options.compute_capabilities or targets_here()
        config.num_compute_capabilities = len(chosen)
        for index, name in enumerate(chosen):
            config.set_compute_capability(_member(trt, trt.ComputeCapability, name=name), index)


def targets_here() -> tuple[str, ...]:
    """What TensorRT-RTX builds for unless told: the GPU here, or without one ``RTX_TARGETS``."""
    return ("CURRENT",) if provenance.has_nvidia_driver() else RTX_TARGETS


def _member(trt: ModuleType, kind: type[Enum], *, name: str) -> object:
    found = getattr(kind, name, None)
    if found is None:
        known = sorted(each for each in kind.__members__ if each not in {"NONE", "CURRENT"})
        raise Unsupported(
            f"{version(trt)} has no {kind.__name__} {name!r}.",
            f"Use one of: {', '.join(known)}.",
        )
    return found


def _add_profile(
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    *,
    config: tensorrt.IBuilderConfig,
    batch: tuple[int, int, int],
) -> None:
    """The batch range of every input whose first size is free."""
    profile = builder.create_optimization_profile()
    is_needed = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if shape[:1] == (-1,):
            is_needed = True
            profile.set_shape(tensor.name, *((size, *shape[1:]) for size in batch))
    if is_needed:
        config.add_optimization_profile(profile)


def _place_on_dla(
    trt: ModuleType,
    network: tensorrt.INetworkDefinition,
    *,
    config: tensorrt.IBuilderConfig,
    core: int | None,
) -> tuple[str, ...]:
    """Puts layers on a DLA core where it can hold them; names those that stay on the GPU."""
    if core is None:
        return ()
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return tuple(str(layer.name) for layer in layers if not config.can_run_on_DLA(layer))


def _load_timings(config: tensorrt.IBuilderConfig, path: Path | None) -> None:
    if path is None:
        return
    held = path.read_bytes() if path.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(held), ignore_mismatch=False)


def key_material(trt: ModuleType, options: Options, *, gpu: Mapping[str, str]) -> dict[str, Json]:
    """What, beside the model's bytes, decides which plan a build gives."""
    targets = list(options.compute_capabilities or (targets_here() if is_rtx(trt) else ()))
    return {
        "runtime": version(trt),
        "options": options.as_json() | cast(dict[str, Json], {"compute_capabilities": targets}),
        "gpu": dict(gpu),
    }
