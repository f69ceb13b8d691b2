"""An integer graph as one file: an ``.npz`` without pickle, with a JSON header.

The header holds everything but the arrays; array ``<i>.<field>`` belongs to node ``i``. ``digest``
is computed from the contents, so it does not depend on zip timestamps, compression or platform.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from ..files import replacing
from ..types import QuantSpec
from .graph import NODE_TYPES, IntegerGraph, Tensor, arrays_of, inputs_of

SCHEMA = 1
Arrays = dict[str, NDArray[np.generic]]
Fields = dict[str, object]

_UNREADABLE = (
    ValueError, KeyError, EOFError, OSError, TypeError, AttributeError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
_REMEDY = "Write it again with `qadtr-edge export`."


def save(graph: IntegerGraph, path: Path | str) -> None:
    """Writes ``graph`` to ``path`` (``.npz``), whole or not at all."""
    header, arrays = _pack(graph)
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(header), **arrays)


def load(path: Path | str) -> IntegerGraph:
    """The graph at ``path``. ``BadInput`` when it is missing, damaged or of a newer schema."""
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        schema = int(header["schema"])
    except FileNotFoundError:
        raise BadInput(f"There is no integer graph at {path}.", _REMEDY) from None
    except _UNREADABLE as error:
        raise BadInput(f"{path} is not a readable integer graph ({error}).", _REMEDY) from error
    if schema > SCHEMA:
        raise BadInput(
            f"{path} has integer-graph schema {schema}; this version reads up to {SCHEMA}.",
            "Update qadtr-edge, or export the graph again with this version.",
        )
    try:
        graph = _unpack(header, arrays)
        _check(graph)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} is a damaged integer graph ({error}).", _REMEDY) from error
    return graph


def digest(graph: IntegerGraph) -> str:
    """SHA-256 (hex) of everything in ``graph``: equal graphs, equal digest, on any machine."""
    header, arrays = _pack(graph)
    state = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        state.update(f"\x1f{name}\x1f{little.dtype.str}\x1f{little.shape}\x1f".encode())
        state.update(little.tobytes())
    return state.hexdigest()


def _pack(graph: IntegerGraph) -> tuple[str, Arrays]:
    arrays: Arrays = {}
    nodes: list[Fields] = []
    for index, node in enumerate(graph.nodes):
        own = arrays_of(node)
        arrays |= {f"{index}.{field}": array for field, array in own.items()}
        plain: Fields = {f.name: getattr(node, f.name) for f in fields(node) if f.name not in own}
        nodes.append({"kind": type(node).__name__, **plain})
    header = {
        "schema": SCHEMA, "input": graph.input, "logits": graph.logits, "classes": graph.classes,
        "spec": asdict(graph.spec), "source": graph.source, "notes": graph.notes, "nodes": nodes,
        "tensors": [asdict(tensor) for tensor in graph.tensors.values()],
    }  # fmt: skip
    return json.dumps(header, sort_keys=True, allow_nan=False), arrays


def _unpack(header: dict[str, object], arrays: Arrays) -> IntegerGraph:
    nodes = []
    for index, stored in enumerate(cast(list[Fields], header["nodes"])):
        plain = {name: _tuple(value) for name, value in stored.items() if name != "kind"}
        prefix = f"{index}."
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        kind = NODE_TYPES[str(stored["kind"])]
        nodes.append(kind(**plain, **own))  # type: ignore[arg-type]
    stored_tensors = cast(list[Fields], header["tensors"])
    tensors = [Tensor(**{k: _tuple(v) for k, v in item.items()}) for item in stored_tensors]  # type: ignore[arg-type]
    return IntegerGraph(
        nodes=tuple(nodes),
        tensors={tensor.name: tensor for tensor in tensors},
        input=str(header["input"]),
        logits=str(header["logits"]),
        classes=int(cast(int, header["classes"])),
        spec=QuantSpec(**cast(dict[str, object], header["spec"])),  # type: ignore[arg-type]
        source=cast(dict[str, str], header["source"]),
        notes=cast(tuple[str, ...], _tuple(header["notes"])),
    )


def _tuple(value: object) -> object:
    """JSON has no tuples; the graph has no lists."""
    return tuple(value) if isinstance(value, list) else value


def _check(graph: IntegerGraph) -> None:
    """Raises ``ValueError`` unless every tensor read was produced before, by input or node."""
    known = {graph.input}
    for node in graph.nodes:
        for name in inputs_of(node):
            if name not in known or name not in graph.tensors:
                raise ValueError(f"{node.name} reads {name}, which nothing has produced")
        if node.y in known:
            raise ValueError(f"{node.y} is produced twice")
        known.add(node.y)
    if not graph.nodes or graph.nodes[-1].y != graph.logits:
        raise ValueError("the last node does not produce the logits")
    if missing := known - set(graph.tensors) - {graph.logits}:
        raise ValueError(f"no description of {', '.join(sorted(missing))}")
