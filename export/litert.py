"""The .tflite file that already ships, on LiteRT's CPU kernels, untouched.

Nothing is built here: the file brings its own integers. What it answers with is dequantized by its
own scale; leading outputs that are no class are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import provenance
from qadtr_edge.data.preprocess import Preprocess
from qadtr_edge.errors import EngineFailed, MissingDependency, Unsupported
from qadtr_edge.types import FLOAT_BITS, EngineFacts, Json, Parity, Pixels

from . import gate
from .calls import Opened, check_images, check_logits, closed, content_of
from .gate import Kernel
from .reader_input import Form, contract

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_MOVES = {
    "RESHAPE", "TRANSPOSE", "PAD", "PADV2", "CONCATENATION", "SPLIT", "SLICE", "STRIDED_SLICE",
    "SQUEEZE", "GATHER", "QUANTIZE", "DEQUANTIZE", "SHAPE", "PACK",
}  # fmt: skip
"""They compute no layer; the float kernel that they feed is what is named."""
_DELEGATE = "DELEGATE"
"""Stands for kernels of XNNPACK, which compute the listed operators on the listed types."""
_TYPES = {"float32": "float", "float64": "double"}
_PROBABILITIES = {"SOFTMAX", "LOGISTIC"}


class _Tensor(TypedDict):
    """What the interpreter tells of a tensor; shapes have -1 where the file leaves them open."""

    index: int
    name: str
    dtype: type[np.generic]
    shape: NDArray[np.int32]
    shape_signature: NDArray[np.int32]
    quantization: tuple[float, int]


class _Operator(TypedDict):
    op_name: str
    inputs: Sequence[int]
    outputs: Sequence[int]


@dataclass(frozen=True)
class _Grid:
    """Type, scale and zero point of the file's input or output; scale 0 means it is float."""

    index: int
    kind: np.dtype[np.generic]
    scale: float
    zero_point: int

    def codes(self, told: Preprocess) -> Preprocess:
        """What the file reads in place of the real values of ``told``."""
        limits = np.iinfo(self.kind.name)
        codes = np.rint(told.values / np.float32(self.scale)) + self.zero_point
        return replace(told, values=np.clip(codes, limits.min, limits.max).astype(np.float32))

    def reals(self, codes: NDArray[np.generic]) -> NDArray[np.float32]:
        if not self.scale:
            return codes.astype(np.float32)
        centred = codes.astype(np.int32) - self.zero_point
        return centred.astype(np.float32) * np.float32(self.scale)


class LiteRtEngine(Opened):
    """A .tflite classifier as it ships, called image by image, as such files are deployed.

    ``preprocess`` says which real values the network was trained on; an integer input has them
    quantized by the file's own scale. Without it, an integer input takes the raw pixels.
    ``image``: (3, H, W) of the pixels it takes; ``classes``: its outputs that are classes.
    """

    def __init__(
        self, artefact: Path | str, *, preprocess: Preprocess | None = None, threads: int = 1
    ) -> None:
        self.path = Path(artefact)
        make = _interpreter_class()
        content = content_of(self.path)
        self._digest = hashlib.sha256(content).hexdigest()
        with _explained(self.path):
            self._runner: Interpreter | None = make(model_content=content, num_threads=threads)
            self._runner.allocate_tensors()
        image, self._answer = self._only_grids(self._runner)
        self._input = _grid(image)
        dims = tuple(int(size) if size > 0 else None for size in image["shape_signature"])
        told = preprocess
        if told is not None and self._input.scale:
            told = self._input.codes(told)
        agreed = contract(Form(self.path, self._input.kind.name, dims), told)
        if agreed.batch not in (None, 1):
            raise Unsupported(
                f"{self.path} takes {agreed.batch} images at a time.", "Convert it for one."
            )
        self._preprocess, self.image = agreed.preprocess, (3, *agreed.size)
        self._options: dict[str, Json] = {
            "num_threads": threads, "batch": 1, "delegate": "XNNPACK",
            "preprocess": self._preprocess.digest,
        }  # fmt: skip
        outputs = self._one(np.zeros((1, *self.image), np.uint8)).size
        self._offset = agreed.class_offset(outputs)
        self.classes = outputs - self._offset
        if self.classes < 2:
            raise Unsupported(f"{self.path} has one output, which is no classifier.", "Check it.")
        self._facts: EngineFacts | None = None

    @property
    def facts(self) -> EngineFacts:
        """Read off the operators of the file and the types of their tensors."""
        if self._facts is None:
            self._facts = self._observed()
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        if self._runner is None:
            raise closed(self.path)
        check_images(self.path, self.image, images=images)
        logits = np.empty((len(images), self.classes), np.float32)
        for row, _ in enumerate(images):
            logits[row] = self._one(images[row : row + 1])[self._offset :]
        check_logits(self.path, logits)
        return logits

    def close(self) -> None:
        self._runner = None

    def _one(self, image: Pixels) -> NDArray[np.float32]:
        """All outputs for one image ``(1, 3, H, W)``, dequantized."""
        assert self._runner is not None
        with _explained(self.path):
            self._runner.set_tensor(
                self._input.index, self._preprocess(image).astype(self._input.kind)
            )
            self._runner.invoke()
            return self._answer.reals(self._runner.get_tensor(self._answer.index).reshape(-1))

    def _only_grids(self, runner: Interpreter) -> tuple[_Tensor, _Grid]:
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise Unsupported(
                f"{self.path} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier "
                "of images has one of each.",
                "Cut out the classifier.",
            )
        return cast(_Tensor, inputs[0]), _grid(cast(_Tensor, outputs[0]))

    def _observed(self) -> EngineFacts:
        if self._runner is None:
            raise closed(self.path)
        ran = kernels(self._runner)
        verdict = gate.weigh(ran)
        notes = [*verdict.notes]
        if self._offset:
            outputs = self.classes + self._offset
            notes.append(f"outputs that are no class are left out: {self._offset} of {outputs}")
        last = next((k.operator for k in reversed(ran) if k.runs_in != "nothing"), "")
        if last in _PROBABILITIES and self._answer.scale:
            notes.append(
                f"it answers with probabilities in steps of {self._answer.scale:g}, of which "
                "several may be equal; the first of them counts"
            )
        return EngineFacts(
            engine="litert",
            runtime=f"ai-edge-litert {version('ai-edge-litert')}",
            bits=FLOAT_BITS if verdict.precision == "float" else 8,
            precision=verdict.precision,
            integer_kernels=verdict.integer_kernels,
            float_layers=verdict.float_layers,
            digest=self._digest,
            options=self._options,
            device=dict(provenance.device()),
            notes=tuple(notes),
        )


