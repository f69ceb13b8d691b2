"""OpenVINO on the CPU: build the Q/DQ model, observe what runs, and run it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import provenance
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import graph_file
from qadtr_edge.integer.float_graph import FloatGraph
from qadtr_edge.integer.graph import AddRounding, IntegerGraph
from qadtr_edge.types import EngineFacts, Json, Parity, Pixels

from . import facts as facts_file
from . import isa, openvino_observe, parity
from . import openvino_runtime as runtime
from .calls import Opened, check_images, check_logits, closed, content_of
from .dialects import OPENVINO
from .facts import Origin, Record
from .fp32 import float_origin, spell_float
from .observe import by_layer
from .onnx_file import INPUT, OUTPUT, PROPERTY_BITS, save
from .openvino_runtime import Hint
from .parity import Revealed
from .qdq import PortableForm
from .spelling import spell
from .tolerance import Tolerance

if TYPE_CHECKING:
    import openvino

MODEL = "model.onnx"

TOLERANCE = Tolerance(
    code_steps=1,
    logits_relative=1e-6,
    classes_share=0.05,
    float_nodes=frozenset({"Sigmoid", "AddConstant", "Concat"}),
    fused_nodes=frozenset({"Add", "Mul"}),
    reason=(
        "OpenVINO multiplies accumulators by scales in an order of its own, in float32: codes "
        "whose real value is near the middle of a step may be rounded to the other side, and "
        "logits differ in their last bits. It fuses sums into the convolution before them, and "
        "has no integer kernels for sums with constants, sigmoids, and joins of unequal scales."
    ),
)
"""How far from the judge this engine may be where no code was rounded differently before."""


def build(graph: IntegerGraph, folder: Path, *, threads: int = 1) -> EngineFacts:
    """Writes ``model.onnx`` in the Q/DQ form and ``facts.json``; returns the facts.

    Raises ``Unsupported``, naming the node, for a graph that 8-bit unsigned containers cannot hold.
    """
    digest = graph_file.digest(graph)
    save(spell(graph, PortableForm, dialect=OPENVINO, digest=digest), folder / MODEL)
    origin = Origin(
        layers=tuple(node.name for node in graph.nodes),
        bits=graph.spec.bits,
        may_saturate=isa.saturating_layers(graph),
        notes=graph.notes,
    )
    return _record(folder, origin, threads=threads, more={"graph_digest": digest})


def build_float(graph: FloatGraph, folder: Path, *, threads: int = 1) -> EngineFacts:
    """Writes the float ``model.onnx`` and its ``facts.json``; returns the facts."""
    save(spell_float(graph), folder / MODEL)
    return _record(folder, float_origin(graph), threads=threads, more={})


def _record(folder: Path, origin: Origin, *, threads: int, more: dict[str, Json]) -> EngineFacts:
    """Compiles the model in ``folder``, and writes its facts."""
    path, options = folder / MODEL, runtime.options(threads=threads)
    compiled = runtime.compiled(runtime.parsed(content_of(path), path), options, path=path)
    ran = openvino_observe.kernels(compiled, origin.layers)
    facts = openvino_observe.facts(path, ran, options=options, origin=origin)
    layers = by_layer(ran, origin=origin, floats=facts.float_layers)
    own: dict[str, Json] = {"layers": layers, "versions": dict(provenance.versions())}
    facts_file.write(folder, Record(facts, origin, own | more))
    return facts


def compare(
    graph: IntegerGraph,
    engine: OpenVinoEngine,
    *,
    images: Pixels,
    model: Path | None = None,
    add: AddRounding = "x86",
    trace: bool = False,
    on_batch: parity.OnBatch = parity.unheard,
) -> Parity:
    """Compares ``engine`` with the judge: see ``parity.compared``.

    Layers are traced where OpenVINO has their outputs in memory. Showing others would split the
    kernels they are fused into, and show other numbers than those that ran.
    """
    return parity.compared(
        graph, engine, images=images, model=model, add=add, trace=trace, on_batch=on_batch,
        reveal=_reveal,
    )  # fmt: skip


def _reveal(
    graph: IntegerGraph, model: Path, images: Pixels, options: Mapping[str, Json]
) -> Revealed:
    content, fixed = content_of(model), dict(options) | {runtime.BATCH: None}
    layers = [node.name for node in graph.nodes]
    plain = runtime.compiled(runtime.parsed(content, model), fixed, path=model)
    ran = openvino_observe.kernels(plain, layers)
    shown = openvino_observe.written(ran, layers)
    outputs = {node.name: node.y for node in graph.nodes if node.y != graph.logits}
    changed = runtime.parsed(content, model)
    names = runtime.reveal(changed, [outputs[n] for n in shown if n in outputs], path=model)
    opened = runtime.compiled(changed, fixed, path=model)
    answer = opened(images)
    hidden = "fused into the kernels behind them"
    tensors = {name: np.asarray(answer[name]) for name in (*names, OUTPUT)}
    if np.array_equal(tensors[OUTPUT], plain(images)[OUTPUT]):
        return Revealed(tensors, hidden)
    return Revealed(tensors, hidden, ("showing the layers changed the logits",))


class OpenVinoEngine(Opened):
    """An ONNX file on OpenVINO's CPU plugin.

    ``hint``: ``latency`` answers with all threads on one batch; ``throughput`` splits the images
    over as many streams as threads. ``batch``: compiles for that many images at a time, which is
    faster; the last ones are run in company of blank images.
    """

    def __init__(
        self,
        artefact: Path | str,
        *,
        threads: int = 1,
        hint: Hint = "latency",
        batch: int | None = None,
    ) -> None:
        self.path = Path(artefact)
        self._batch = batch
        self._options = runtime.options(threads=threads, hint=hint, batch=batch)
        runtime.runtime()
        content = content_of(self.path)
        self._digest = hashlib.sha256(content).hexdigest()
        model = runtime.parsed(content, self.path)
        self._shape, self._classes = _shapes(model, self.path)
        self._bits = int(runtime.property_of(model, PROPERTY_BITS) or 8)
        self._compiled = runtime.compiled(model, self._options, path=self.path)
        streams = threads if hint == "throughput" else 1
        self._requests = [self._compiled.create_infer_request() for _ in range(streams)]
        self._facts: EngineFacts | None = None

    @property
    def facts(self) -> EngineFacts:
        """Read off the compiled model; of ``facts.json`` only ``origin`` counts."""
        if self._facts is None:
            origin = facts_file.origin_of(self.path, digest=self._digest, bits=self._bits)
            ran = openvino_observe.kernels(self._compiled, origin.layers)
            self._facts = openvino_observe.facts(
                self.path, ran, options=self._options, origin=origin
            )
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        if not self._requests:
            raise closed(self.path)
        check_images(self.path, self._shape, images=images)
        answers = [np.empty((0, self._classes), np.float32)]
        parts = self._parts(images)
        for start in range(0, len(parts), len(self._requests)):
            answers += self._answers(parts[start : start + len(self._requests)])
        logits = np.concatenate(answers)[: len(images)]
        check_logits(self.path, logits)
        return logits

    def close(self) -> None:
        self._requests = []

    def _parts(self, images: Pixels) -> list[Pixels]:
        """The images as they are run: equal shares of the streams, or batches of the fixed size."""
        if self._batch is None:
            shares = min(len(self._requests), len(images))
            return (
                [np.ascontiguousarray(p) for p in np.array_split(images, shares)] if shares else []
            )
        blank = np.zeros((-len(images) % self._batch, *self._shape), np.uint8)
        whole = np.concatenate([images, blank]) if len(blank) else np.ascontiguousarray(images)
        return [whole[i : i + self._batch] for i in range(0, len(whole), self._batch)]

    def _answers(self, parts: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Logits of each part, all running at once: one stream for each."""
        running = self._requests[: len(parts)]
        for request, part in zip(running[1:], parts[1:], strict=True):
            request.start_async({0: part}, share_inputs=True)
        running[0].infer({0: parts[0]}, share_inputs=True, share_outputs=True)
        for request in running[1:]:
            request.wait()
        return [request.get_output_tensor(0).data.copy() for request in running]


def _shapes(model: openvino.Model, path: Path) -> tuple[tuple[int, int, int], int]:
    """(3, H, W) of the only input, and the number of classes.

    Raises ``BadInput`` for a model that does not take uint8 images and answer with logits.
    """
    described = [
        (each.any_name, each.element_type.get_type_name(), each.partial_shape)
        for each in (*model.inputs, *model.outputs)
    ]
    match described:
        case [(name, "u8", image), (_, "f32", logits)] if name == INPUT:
            fixed = [*list(image)[1:], *list(logits)[1:]]
            if len(fixed) == 4 and all(each.is_static for each in fixed):
                depth, height, width, classes = (each.get_length() for each in fixed)
                return (depth, height, width), classes
    seen = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in described)
    raise BadInput(
        f"{path} does not take uint8 images (N, 3, H, W) as its one input {INPUT!r} and answer "
        f"with float logits (N, K); it has {seen}.",
        "Use a file written by `qadtr-edge export`.",
    )
