"""Engine against judge: how many logits differ, and in which layer they first do.

All logits of all images are compared, in batches, in constant memory. Layers are compared on a
few images: those whose logits differ most. To see a layer, its tensor is made one more output of
the ONNX file; the kernels that run are checked to be the same as without.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.integer.graph import AddRounding, IntegerGraph, Tensor
from qadtr_edge.integer.judge import Judge
from qadtr_edge.types import Engine, Json, LayerParity, Parity, Pixels

from . import session as sessions
from .gate import Kernel
from .observe import kernels
from .onnx_file import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

BATCH = 64
TRACED_IMAGES = 8

OnBatch = Callable[[int], None]
"""Hears how many more images are done."""


def unheard(count: int) -> None:
    """Where nobody listens."""


def native_rounding() -> AddRounding:
    """How onnxruntime rounds an untied sum on this machine."""
    return "aarch64" if platform.machine() in {"aarch64", "arm64"} else "x86"


def compare(
    graph: IntegerGraph,
    engine: Engine,
    *,
    images: Pixels,
    model: Path | None = None,
    add: AddRounding | None = None,
    trace: bool = False,
    on_batch: OnBatch = unheard,
) -> Parity:
    """Compares onnxruntime's ``engine`` with the judge: see ``compared``."""
    return compared(
        graph, engine, images=images, model=model, add=add or native_rounding(), trace=trace,
        on_batch=on_batch, reveal=_reveal,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Revealed:
    """What one engine held under the names of tensors, and what a reader must know of it.

    ``hidden`` says why other tensors are not among them.
    """

    tensors: Mapping[str, NDArray[np.generic]]
    hidden: str
    notes: tuple[str, ...] = ()


def compared(
    graph: IntegerGraph,
    engine: Engine,
    *,
    images: Pixels,
    model: Path | None,
    add: AddRounding,
    trace: bool,
    on_batch: OnBatch,
    reveal: Callable[[IntegerGraph, Path, Pixels, Mapping[str, Json]], Revealed],
) -> Parity:
    """Compares ``engine`` with the judge on ``images`` (N, 3, H, W) uint8, bit for bit.

    With ``model``, the file the engine runs, layers are traced where logits differ, or always when
    ``trace`` is set. ``on_batch`` hears how many more images are done. ``reveal`` runs images
    through the model under the engine's options and returns the tensors it could see, the logits
    as ``onnx_file.OUTPUT``.
    """
    judge = Judge(graph, add=add)
    mismatches = argmax = 0
    gaps = np.zeros(len(images))
    for start in range(0, len(images), BATCH):
        batch = np.ascontiguousarray(images[start : start + BATCH])
        ours = np.concatenate([judge(part) for part in judge.batches(batch)])
        theirs = engine(batch)
        unequal = ours != theirs
        mismatches += int(unequal.sum())
        argmax += int((ours.argmax(1) != theirs.argmax(1)).sum())
        gaps[start : start + len(batch)] = np.abs(ours - theirs).max(1, initial=0.0)
        on_batch(len(batch))
    largest = float(gaps.max(initial=0.0))
    counts = Parity(len(images), len(images) * graph.classes, mismatches, largest, argmax)
    if model is None or not (mismatches or trace) or not len(images):
        return counts
    worst = np.argsort(-gaps, kind="stable")[:TRACED_IMAGES]
    chosen = np.asarray(images[np.sort(worst)])
    return _traced(counts, judge, chosen, reveal(graph, model, chosen, engine.facts.options))


def _traced(counts: Parity, judge: Judge, images: Pixels, revealed: Revealed) -> Parity:
    theirs, ours = revealed.tensors, judge.codes(images)
    layers, missing = [], []
    for node in judge.graph.nodes:
        if node.y == judge.graph.logits:
            layers.append(_difference(node.name, judge(images), theirs[OUTPUT]))
        elif node.y in theirs:
            codes = _codes(theirs[node.y], judge.graph.tensors[node.y])
            layers.append(_difference(node.name, ours[node.y], codes))
        else:
            missing.append(node.name)
    first = next((layer.layer for layer in layers if layer.mismatches), None)
    notes = [f"{revealed.hidden}: {', '.join(missing)}"] if missing else []
    return replace(
        counts, first_divergent_layer=first, layers=tuple(layers), notes=(*notes, *revealed.notes)
    )


def _reveal(
    graph: IntegerGraph, model: Path, images: Pixels, options: Mapping[str, Json]
) -> Revealed:
    content = exposed(model, list(graph.tensors))
    session = sessions.open_session(content, options, path=model)
    names = [output.name for output in session.get_outputs()]
    with sessions.explained(model):
        tensors = dict(zip(names, session.run(names, {INPUT: images}), strict=True))
    before = kernels(model, images[:1], options=options)
    after = kernels(model, images[:1], options=options, content=content)
    changed = _kinds(before) != _kinds(after)
    notes = ("showing the layers changed which kernels ran",) if changed else ()
    return Revealed(tensors, "not found in the file", notes)


def _codes(held: NDArray[np.generic], tensor: Tensor) -> NDArray[np.generic]:
    """Codes of what a file holds under a tensor's name: containers, or reals where it is float."""
    if held.dtype == np.uint8:
        return held.astype(np.int16) - np.int16(tensor.zero_point)
    return held.astype(np.float64) / tensor.scale


def _difference(layer: str, ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> LayerParity:
    gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return LayerParity(layer, gap.size, int((gap != 0).sum()), float(gap.max(initial=0.0)))


def _kinds(ran: list[Kernel]) -> dict[str, int]:
    """How often each arithmetic kernel ran."""
    kinds = [kernel.operator for kernel in ran if kernel.is_integer_arithmetic]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def exposed(model: Path, tensors: Sequence[str], *, nodes: Sequence[onnx.NodeProto] = ()) -> bytes:
    """The ONNX file, and ``nodes``, with those of ``tensors`` they compute as further outputs."""
    import onnx

    with sessions.explained(model):
        loaded = onnx.load(str(model))
    loaded.graph.node.extend(nodes)
    computed = {name for node in loaded.graph.node for name in node.output}
    for name in tensors:
        if name in computed:
            loaded.graph.output.append(onnx.ValueInfoProto(name=name))  # its type is inferred
    content: bytes = loaded.SerializeToString()
    return content