def kernels(runner: Interpreter) -> list[Kernel]:
    """The operators of the file in their order, each called after the tensor it writes.

    One whose images come as float is a float kernel, whatever its weights are stored as.
    """
    tensors = {each["index"]: each for each in cast(list[_Tensor], runner.get_tensor_details())}
    # The one way to the operators; it has been there, under this name, since TensorFlow 2.4.
    listed = cast(list[_Operator], runner._get_ops_details())
    return [_kernel(each, tensors) for each in listed if each["op_name"] != _DELEGATE]


def _kernel(operator: _Operator, tensors: dict[int, _Tensor]) -> Kernel:
    reads, writes = (
        tuple(_type(tensors[index]) for index in operator[side] if index in tensors)
        for side in ("inputs", "outputs")
    )
    kind: Literal["integer", "float", "nothing"] = "integer"
    if operator["op_name"] in _MOVES:
        kind = "nothing"
    elif gate.FLOAT_TYPES & {*reads[:1], *writes}:
        kind = "float"
    name = tensors[operator["outputs"][0]]["name"]
    return Kernel(name, operator["op_name"], reads, writes, runs_in=kind)


def _type(tensor: _Tensor) -> str:
    name = np.dtype(tensor["dtype"]).name
    return _TYPES.get(name, name)


def _grid(tensor: _Tensor) -> _Grid:
    scale, zero_point = tensor["quantization"]
    return _Grid(tensor["index"], np.dtype(tensor["dtype"]), float(scale), int(zero_point))


def compare(
    path: Path,
    *,
    images: Pixels,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    trace: bool = False,
    on_batch: Callable[[int], None],
) -> Parity:
    """Raises ``Unsupported``: there is no integer graph of a .tflite file to compare it with."""
    raise Unsupported(
        f"{path} is not read as an integer graph, so its integers are not compared.",
        "Convert it to Q/DQ ONNX (tf2onnx) and give that file to compare.",
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns LiteRT's exceptions about the model at ``path`` into a sentence for the user."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        said = (str(error).strip().splitlines() or ["no reason"])[0]
        raise EngineFailed(
            f"LiteRT refuses {path}: {said[:300]}",
            "Check that it is a whole .tflite file, of operators that LiteRT has.",
        ) from error


def _interpreter_class() -> type[Interpreter]:
    """LiteRT's interpreter. Raises ``MissingDependency`` where it is not installed."""
    try:
        return cast("type[Interpreter]", import_module("ai_edge_litert.interpreter").Interpreter)
    except ImportError as error:
        raise MissingDependency("ai_edge_litert", "litert", purpose="The engine litert") from error
