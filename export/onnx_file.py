"""Writing ONNX: named constants, nodes in order, one model whole on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    import onnx

MICROSOFT = "com.microsoft"
INPUT, OUTPUT = "images", "logits"

Attribute = int | float | str | Sequence[int]


class Writer:
    """Collects the nodes and constants of one model; every node name is unique."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, value: ArrayLike, kind: DTypeLike) -> str:
        """Name of an initializer holding ``value``; a scalar stays 0-d. Same name, same value."""
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value, kind), name)
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        *,
        name: str,
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
    ) -> str:
        """Appends one node and returns the name of its output."""
        from onnx import helper

        assert name not in self._names, f"two nodes are named {name}"
        self._names.add(name)
        self.nodes.append(
            helper.make_node(
                kind, inputs, [output], name=name, domain=domain, **(attributes or {})
            )
        )
        return output

    def model(
        self, *, size: tuple[int, int], classes: int, opset: int, properties: dict[str, str]
    ) -> onnx.ModelProto:
        """The model: ``images`` uint8 (N, 3, H, W) in, ``logits`` float32 (N, K) out."""
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", 3, *size])
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(
            self.nodes, "qadtr-edge", [image], [logits], list(self._constants.values())
        )
        domains = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="qadtr-edge")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, properties)
        return model


IR_VERSION = 10
"""The first that knows opset 21; newer ones are refused by older runtimes for no gain."""


def save(model: onnx.ModelProto, path: Path) -> None:
    """Writes ``model`` whole or not at all."""
    write(path, model.SerializeToString(deterministic=True))


def write(path: Path, content: bytes) -> None:
    """Writes ``content`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def as_list(array: NDArray[np.generic]) -> list[int]:
    """Plain integers, as ONNX attributes want them."""
    return [int(value) for value in array]
