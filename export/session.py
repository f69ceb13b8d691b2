"""Opening onnxruntime sessions: every option set on purpose, every refusal made a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from qadtr_edge.errors import BadInput, EngineFailed, MissingDependency
from qadtr_edge.types import Json

if TYPE_CHECKING:
    import onnxruntime

PROVIDER = "CPUExecutionProvider"
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
X64_QUANT_PRECISION = "session.x64quantprecision"


def options(
    *, threads: int, x64_quant_precision: bool = False, provider: str = PROVIDER
) -> dict[str, Json]:
    """Every option a session is opened with, by onnxruntime's own names.

    - Level ALL: below EXTENDED, Q/DQ files run as float simulation; ALL adds the NHWC layout.
    - Spinning keeps workers awake between the layers of a call; with one thread there are none.
    - ``x64_quant_precision`` makes CPUs without VNNI accumulate exactly; elsewhere it costs 2x.
    - Another ``provider`` gets all of the model or none: nothing falls back to the CPU.
    """
    return {
        "graph_optimization_level": "ORT_ENABLE_ALL",
        "execution_mode": "ORT_SEQUENTIAL",
        "intra_op_num_threads": threads,
        "inter_op_num_threads": 1,
        "session.intra_op.allow_spinning": "1" if threads > 1 else "0",
        X64_QUANT_PRECISION: "1" if x64_quant_precision else "0",
        "session.disable_cpu_ep_fallback": "0" if provider == PROVIDER else "1",
        "provider": provider,
    }


def open_session(
    model: bytes, chosen: Mapping[str, Json], *, path: Path, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session over the bytes of ``path``; with ``profile``, one that records what it executes.

    Raises ``BadInput`` for bytes that are no model, ``EngineFailed`` for a model that onnxruntime
    refuses, and where the provider that was asked for is not the one that would run it.
    """
    ort = runtime()
    provider = str(chosen["provider"])
    there = ort.get_available_providers()
    if provider not in there:
        raise EngineFailed(
            f"This onnxruntime has no {provider}; it has {', '.join(there)}.",
            "Install the onnxruntime package that brings it, or run on the CPU.",
        )
    made = ort.SessionOptions()
    made.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, str(chosen["graph_optimization_level"])
    )
    made.execution_mode = getattr(ort.ExecutionMode, str(chosen["execution_mode"]))
    made.intra_op_num_threads = chosen["intra_op_num_threads"]
    made.inter_op_num_threads = chosen["inter_op_num_threads"]
    made.log_severity_level = 4  # what fails is raised; a warning printed by C++ helps nobody
    made.add_session_config_entry(_EXTERNAL_FOLDER, str(path.resolve().parent))
    for name, value in chosen.items():
        if name.startswith("session."):
            made.add_session_config_entry(name, str(value))
    if profile is not None:
        made.enable_profiling = True
        made.profile_file_prefix = str(profile)
    with explained(path):
        session = ort.InferenceSession(model, made, providers=[provider])
    if session.get_providers()[0] != provider:  # it lists providers whose libraries do not load
        raise EngineFailed(
            f"onnxruntime would run {path} on {session.get_providers()[0]} in place of {provider}.",
            "Install the libraries that the provider needs, in the versions it was built for.",
        )
    return session


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns onnxruntime's exceptions about the model at ``path`` into a sentence for the user."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    unreadable = (state.InvalidProtobuf, state.NoSuchFile, state.NoModel)
    refused = (
        state.InvalidGraph, state.NotImplemented, state.Fail, state.InvalidArgument,
        state.RuntimeException, state.EPFail,
    )  # fmt: skip
    try:
        yield
    except unreadable as error:
        raise BadInput(
            f"{path} is not a readable ONNX model: it is damaged or incomplete.",
            "Write it again with `qadtr-edge export`.",
        ) from error
    except refused as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise EngineFailed(
            f"onnxruntime refuses {path}: {reason}",
            "Write it again with `qadtr-edge export`, or check that its operators are supported.",
        ) from error


def version() -> str:
    """The runtime that answers: package and version."""
    return f"onnxruntime {runtime().__version__}"


def runtime() -> ModuleType:
    """The onnxruntime package. Raises ``MissingDependency`` where it is not installed."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependency("onnxruntime", "ort", purpose="The engine ort") from error
