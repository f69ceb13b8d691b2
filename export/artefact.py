"""The ONNX file that already ships, on onnxruntime's CPU provider, untouched.

Pixels are brought to the file's input as its preprocessing says; leading outputs that are no class
are left out. Everything else is the file's and the runtime's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import files
from qadtr_edge.data.preprocess import Preprocess
from qadtr_edge.errors import EngineFailed, QadtrError, Unsupported
from qadtr_edge.types import FLOAT_BITS, EngineFacts, Json, Pixels

from . import observe, reader, reader_file
from . import session as sessions
from .calls import Opened, check_images, closed
from .facts import Origin
from .parity import exposed
from .reader_input import Form, contract

if TYPE_CHECKING:
    import onnx

INT8_ALLOWED = "session.qdqisint8allowed"
"""onnxruntime leaves it off on x86, where layers of signed 8-bit Q/DQ files then run in float."""

Outputs = list[NDArray[np.generic]]

_KINDS = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


class OrtArtefact(Opened):
    """An ONNX classifier as it ships.

    ``image``: (3, H, W) of the pixels it takes; ``classes``: its outputs that are classes.
    ``values``: ONNX values to look at, of the file or of ``nodes`` put behind it; the first is
    answered with in place of the output.
    """

    def __init__(
        self, artefact: Path | str, *, preprocess: Preprocess | None = None, threads: int = 1,
        values: tuple[str, ...] = (), nodes: Sequence[onnx.NodeProto] = (),
    ) -> None:  # fmt: skip
        self.path = Path(artefact)
        sessions.runtime()
        model = reader_file.parsed(self.path)
        beside = reader_file.external_files(model, self.path)
        self._told = preprocess
        own: dict[str, Json] = {INT8_ALLOWED: "1"}
        if beside:
            own["external data"] = [files.digest(path) for path in beside]
        self._options = sessions.options(threads=threads) | own
        content = self.path.read_bytes() if not values else exposed(self.path, values, nodes=nodes)
        session = sessions.open_session(content, self._options, path=self.path)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or not outputs:
            raise Unsupported(
                f"{self.path} has {len(inputs)} inputs; a classifier of images has one.",
                "Cut out the classifier.",
            )
        self._input = str(inputs[0].name)
        self._outputs = values or (str(outputs[0].name),)
        self._run: Callable[..., Outputs] = session.run
        kind = _KINDS.get(inputs[0].type, inputs[0].type)
        dims = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)
        self._contract = contract(Form(self.path, kind, dims), preprocess)
        self._options["preprocess"] = self._contract.preprocess.digest
        self._kind = np.dtype(kind)
        self.image = (3, *self._contract.size)
        self._facts: EngineFacts | None = None
        outputs_of_one = self._answers(np.zeros((1, *self.image), np.uint8)).shape[1]
        self._offset = self._contract.class_offset(outputs_of_one)
        self.classes = outputs_of_one - self._offset
        if self.classes < 2:
            raise Unsupported(f"{self.path} has one output, which is no classifier.", "Check it.")

    @property
    def facts(self) -> EngineFacts:
        """Observed here and now, by one profiled run."""
        if self._facts is None:
            self._facts = self._observed()
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        check_images(self.path, self.image, images=images)
        logits = self._answers(images)[:, self._offset :]
        if not np.isfinite(logits).all():
            raise EngineFailed(
                f"{self.path} answered with values that are not numbers.",
                "Check the preprocessing file and the model.",
            )
        return logits

    def held(self, images: Pixels) -> dict[str, NDArray[np.generic]]:
        """All of ``values`` by name, as the file holds them for ``images``."""
        size = self._contract.batch or max(len(images), 1)
        parts = [
            self._run(self._outputs, {self._input: self._fed(images[start : start + size])})
            for start in range(0, len(images), size)
        ]
        joined = [np.concatenate(part)[: len(images)] for part in zip(*parts, strict=True)]
        return dict(zip(self._outputs, joined, strict=True))

    def close(self) -> None:
        self._run = self._closed  # the session goes with its last reference

    def _closed(self, *_: object) -> Outputs:
        raise closed(self.path)

    def _answers(self, images: Pixels) -> NDArray[np.float32]:
        """All outputs ``(N, K) float32``; a file of a fixed batch is run batch by batch."""
        size = self._contract.batch or max(len(images), 1)
        parts = [self._batch(images[start : start + size]) for start in range(0, len(images), size)]
        if not parts:
            return np.empty((0, self._offset + self.classes), np.float32)
        return np.concatenate(parts)

    def _batch(self, images: Pixels) -> NDArray[np.float32]:
        count = len(images)
        with sessions.explained(self.path):
            answer = self._run(self._outputs[:1], {self._input: self._fed(images)})[0]
        if answer.dtype.kind not in "fiu" or answer.size % max(self._contract.batch or count, 1):
            raise EngineFailed(
                f"{self.path} answered with {answer.dtype} {answer.shape}.", "Use a classifier."
            )
        rows = answer.reshape(self._contract.batch or count, -1)[:count]
        return np.ascontiguousarray(rows, np.float32)

    def _fed(self, images: Pixels) -> NDArray[np.generic]:
        """What the file reads of ``images``; black ones fill a fixed batch."""
        missing = (self._contract.batch or len(images)) - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *self.image), np.uint8)])
        return self._contract.preprocess(images).astype(self._kind, copy=False)

    def _observed(self) -> EngineFacts:
        blank = self._fed(np.zeros((self._contract.batch or 1, *self.image), np.uint8))
        ran = observe.kernels(self.path, blank, options=self._options, feed=self._input)
        return observe.facts(self.path, ran, options=self._options, origin=self._origin())

    def _origin(self) -> Origin:
        """The width of the values, where the file can be read; what a report must say of it."""
        notes = [f"opened with {INT8_ALLOWED}=1, which onnxruntime leaves off on x86"]
        if self._offset:
            outputs = self.classes + self._offset
            notes.append(f"outputs that are no class are left out: {self._offset} of {outputs}")
        try:
            bits = reader.lower(self.path, preprocess=self._told).graph.spec.bits
        except QadtrError as error:
            kinds = {node.op_type for node in reader_file.parsed(self.path).graph.node}
            is_quantized = any("Quantize" in kind or "QLinear" in kind for kind in kinds)
            bits = 8 if is_quantized else FLOAT_BITS
            notes.append(f"it could not be read as an integer graph: {error.fact.rstrip('.')}")
        return Origin(layers=(), bits=bits, notes=tuple(notes))
