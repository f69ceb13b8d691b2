"""Writing ONNX: named constants, nodes in order, one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from qadtr_edge.errors import MissingDependency
from qadtr_edge.files import write_bytes

if TYPE_CHECKING:
    import onnx

MICROSOFT = "com.microsoft"
INPUT, OUTPUT = "images", "logits"
PROPERTY_GRAPH, PROPERTY_BITS = "qadtr-edge.graph", "qadtr-edge.bits"

IR_VERSION = 10
"""The first that knows opset 21; newer ones are refused by older runtimes for no gain."""

Attribute = int | float | str | Sequence[int]


class Writer:
    """Collects the nodes and constants of one model; every node name is unique."""

    def __init__(self) -> None:
        require_onnx()
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def constant(self, name: str, value: ArrayLike, *, kind: DTypeLike) -> str:
        """Name of an initializer holding ``value``; a scalar stays 0-d. Same name, same value."""
        from onnx import numpy_helper

        array = np.asarray(value, kind)
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)
        held = numpy_helper.to_array(self._constants[name])
        assert np.array_equal(held, array), f"two constants are called {name}"
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        output: str,
        name: str,
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
    ) -> str:
        """Appends one node and returns the name of its output."""
        from onnx import helper

        assert name not in self._names, f"two nodes are named {name}"
        self._names.add(name)
        made = helper.make_node(kind, inputs, [output], name=name, domain=domain)
        for attribute, value in sorted((attributes or {}).items()):
            plain = [int(v) for v in value] if isinstance(value, list | tuple) else value
            made.attribute.append(helper.make_attribute(attribute, plain))
        self.nodes.append(made)
        return output

    def model(
        self, *, size: Sequence[int], classes: int, opset: int, properties: dict[str, str]
    ) -> onnx.ModelProto:
        """The model: ``images`` uint8 (N, 3, H, W) in, ``logits`` float32 (N, K) out."""
        from onnx import TensorProto, helper

        image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", 3, *size])
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(
            self.nodes, "qadtr-edge", [image], [logits], list(self._constants.values())
        )
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="qadtr-edge")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, properties)
        return model


def require_onnx() -> None:
    """Raises ``MissingDependency`` where the onnx package is not installed."""
    from importlib.util import find_spec

    if find_spec("onnx") is None:
        raise MissingDependency("onnx", "onnx", purpose="Writing an ONNX file")


def save(model: onnx.ModelProto, path: Path) -> None:
    """Writes ``model`` whole or not at all; equal models, equal bytes."""
    write_bytes(path, model.SerializeToString(deterministic=True))
