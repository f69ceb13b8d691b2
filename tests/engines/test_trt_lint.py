"""Planted files that TensorRT refuses, or silently reads as something else: each node is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qadtr_edge.export import lint, trt_form

import handmade
from qadtr_edge.errors import Unsupported
from qadtr_edge.integer.graph import NODE_TYPES

pytest.importorskip("onnx")

from trt_files import BAD, Model, clean

WIDTHS = (8, 7, 6, 5, 4, 3, 2)


@pytest.mark.parametrize("name", handmade.GRAPHS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_what_we_write_is_clean(name: str, bits: int) -> None:
    assert lint.findings(trt_form.spell_signed(handmade.GRAPHS[name](bits=bits), digest="d")) == []


@pytest.mark.parametrize(("plant", "node", "reason"), BAD, ids=[case[0].__name__ for case in BAD])
def test_a_bad_file_is_refused_by_name(
    plant: Callable[[Model], None], node: str, reason: str
) -> None:
    model = clean()
    plant(model)
    found = lint.findings(model)
    assert any(each.node == node and reason in each.reason for each in found), found
    with pytest.raises(Unsupported, match="TensorRT cannot run this file") as caught:
        lint.refuse_findings(model)
    assert found[0].node in caught.value.fact


def test_the_portable_file_is_no_file_for_tensorrt() -> None:
    from qadtr_edge.export.dialects import PORTABLE
    from qadtr_edge.export.qdq import PortableForm
    from qadtr_edge.export.spelling import spell

    model = spell(handmade.mobile(), PortableForm, dialect=PORTABLE, digest="d")
    reasons = " ".join(each.reason for each in lint.findings(model))
    assert "uint8" in reasons
    assert "int32" in reasons


def test_the_graphs_hold_every_node_type_but_the_foreign_ones() -> None:
    held = {type(node).__name__ for make in handmade.GRAPHS.values() for node in make().nodes}
    assert held == set(NODE_TYPES) - handmade.FOREIGN
