"""A file that runs as it ships, against the judge: the file is read, and its values are compared.

The judge's logits are what the file's Softmax reads, so that value is made one more output of the
file in memory; to see a layer, what holds its containers is made an output too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.data.preprocess import Preprocess
from qadtr_edge.integer.graph import Add, AddRounding, IntegerGraph, Tensor
from qadtr_edge.types import Json, Parity, Pixels

from . import parity, reader
from .artefact import OrtArtefact
from .onnx_file import OUTPUT
from .parity import OnBatch, Revealed, unheard
from .reader import Lowered


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

    Raises ``Unsupported``, naming the nodes, for a file that cannot be read.
    """
    lowered = reader.lower(path, preprocess=preprocess)
    with OrtArtefact(
        path,
        preprocess=preprocess,
        threads=threads,
        values=(lowered.logits,),
        nodes=lowered.unfused,
    ) as engine:
        return parity.compared(
            lowered.graph, engine, images=images, model=path, add=_rounding(lowered), trace=trace,
            on_batch=on_batch, reveal=partial(_reveal, lowered, preprocess),
        )  # fmt: skip


def _rounding(lowered: Lowered) -> AddRounding:
    """How the file's sums round here: on x86 that depends on the sign of their containers."""
    native = parity.native_rounding()
    sums = [node.y for node in lowered.graph.nodes if isinstance(node, Add)]
    places = [lowered.places[name] for name in sums if name in lowered.places]
    signed = any(place.shift for place in places)
    return "x86 int8" if native == "x86" and signed else native


def _reveal(
    lowered: Lowered,
    preprocess: Preprocess | None,
    graph: IntegerGraph,
    model: Path,
    images: Pixels,
    options: Mapping[str, Json],
) -> Revealed:
    seen = [name for name in graph.tensors if name in lowered.places and name != graph.input]
    values = (lowered.logits, *(lowered.places[name].value for name in seen))
    threads = options["intra_op_num_threads"]
    assert isinstance(threads, int), "a number of threads is a number"
    with OrtArtefact(
        model, preprocess=preprocess, threads=threads, values=values, nodes=lowered.unfused
    ) as engine:
        held = engine.held(images)
    tensors: dict[str, NDArray[np.generic]] = {
        name: _containers(held[lowered.places[name].value], graph.tensors[name], lowered, name)
        for name in seen
    }
    tensors[OUTPUT] = held[lowered.logits].reshape(len(images), -1)[:, lowered.class_offset :]
    return Revealed(tensors, "the file holds no such value")


def _containers(
    held: NDArray[np.generic], tensor: Tensor, lowered: Lowered, name: str
) -> NDArray[np.generic]:
    """What the file holds, as the unsigned containers of the graph's tensor."""
    extra = held.shape[1] - tensor.shape[0] if held.ndim > 1 else 0
    kept = held[:, extra:] if extra == lowered.class_offset else held
    unsigned = kept.astype(np.int16) + lowered.places[name].shift
    return unsigned.astype(np.uint8).reshape(len(held), *tensor.shape)
