"""Running a TensorRT engine: named tensors, page-locked buffers, two batches under way at once.

Batch k+1 is copied in while batch k computes: each of two slots has its own stream, context and
buffers. Pixels enter as the engine's input type says: int8 codes (the byte less 128) or bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import provenance, registry
from qadtr_edge.answered import PixelsOf
from qadtr_edge.errors import BadInput, EngineFailed, MissingDependency
from qadtr_edge.types import EngineFacts, Pixels, Placements

from . import facts as facts_file
from . import trt_inspect, trt_runtime
from .calls import Opened, check_images, check_logits, closed, content_of
from .onnx_file import OUTPUT
from .trt_paste import GpuPaste, Unit
from .trt_slot import Device, Slot, Tensor

if TYPE_CHECKING:
    import tensorrt

MODEL, ENGINE = "model.onnx", "model.engine"
SLOTS = 2
Part = tuple[slice, int]
"""Which images go into a call, and how many images that call takes."""
_PLANS = {".engine", ".plan", ".trt"}


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


class TrtEngine(Opened):
    """An engine on an NVIDIA GPU: ``model.engine`` beside the ONNX file named, or a plan itself.

    ``threads`` is accepted as of every engine; a GPU has no use for it. ``launch``: a call as one
    CUDA graph, where it can be one and gives the same answers, or kernel by kernel.
    """

    def __init__(
        self, artefact: Path | str, *, threads: int = 1,
        launch: Literal["graph", "one by one"] = "graph",
    ) -> None:  # fmt: skip
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
            refusal = None if launch == "graph" else "as asked"
            self._slots = [self._slot(refusal) for _ in range(SLOTS)]
            self._paste = GpuPaste(self._device, self._image, batch=self._range[1])
        except BaseException:
            self._device.close()
            raise

    def _slot(self, refusal: str | None) -> Slot:
        return Slot(
            self._engine, self._device, image=self._image, answers=self._answers,
            batch=self._range[1], refusal=refusal,
        )  # fmt: skip

    @property
    def facts(self) -> EngineFacts:
        """Read off the engine by its inspector; of ``facts.json`` only ``origin`` counts.

        A refused CUDA graph, or paste kernel, is among the notes from the call on that met it.
        """
        told = [f"launched one by one: {s.refusal.rstrip('.')}" for s in self._slots if s.refusal]
        notes = (*self._facts.notes, *dict.fromkeys(told), *self._paste.notes)
        return replace(self._facts, notes=notes)

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        return self._logits(self.outputs(images))

    def pasted(
        self, images: Pixels, pixels: PixelsOf, *, mask: NDArray[np.bool_], placements: Placements
    ) -> NDArray[np.float32] | None:
        """As ``answered.Pasting`` has it: by the kernel, which writes where the engine reads.

        ``None`` where it cannot be had or was seen to write other bytes than the host: a note says
        so, and it is not tried again.
        """
        parts = self._parts(images)
        if self._paste.refusal is not None:
            return None
        unit = Unit(images, pixels, mask, placements)
        try:
            found = self._answered(
                parts, lambda slot, rows, size: self._paste.start(slot, unit, rows=rows, size=size)
            )
        except (EngineFailed, MissingDependency) as error:
            self._paste.refusal = error.fact
            return None
        return self._logits(found)

    def outputs(self, images: Pixels) -> dict[str, NDArray[np.generic]]:
        """Every output of the engine by name, ``(N, …)``; the first is the logits."""
        return self._answered(
            self._parts(images), lambda slot, rows, size: slot.start(images[rows], size=size)
        )

    def _answered(
        self, parts: Sequence[Part], start: Callable[[Slot, slice, int], None]
    ) -> dict[str, NDArray[np.generic]]:
        """Every output by name: each part is started on the slot whose turn it is."""
        count = parts[-1][0].stop if parts else 0
        found = {t.name: np.empty((count, *t.shape), t.kind) for t in self._answers}
        try:
            for (rows, size), slot in zip(parts, cycle(self._slots), strict=False):
                _collect(slot, found)
                start(slot, rows, size)
                slot.busy = rows
            for slot in self._slots:
                _collect(slot, found)
        except BaseException:
            for slot in self._slots:  # what is left under way is of no later call
                slot.abandon()
            raise
        return found

    def _logits(self, found: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        logits = found[self._answers[0].name].astype(np.float32, copy=False)
        check_logits(self.path, logits)
        return logits

    def device_ms(self, images: Pixels) -> float:
        """Milliseconds the GPU computes on these images; copies and the host's part are not in."""
        return sum(
            self._slots[0].device_ms(images[p], size=size) for p, size in self._parts(images)
        )

    def _parts(self, images: Pixels) -> list[Part]:
        """What of ``images`` goes into each call, and how many images that call takes."""
        if not self._slots:
            raise closed(self.path)
        depth, height, width = self._image.shape
        check_images(self.path, (depth, height, width), images=images)
        low, high = self._range
        starts = range(0, len(images), high)
        ends = [min(start + high, len(images)) for start in starts]
        return [(slice(a, b), max(b - a, low)) for a, b in zip(starts, ends, strict=True)]

    def close(self) -> None:
        if self._slots:
            self._paste.close()
            for slot in self._slots:
                slot.close()
            self._slots = []  # contexts go before the engine, the engine before its memory
            del self._engine
            self._device.close()

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


def _collect(slot: Slot, found: dict[str, NDArray[np.generic]]) -> None:
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
