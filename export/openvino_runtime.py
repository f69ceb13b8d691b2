"""Opening OpenVINO models: every option set on purpose, every refusal made a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from qadtr_edge.errors import BadInput, EngineFailed, MissingDependency
from qadtr_edge.types import Json

if TYPE_CHECKING:
    import openvino

Hint = Literal["latency", "throughput"]

_PLACES = re.compile(r"Exception from |Check '.*' failed at |While validating ")
"""Lines of OpenVINO's errors that tell only where in its source they were raised."""

DEVICE = "CPU"
BATCH = "batch"


def options(*, threads: int, hint: Hint = "latency", batch: int | None = None) -> dict[str, Json]:
    """Every option a model is compiled with, by OpenVINO's own names, and the ``batch`` size.

    - One stream answers a call with all threads; for throughput each thread is a stream.
    - Precision f32: on CPUs that have bfloat16, what is left in float would silently run in it.
    - No pinning: processes that share a machine would be pinned to the same cores.
    - ``batch``: ``None`` leaves it open, which costs small models time at small batches.
    """
    if threads < 1 or (batch is not None and batch < 1):
        raise BadInput(
            f"{threads} threads and batches of {batch} were asked for.", "Ask for 1 or more."
        )
    return {
        "PERFORMANCE_HINT": hint.upper(),
        "NUM_STREAMS": threads if hint == "throughput" else 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
        BATCH: batch,
    }


def compiled(
    model: openvino.Model, chosen: Mapping[str, Json], *, path: Path
) -> openvino.CompiledModel:
    """``model`` of the file at ``path``, ready to run under the options ``chosen``.

    Names in capitals are OpenVINO's; others are ours, of which the ``batch`` is set here.
    Raises ``EngineFailed`` for a model that OpenVINO refuses.
    """
    batch = chosen[BATCH]
    own = {name: value for name, value in chosen.items() if name.isupper()}
    with _explained(path, EngineFailed):
        if batch is not None:
            model.reshape({0: [batch, *list(model.inputs[0].get_partial_shape())[1:]]})
        return core().compile_model(model, DEVICE, own)


def parsed(content: bytes | Path, path: Path) -> openvino.Model:
    """The model in the bytes of ``path``, or in the file, which may keep its data beside it.

    Raises ``BadInput`` for what is no model.
    """
    with _explained(path, BadInput):
        return core().read_model(content)


def reveal(model: openvino.Model, tensors: Sequence[str], *, path: Path) -> tuple[str, ...]:
    """Makes those of ``tensors`` that ``model`` names further outputs; returns their names."""
    named = {
        name for node in model.get_ordered_ops() for out in node.outputs() for name in out.names
    }
    found = tuple(name for name in tensors if name in named)
    with _explained(path, EngineFailed):
        model.add_outputs(list(found))
    return found


def property_of(model: openvino.Model, name: str) -> str | None:
    """A metadata property of the ONNX file; ``None`` where it has none of that name."""
    place = ["framework", name]
    return str(model.get_rt_info(place).value) if model.has_rt_info(place) else None


@contextmanager
def _explained(path: Path, kind: type[BadInput] | type[EngineFailed]) -> Iterator[None]:
    """Turns OpenVINO's exceptions about the model at ``path`` into a sentence for the user."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        said = " ".join(line for line in lines if line and not _PLACES.match(line))
        raise kind(
            f"OpenVINO refuses {path}: {said[:300]}",
            "Write it again with `qadtr-edge export`, or check that its operators are supported.",
        ) from error


def version() -> str:
    """The runtime that answers: package and version."""
    return f"openvino {runtime().__version__}"


@lru_cache(maxsize=1)
def core() -> openvino.Core:
    """The one OpenVINO core of this process: it holds the plugins."""
    return runtime().Core()


def runtime() -> ModuleType:
    """The openvino package. Raises ``MissingDependency`` where it is not installed."""
    try:
        return import_module("openvino")
    except ImportError as error:
        raise MissingDependency("openvino", "openvino", purpose="The engine openvino") from error
