"""``qadtr-edge doctor``: which engines, devices and kernels work here; what mends the others."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from .. import console, provenance, registry
from . import doctor_here, options
from .doctor_here import State, no_driver


@dataclass(frozen=True)
class Need:
    """What an engine is made of: packages (import name, distributions), the extra, and a device.

    ``instead``: import name of a package that serves as well. ``builds``: one of these that builds
    engines without the device.
    """

    module: str
    distributions: tuple[str, ...]
    extra: str
    device: str | None = None
    instead: str | None = None
    builds: str | None = None


NEEDS = {
    "ort": Need("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "ort"),
    "trt": Need(
        "tensorrt",
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx"),
        "trt",
        "nvidia",
        instead="tensorrt_rtx",
        builds="tensorrt_rtx",
    ),
    "openvino": Need("openvino", ("openvino",), "openvino"),
    "litert": Need("ai_edge_litert", ("ai-edge-litert",), "litert"),
}

TOOLS = {  # what the verbs need besides an engine
    "train": Need("torch", ("torch",), "train"),
    "export": Need("onnx", ("onnx",), "onnx"),
    "intervals": Need("scipy", ("scipy",), "train"),
    "pictures": Need("PIL", ("pillow",), "train"),
    "report": Need("jinja2", ("jinja2",), "report"),
    "figures": Need("matplotlib", ("matplotlib",), "report"),
    "bench --scenario": Need("mlperf_loadgen", ("mlcommons-loadgen",), "loadgen"),
    "train --tensorboard": Need("tensorboard", ("tensorboard",), "tensorboard"),
}


def doctor(*, json: options.JsonFlag = False) -> None:
    """Say which engines, devices and kernels work here, and what to do about the others."""
    engines = {
        name: engine_state(name) for name in dict.fromkeys([*registry.names("engine"), *NEEDS])
    }
    tools = {name: state_of(need) for name, need in TOOLS.items()}
    devices = doctor_here.devices()
    kernels = doctor_here.kernels(devices["cuda"])
    hints = cpu_hints(platform.machine(), provenance.cpu_flags())
    if json:
        console.print_json(
            {
                "engines": {name: state.as_json() for name, state in engines.items()},
                "tools": {name: state.as_json() for name, state in tools.items()},
                "devices": {name: state.as_json() for name, state in devices.items()},
                "kernels": {name: state.as_json() for name, state in kernels.items()},
                "device": provenance.device(),
                "versions": provenance.versions(),
                "hints": hints,
            }
        )
        return
    console.print_table(
        ["engine", "here", "version", "why not", "remedy"], _rows(engines), title="Engines"
    )
    console.print_table(
        ["for", "here", "version", "why not", "remedy"], _rows(tools), title="Tools"
    )
    console.print_table(
        ["device", "here", "which", "why not", "remedy"], _rows(devices), title="Devices"
    )
    console.print_table(
        ["kernel", "here", "compiler", "why not", "remedy"], _rows(kernels), title="Kernels"
    )
    device = provenance.device()
    console.answer(f"{device['cpu']}, {device['cores']} cores, {device['platform']}")
    for hint in hints:
        console.answer(hint)


def engine_state(name: str) -> State:
    """Whether engine ``name`` can run here. An engine of another package answers for itself."""
    if name not in (*registry.names("engine"), *registry.names("artefact")):
        return State(
            available=False,
            reason="this version has no adapter for it yet",
            remedy="use one of: " + ", ".join(registry.names("engine")),
        )
    if name not in NEEDS:
        return State(available=True, version="added by another package")
    return state_of(NEEDS[name])


def state_of(need: Need) -> State:
    """Whether the packages, and the device if one is needed, are here. Imports nothing."""
    if all(find_spec(name) is None for name in filter(None, (need.module, need.instead))):
        return State(
            available=False,
            reason=f"the package {need.module} is not installed",
            remedy=f"pip install 'qadtr-edge[{need.extra}]'",
        )
    found = _version(need.distributions)
    if need.device == "nvidia" and not provenance.has_nvidia_driver():
        absent = no_driver(found)
        if need.builds is None or find_spec(need.builds) is None:
            return absent
        return replace(absent, reason=f"it builds here; {absent.reason}")
    return State(available=True, version=found)


def cpu_hints(machine: str, flags: frozenset[str]) -> list[str]:
    """What the instruction set means for integer results on this machine."""
    if flags & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return ["This CPU has VNNI: 8-bit products accumulate exactly in int32."]
    if machine in {"x86_64", "AMD64"} and "avx2" in flags:
        return [
            "This CPU has AVX2 without VNNI: onnxruntime adds pairs of 8-bit products in int16, "
            "which saturates when weights and activations use all 8 bits. Models trained here keep "
            "clear of it; for others build the engine with session.x64quantprecision."
        ]
    if machine in {"aarch64", "arm64"} and flags and "asimddp" not in flags:
        return ["This CPU has no dot-product instructions: expect int8 to gain less over float."]
    return []


def _rows(states: dict[str, State]) -> list[list[str]]:
    return [
        [
            name,
            "yes" if state.available else "no",
            state.version or "-",
            state.reason or "-",
            state.remedy or "-",
        ]
        for name, state in states.items()
    ]


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
