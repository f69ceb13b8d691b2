"""From an ONNX file to a TensorRT plan: strongly typed, and with no precision flag.

One code path for ``tensorrt`` 10.3 to 11 and for ``tensorrt_rtx``. What a version does not have is
asked for by ``getattr`` and refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from qadtr_edge import provenance
from qadtr_edge.errors import EngineFailed, Unsupported
from qadtr_edge.files import write_bytes
from qadtr_edge.types import Json

from .trt_options import Options, check, member
from .trt_runtime import Log, is_rtx, log_of, refused, version

if TYPE_CHECKING:
    import tensorrt

RTX_TARGETS = ("SM80", "SM86", "SM89", "SM120")
"""What an ahead-of-time build covers; SM75 is built when asked for, nearly twice as large."""

_REMEDY = "Check the model with `qadtr-edge export --engine ort`, or build with another version."
_OF_MEMORY = ("OutOfMemory", "within workspace limit")
_MEBIBYTE = 1 << 20


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
    check(trt, options)
    config = builder.create_builder_config()
    _configure(trt, config, options=options)
    _add_profile(builder, network, config=config, batch=options.batch)
    if options.dla_core is not None and options.dla_core >= getattr(builder, "num_DLA_cores", 0):
        raise Unsupported(
            f"There is no DLA core {options.dla_core} for {version(trt)} here.",
            "Build for the GPU: leave --dla-core out.",
        )
    on_gpu = _place_on_dla(trt, network, config=config, core=options.dla_core)
    _load_timings(config, options.timing_cache)
    content = builder.build_serialized_network(network, config)
    if content is None or log.errors:
        raise refused(trt, f"build {model.name}", log=log, remedy=_remedy(log, options))
    if options.timing_cache is not None:
        write_bytes(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return Plan(bytes(content), tuple(dict.fromkeys(log.warnings)), on_gpu)


def _remedy(log: Log, options: Options) -> str:
    """What helps a build that was refused: what it lacked, where it says so."""
    if options.is_version_compatible and any("lean" in line for line in log.errors):
        return "This package brings no lean runtime: leave --version-compatible out."
    if not any(words in line for line in log.errors for words in _OF_MEMORY):
        return _REMEDY
    held, (*_, most) = options.workspace_mebibytes, options.batch
    return (
        f"It may plan with {held} MiB for {most} images: give more, --workspace {4 * held}, or "
        f"fewer images, --batch-profile 1,{max(most // 16, 1)},{max(most // 8, 1)}."
    )


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
        config.hardware_compatibility_level = member(
            trt, trt.HardwareCompatibilityLevel, name=options.hardware
        )
    if options.is_version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if is_rtx(trt):
        chosen = options.compute_capabilities or targets_here()
        config.num_compute_capabilities = len(chosen)
        for index, name in enumerate(chosen):
            config.set_compute_capability(member(trt, trt.ComputeCapability, name=name), index)


def targets_here() -> tuple[str, ...]:
    """What TensorRT-RTX builds for unless told: the GPU here, or without one ``RTX_TARGETS``."""
    return ("CURRENT",) if provenance.has_nvidia_driver() else RTX_TARGETS


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
