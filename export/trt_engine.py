"""Running a TensorRT engine: named tensors, page-locked buffers, two batches under way at once.

Batch k+1 is copied in while batch k computes: each of two slots has its own stream, context and
buffers. Pixels enter as the engine's input type says: int8 codes (the byte less 128) or bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qadtr_edge import provenance, registry
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.types import EngineFacts, Pixels

from . import facts as facts_file
from . import trt_inspect, trt_runtime
from .calls import check_images, check_logits, closed, content_of
from .onnx_file import OUTPUT
from .trt_form import INPUT_ZERO_POINT

if TYPE_CHECKING:
    import tensorrt

MODEL, ENGINE = "model.onnx", "model.engine"
SLOTS = 2
_PLANS = {".engine", ".plan", ".trt"}


class Stream(Protocol):
    """What is used of ``kernels.memory.Stream``."""

    @property
    def handle(self) -> int: ...

    def copy_in(self, address: int, host: NDArray[np.generic]) -> None: ...

    def copy_out(self, host: NDArray[np.generic], address: int) -> None: ...

    def wait(self) -> None: ...


class Device(Protocol):
    """What is used of ``kernels.memory.Device``."""

    facts: dict[str, str]

    def allocate(self, size_bytes: int) -> int: ...

    def pinned(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[np.generic]: ...

    def stream(self) -> Stream: ...

    def close(self) -> None: ...


def open_device() -> Device:
    """The first GPU. Raises ``EngineFailed`` where there is none."""
    return cast(Callable[[], Device], registry.resolve("device memory", "cuda"))()


def gpu_here() -> dict[str, str]:
    """Facts of the GPU an engine is built for; empty where there is none."""
    if not provenance.has_nvidia_driver():
        return {}
    device = open_device()
    try:
        return dict(device.facts)
    finally:
        device.close()


@dataclass(frozen=True)
class Tensor:
    """One input or output of an engine. ``shape`` leaves out N."""

    name: str
    shape: tuple[int, ...]
    kind: np.dtype[np.generic]

    def size_bytes(self, batch: int) -> int:
        return batch * int(np.prod(self.shape)) * self.kind.itemsize


class _Slot:
    """One context with its buffers and stream; at most one batch under way."""

    def __init__(
        self, engine: tensorrt.ICudaEngine, device: Device, *, image: Tensor,
        answers: Sequence[Tensor], batch: int,
    ) -> None:  # fmt: skip
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineFailed("The GPU has no memory left for the engine.", "Use a smaller batch.")
        self._image = image
        self._stream = device.stream()
        self._fed = device.pinned((batch, *image.shape), image.kind)
        self._fed_at = device.allocate(image.size_bytes(batch))
        self._context.set_tensor_address(image.name, self._fed_at)
        self.answers: dict[str, NDArray[np.generic]] = {}
        self._answers_at: dict[str, int] = {}
        for tensor in answers:
            self.answers[tensor.name] = device.pinned((batch, *tensor.shape), tensor.kind)
            self._answers_at[tensor.name] = device.allocate(tensor.size_bytes(batch))
            self._context.set_tensor_address(tensor.name, self._answers_at[tensor.name])
        self.busy: slice | None = None

    def start(self, images: Pixels, *, size: int) -> None:
        """Queues ``images``, filled up with blank ones to ``size``."""
        fed = self._fed[:size]
        codes = fed.view(np.uint8)
        if self._image.kind == np.int8:
            np.bitwise_xor(images, np.uint8(INPUT_ZERO_POINT), out=codes[: len(images)])
        else:
            codes[: len(images)] = images
        fed[len(images) :] = 0
        if not self._context.set_input_shape(self._image.name, (size, *self._image.shape)):
            raise EngineFailed(f"The engine refuses {size} images.", "Build it for that batch.")
        self._stream.copy_in(self._fed_at, fed)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineFailed("TensorRT failed to run the engine.", "Build it again on this GPU.")
        for name, host in self.answers.items():
            self._stream.copy_out(host[:size], self._answers_at[name])

    def wait(self) -> None:
        self._stream.wait()


class TrtEngine:
    """An engine on an NVIDIA GPU: ``model.engine`` beside the ONNX file named, or a plan itself.

    ``threads`` is accepted as of every engine; a GPU has no use for it.
    """

    def __init__(self, artefact: Path | str, *, threads: int = 1) -> None:
        self.path = Path(artefact)
        self._plan_path = self.path if self.path.suffix in _PLANS else self.path.parent / ENGINE
        trt = trt_runtime.runtime()
        plan = content_of(self._plan_path)
        if not provenance.has_nvidia_driver():
            raise EngineFailed(
                f"{self._plan_path} was built but cannot run here: there is no NVIDIA driver.",
                "Run it on a machine with the GPU it was built for, or use --engine ort.",
            )
        self._digest = hashlib.sha256(plan).hexdigest()
        self._trt, self._log = trt, trt_runtime.log_of(trt)
        self._device = open_device()
        try:
            self._engine = trt_runtime.deserialized(
                trt, plan, path=self._plan_path, log=self._log
            )  # fmt: skip
            self._image, self._answers = _tensors(trt, self._engine, path=self._plan_path)
            self._range = _batches(self._engine, self._image)
            self._facts = self._observed()
            self._slots = [self._slot() for _ in range(SLOTS)]
        except BaseException:
            self._device.close()
            raise

    def _slot(self) -> _Slot:
        return _Slot(
            self._engine, self._device, image=self._image, answers=self._answers,
            batch=self._range[1],
        )  # fmt: skip

    @property
    def facts(self) -> EngineFacts:
        """Read off the engine by its inspector; of ``facts.json`` only ``origin`` counts."""
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        logits = self.outputs(images)[self._answers[0].name].astype(np.float32, copy=False)
        check_logits(self.path, logits)
        return logits

    def outputs(self, images: Pixels) -> dict[str, NDArray[np.generic]]:
        """Every output of the engine by name, ``(N, …)``; the first is the logits."""
        if not self._slots:
            raise closed(self.path)
        depth, height, width = self._image.shape
        check_images(self.path, (depth, height, width), images=images)
        found = {t.name: np.empty((len(images), *t.shape), t.kind) for t in self._answers}
        low, high = self._range
        for number, start in enumerate(range(0, len(images), high)):
            slot = self._slots[number % len(self._slots)]
            _collect(slot, found)
            part = images[start : start + high]
            slot.start(part, size=max(len(part), low))
            slot.busy = slice(start, start + len(part))
        for slot in self._slots:
            _collect(slot, found)
        return found

    def close(self) -> None:
        if self._slots:
            self._slots = []  # contexts go before the engine, the engine before its memory
            del self._engine
            self._device.close()

    def __enter__(self) -> TrtEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _observed(self) -> EngineFacts:
        origin = facts_file.origin_of(self._plan_path, digest=self._digest, bits=8)
        inspector = self._engine.create_engine_inspector()
        told = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        weighed = trt_inspect.weigh(
            trt_inspect.seen(told, layers=origin.layers), layers=origin.layers
        )
        recorded = facts_file.read(self._plan_path.parent)
        return EngineFacts(
            engine="trt", runtime=trt_runtime.version(self._trt), bits=origin.bits,
            precision=weighed.precision, integer_kernels=weighed.integer_kernels,
            float_layers=weighed.float_layers, digest=self._digest,
            options=recorded.facts.options if recorded is not None else {},
            device={**provenance.device(), **self._device.facts},
            notes=(*weighed.notes, *origin.notes, *dict.fromkeys(self._log.warnings)),
        )  # fmt: skip


def _collect(slot: _Slot, found: dict[str, NDArray[np.generic]]) -> None:
    """Waits for the batch under way in ``slot`` and puts its answers where they belong."""
    if slot.busy is None:
        return
    slot.wait()
    for name, host in slot.answers.items():
        found[name][slot.busy] = host[: slot.busy.stop - slot.busy.start]
    slot.busy = None


def _tensors(
    trt: ModuleType, engine: tensorrt.ICudaEngine, *, path: Path
) -> tuple[Tensor, list[Tensor]]:
    """The one input (3, H, W), and the outputs, the logits first.

    Raises ``BadInput`` for an engine that is no classifier of 8-bit images.
    """
    images: list[Tensor] = []
    answers: list[Tensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        made = Tensor(name, shape[1:], np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (images if is_input else answers).append(made)
    answers.sort(key=lambda tensor: tensor.name != OUTPUT)
    match images:
        case [Tensor(shape=(3, int(), int()), kind=kind) as image] if (
            kind in (np.int8, np.uint8) and answers
        ):
            return image, answers
    described = ", ".join(f"{t.name} {t.kind} (N, {', '.join(map(str, t.shape))})" for t in images)
    raise BadInput(
        f"{path} does not take 8-bit images (N, 3, H, W) as its one input; it takes {described}.",
        "Use an engine made by `qadtr-edge export --engine trt`.",
    )


def _batches(engine: tensorrt.ICudaEngine, image: Tensor) -> tuple[int, int]:
    """Fewest and most images of one call; equal where the engine has a fixed batch."""
    count, *_ = engine.get_tensor_shape(image.name)
    if count != -1:
        return count, count
    (low, *_), _, (high, *_) = engine.get_tensor_profile_shape(image.name, 0)
    return low, high
