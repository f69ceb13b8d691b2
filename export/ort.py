"""onnxruntime on the CPU: build the model, observe what runs, and run it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import files, provenance
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import graph_file
from qadtr_edge.integer.graph import IntegerGraph
from qadtr_edge.types import EngineFacts, Json, Pixels

from . import facts as facts_file
from . import isa, observe
from . import session as sessions
from .calls import Opened, check_images, check_logits, closed, content_of
from .dialects import ORT, PORTABLE
from .facts import PORTABLE_DIGEST, Origin, Record
from .onnx_file import INPUT, OUTPUT, PROPERTY_BITS, save
from .operators import OperatorForm
from .qdq import PortableForm
from .spelling import spell

MODEL, QDQ_MODEL = "model.onnx", "model.qdq.onnx"


def build(graph: IntegerGraph, folder: Path, *, threads: int = 1) -> EngineFacts:
    """Writes ``model.onnx``, the portable ``model.qdq.onnx`` and ``facts.json``; returns the facts.

    The facts are of an actual run with ``threads`` threads. Raises ``Unsupported``, naming the
    node, for a graph that 8-bit unsigned containers cannot hold.
    """
    digest = graph_file.digest(graph)
    save(spell(graph, OperatorForm, dialect=ORT, digest=digest), folder / MODEL)
    save(spell(graph, PortableForm, dialect=PORTABLE, digest=digest), folder / QDQ_MODEL)
    origin = Origin(
        layers=tuple(node.name for node in graph.nodes),
        bits=graph.spec.bits,
        may_saturate=isa.saturating_layers(graph),
        notes=graph.notes,
    )
    return record(
        folder,
        origin,
        threads=threads,
        image=graph.tensors[graph.input].shape,
        more={"graph_digest": digest, PORTABLE_DIGEST: files.digest(folder / QDQ_MODEL)},
    )


def record(
    folder: Path, origin: Origin, *, threads: int, image: tuple[int, ...], more: dict[str, Json]
) -> EngineFacts:
    """Runs the model in ``folder`` once on a blank ``image`` (3, H, W), and writes its facts."""
    path = folder / MODEL
    options = sessions.options(threads=threads)
    ran = observe.kernels(path, np.zeros((1, *image), np.uint8), options=options)
    facts = observe.facts(path, ran, options=options, origin=origin)
    layers = observe.by_layer(ran, origin=origin, floats=facts.float_layers)
    own: dict[str, Json] = {"layers": layers, "versions": dict(provenance.versions())}
    facts_file.write(folder, Record(facts, origin, own | more))
    return facts


class _Input(Protocol):
    """How onnxruntime describes an input of a model."""

    name: str
    type: str
    shape: Sequence[int | str]


class OrtEngine(Opened):
    """A model file on onnxruntime.

    ``x64_quant_precision`` makes results exact on x86 CPUs without VNNI at half the speed; other
    CPUs do not need it, and pay for it too. It is also on where the facts beside the file ask for
    it and this CPU needs it.

    ``provider``: one of onnxruntime's other than the CPU's; it runs the whole file or is refused.
    CUDA has no integer convolution: it takes the Q/DQ file and simulates it in float, which
    ``facts`` calls float.
    """

    def __init__(
        self,
        artefact: Path | str,
        *,
        threads: int = 1,
        x64_quant_precision: bool = False,
        provider: str = sessions.PROVIDER,
    ) -> None:
        self.path = Path(artefact)
        sessions.runtime()
        content = content_of(self.path)
        self._digest = hashlib.sha256(content).hexdigest()
        recorded = facts_file.read(self.path.parent)
        asked = recorded is not None and recorded.exact_without_vnni and isa.may_saturate_here()
        self._options = sessions.options(
            threads=threads, x64_quant_precision=x64_quant_precision or asked, provider=provider
        )
        session = sessions.open_session(content, self._options, path=self.path)
        self._run: Callable[..., list[NDArray[np.float32]]] = session.run
        self._shape = _image_shape(session.get_inputs(), self.path)
        self._properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
        self._facts: EngineFacts | None = None

    @property
    def facts(self) -> EngineFacts:
        """Observed here and now, by one profiled run; of ``facts.json`` only ``origin`` counts."""
        if self._facts is None:
            self._facts = self._observed()
        return self._facts

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        check_images(self.path, self._shape, images=images)
        logits = self._run((OUTPUT,), {INPUT: images})[0]
        check_logits(self.path, logits)
        return logits

    def close(self) -> None:
        self._run = self._closed  # the session goes with its last reference

    def _closed(self, *_: object) -> list[NDArray[np.float32]]:
        raise closed(self.path)

    def _observed(self) -> EngineFacts:
        bits = int(self._properties.get(PROPERTY_BITS, 8))
        origin = facts_file.origin_of(self.path, digest=self._digest, bits=bits)
        blank = np.zeros((1, *self._shape), np.uint8)
        ran = observe.kernels(self.path, blank, options=self._options)
        return observe.facts(self.path, ran, options=self._options, origin=origin)


def _image_shape(inputs: Sequence[_Input], path: Path) -> tuple[int, int, int]:
    """(3, H, W) of the model's only input. Raises ``BadInput`` for one that is not uint8 images."""
    described = [(each.name, each.type, tuple(each.shape)) for each in inputs]
    match described:
        case [(name, "tensor(uint8)", (_, int(depth), int(height), int(width)))] if name == INPUT:
            return depth, height, width
    raise BadInput(
        f"{path} does not take uint8 images (N, 3, H, W) as its one input {INPUT!r}; "
        f"it takes {described}.",
        "Use a file written by `qadtr-edge export`.",
    )
