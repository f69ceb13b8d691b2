"""Opening an ONNX file that somebody else made, trusting nothing in it.

What a hostile or broken file can hold (sizes that do not exist, circles, data outside its folder)
is answered with one sentence before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.errors import BadInput, MissingDependency, Unsupported

from .reader_input import Form

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.generic]

MOST_BYTES = 2**31 - 1
"""What one protobuf message can hold."""
MOST_VALUES = 2**28
"""Of one tensor: far above any classifier's, far below what fills a machine."""

_REMEDY = "Export it again with the tool that made it."


@dataclass(frozen=True, eq=False)
class Source:
    """A checked ONNX file: its nodes in an order in which they can run.

    ``constants``: initializers by name. ``opset``: of the default domain.
    """

    path: Path
    nodes: tuple[onnx.NodeProto, ...]
    constants: dict[str, Array]
    opset: int
    input: str
    form: Form
    output: str


def load(path: Path) -> Source:
    """The file at ``path``. Raises ``BadInput`` or ``Unsupported`` in one sentence."""
    model = parsed(path)
    graph = model.graph
    _check_external(model, path)
    constants = {tensor.name: _array(tensor, path) for tensor in graph.initializer}
    if graph.sparse_initializer or model.functions:
        raise Unsupported(f"{path} holds sparse tensors or functions of its own.", _REMEDY)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise Unsupported(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; a classifier has "
            "one of each.",
            "Cut out the classifier.",
        )
    opsets = {item.domain: item.version for item in model.opset_import}
    nodes = _ordered(graph.node, known={*constants, inputs[0].name, ""}, path=path)
    return Source(
        path, nodes, constants, opsets.get("", opsets.get("ai.onnx", 1)), inputs[0].name,
        _form(inputs[0], path), graph.output[0].name,
    )  # fmt: skip


def parsed(path: Path) -> onnx.ModelProto:
    """The message in ``path``, without the data it keeps elsewhere."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "onnx", purpose="Reading an ONNX file") from error
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} is larger than an ONNX file can be.", _REMEDY)
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except import_module("google.protobuf.message").DecodeError as error:
        raise BadInput(f"{path} is not an ONNX file, or is damaged.", _REMEDY) from error
    if not model.graph.node:
        raise BadInput(f"{path} holds no network.", _REMEDY)
    return model


def external_files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The files beside ``path`` that hold its tensors' data, each once.

    Raises ``BadInput`` for one that is missing, or that lies outside the folder of ``path``.
    """
    folder = path.resolve().parent
    found: dict[Path, None] = {}
    for tensor in _external(model):
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        place = (folder / location).resolve()
        if not location or not place.is_relative_to(folder):
            raise BadInput(
                f"{path} keeps the data of {tensor.name!r} in {location!r}, outside its folder.",
                "Keep the data in a file beside the model.",
            )
        if not place.is_file():
            raise BadInput(
                f"{path} keeps the data of {tensor.name!r} in {location!r}, which is not there.",
                "Put that file beside the model.",
            )
        found[place] = None
    return tuple(found)


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    from onnx import TensorProto

    constants = [
        attribute.t for node in model.graph.node for attribute in node.attribute
        if attribute.HasField("t")
    ]  # fmt: skip
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def _check_external(model: onnx.ModelProto, path: Path) -> None:
    """Loads what lies beside the file into ``model``."""
    from onnx import checker, external_data_helper

    if not external_files(model, path):
        return
    try:
        for tensor in _external(model):
            external_data_helper.load_external_data_for_tensor(tensor, str(path.resolve().parent))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise BadInput(
            f"The data that {path} keeps in other files cannot be read: {_first(error)}.", _REMEDY
        ) from error


def _array(tensor: onnx.TensorProto, path: Path) -> Array:
    from onnx import numpy_helper

    count = 1
    for size in tensor.dims:
        count *= max(int(size), 0)
    if count > MOST_VALUES or any(size < 0 for size in tensor.dims):
        raise BadInput(
            f"{path} says that {tensor.name!r} has {'x'.join(map(str, tensor.dims))} values, which "
            "is beyond what a classifier holds.",
            _REMEDY,
        )
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{path} holds a damaged tensor {tensor.name!r}: {_first(error)}.", _REMEDY
        ) from error


def constant_of(node: onnx.NodeProto, path: Path) -> Array | None:
    """What a Constant node holds; ``None`` for a form that is not read."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return _array(attribute.t, path)
        if attribute.name in ("value_float", "value_floats"):
            held = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            return np.asarray(held, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            held = attribute.i if attribute.name == "value_int" else list(attribute.ints)
            return np.asarray(held, np.int64)
    return None


def _form(value: onnx.ValueInfoProto, path: Path) -> Form:
    from onnx import helper

    tensor = value.type.tensor_type
    try:
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path} does not say what its input holds.", _REMEDY) from error
    dims = [int(d.dim_value) if d.dim_value > 0 else None for d in tensor.shape.dim]
    return Form(path, kind, tuple(dims))


def _ordered(nodes: onnx.NodeProto, *, known: set[str], path: Path) -> tuple[onnx.NodeProto, ...]:
    """``nodes`` so that each comes after those it reads. Raises ``BadInput`` for a circle."""
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        for name in node.input:
            if name not in made and name not in known:
                raise BadInput(
                    f"In {path}, {named(node)} reads {name!r}, which is nowhere.", _REMEDY
                )
    if len(made - {""}) < sum(1 for node in nodes for name in node.output if name):
        raise BadInput(f"In {path}, two nodes write one value.", _REMEDY)
    order: list[onnx.NodeProto] = []
    readers: dict[str, list[int]] = {}
    missing = []
    for index, node in enumerate(nodes):
        waits = {name for name in node.input if name in made and name not in known}
        missing.append(len(waits))
        for name in waits:
            readers.setdefault(name, []).append(index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    while ready:  # the first in the file that can run, so that an ordered file keeps its order
        node = nodes[heappop(ready)]
        order.append(node)
        for name in node.output:
            for index in readers.get(name, []):
                missing[index] -= 1
                if missing[index] == 0:
                    heappush(ready, index)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, missing, strict=True) if count > 0)
        raise BadInput(
            f"In {path}, {len(nodes) - len(order)} nodes read each other in a circle, "
            f"{named(stuck)} among them.",
            _REMEDY,
        )
    return tuple(order)


def named(node: onnx.NodeProto) -> str:
    """A node as a user finds it: its operator and its name, or what it writes."""
    name = node.name or (node.output[0] if node.output else "")
    return f"{node.op_type} {name!r}"


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
