"""The ONNX file that already ships, on OpenVINO's CPU plugin, untouched.

Pixels are brought to the file's input as its preprocessing says; leading outputs that are no class
are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import files
from qadtr_edge.data.preprocess import Preprocess
from qadtr_edge.errors import EngineFailed, QadtrError, Unsupported
from qadtr_edge.types import FLOAT_BITS, EngineFacts, Parity, Pixels

from . import openvino_observe, parity, reader, reader_file
from . import openvino_runtime as runtime
from .calls import Opened, check_images, check_logits, closed, content_of
from .facts import Origin
from .parity import OnBatch, Revealed, unheard
from .reader_input import Form, contract

_KINDS = {"f32": "float32", "u8": "uint8", "i8": "int8"}


class OpenVinoArtefact(Opened):
    """An ONNX classifier as it ships.

    ``image``: (3, H, W) of the pixels it takes; ``classes``: its outputs that are classes.
    ``value``: an ONNX value that is answered with in place of the output.
    """

    def __init__(
        self, artefact: Path | str, *, preprocess: Preprocess | None = None, threads: int = 1,
        value: str | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(artefact)
        runtime.runtime()
        content = content_of(self.path)
        beside = reader_file.external_files(reader_file.parsed(self.path), self.path)
        model = runtime.parsed(self.path if beside else content, self.path)
        if len(model.inputs) != 1:
            raise Unsupported(
                f"{self.path} has {len(model.inputs)} inputs; a classifier of images has one.",
                "Cut out the classifier.",
            )
        kind = model.inputs[0].element_type.get_type_name()
        dims = [d.get_length() if d.is_static else None for d in model.inputs[0].partial_shape]
        self._told = preprocess
        agreed = contract(Form(self.path, _KINDS.get(kind, kind), tuple(dims)), preprocess)
        self._preprocess, self._batch = agreed.preprocess, agreed.batch
        self._kind = np.dtype(_KINDS[kind])
        self.image = (3, *agreed.size)
        self._options = runtime.options(threads=threads, batch=agreed.batch)
        self._options["preprocess"] = self._preprocess.digest
        if beside:
            self._options["external data"] = [files.digest(path) for path in beside]
        shown = runtime.reveal(model, [value], path=self.path) if value else ()
        if value and not shown:
            raise Unsupported(f"{self.path} shows OpenVINO no value {value!r}.", "Check the file.")
        self._output = len(model.outputs) - 1 if value else 0
        self._compiled = runtime.compiled(model, self._options, path=self.path)
        self._request = self._compiled.create_infer_request()
        outputs = self._answers(np.zeros((1, *self.image), np.uint8)).shape[1]
        self._offset = agreed.class_offset(outputs)
        self.classes = outputs - self._offset
        if self.classes < 2:
            raise Unsupported(f"{self.path} has one output, which is no classifier.", "Check it.")
        self._facts: EngineFacts | None = None

    @property
    def facts(self) -> EngineFacts:
        """Read off the compiled model."""
        if self._facts is None:
            ran = openvino_observe.kernels(self._compiled, ())
            self._facts = openvino_observe.facts(
                self.path, ran, options=self._options, origin=self._origin()
            )
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        if self._request is None:
            raise closed(self.path)
        check_images(self.path, self.image, images=images)
        if not len(images):
            return np.empty((0, self.classes), np.float32)
        logits = self._answers(images)[:, self._offset :]
        check_logits(self.path, logits)
        return logits

    def close(self) -> None:
        self._request = None

    def _answers(self, images: Pixels) -> NDArray[np.float32]:
        """All outputs ``(N, K) float32``; black images fill the last fixed batch."""
        size = self._batch or len(images)
        blank = np.zeros((-len(images) % size, *self.image), np.uint8)
        whole = np.concatenate([images, blank])
        rows = []
        for start in range(0, len(whole), size):
            fed = self._preprocess(whole[start : start + size]).astype(self._kind, copy=False)
            self._request.infer({0: fed}, share_inputs=True, share_outputs=True)
            answer = self._request.get_output_tensor(self._output).data
            if answer.dtype.kind not in "fiu" or answer.size % size:
                raise EngineFailed(
                    f"{self.path} answered with {answer.dtype} {answer.shape}.", "Use a classifier."
                )
            rows.append(answer.reshape(size, -1).astype(np.float32))
        return np.concatenate(rows)[: len(images)]

    def _origin(self) -> Origin:
        """The width of the values, where the file can be read; what a report must say of it."""
        notes = []
        if self._offset:
            outputs = self.classes + self._offset
            notes.append(f"outputs that are no class are left out: {self._offset} of {outputs}")
        try:
            bits = reader.lower(self.path, preprocess=self._told).graph.spec.bits
        except QadtrError as error:
            nodes = reader_file.parsed(self.path).graph.node
            is_quantized = any("Quantize" in node.op_type for node in nodes)
            bits = 8 if is_quantized else FLOAT_BITS
            notes.append(f"it could not be read as an integer graph: {error.fact.rstrip('.')}")
        return Origin(layers=(), bits=bits, may_saturate=("unknown layers",), notes=tuple(notes))


def compare(
    path: Path,
    *,
    images: Pixels,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    trace: bool = False,
    on_batch: OnBatch = unheard,
) -> Parity:
    """Compares the file with the judge of its integer graph on ``images`` (N, 3, H, W) uint8.

    Logits are counted, layers are not traced: ``export --onnx`` makes the engine that shows them.
    Raises ``Unsupported``, naming the nodes, for a file that cannot be read.
    """
    lowered = reader.lower(path, preprocess=preprocess)
    with OpenVinoArtefact(
        path, preprocess=preprocess, threads=threads, value=lowered.logits
    ) as engine:
        return parity.compared(
            lowered.graph, engine, images=images, model=None, add="x86", trace=False,
            on_batch=on_batch, reveal=_nothing,
        )  # fmt: skip


def _nothing(*_: object) -> Revealed:
    raise AssertionError("no layer is traced")
