"""One suite for every engine of the registry that can be built here from an integer graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from qadtr_edge.export.tolerance import EXACT, Tolerance

import handmade
from qadtr_edge import registry
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.files import digest
from qadtr_edge.integer.graph import NODE_TYPES, IntegerGraph
from qadtr_edge.types import Engine, EngineFacts, Parity

ARTEFACT = "model.onnx"
ENGINES = [
    pytest.param(name, marks=pytest.mark.needs(name))
    for name in registry.names("engine")
    if name in registry.names("builder")
]
WIDTHS = (8, 6, 4, 3, 2)

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def built(engine: str, graph: IntegerGraph, folder: Path) -> EngineFacts:
    build = cast(Callable[..., EngineFacts], registry.resolve("builder", engine))
    return build(graph, folder, threads=1)


def opened(engine: str, folder: Path) -> Engine:
    make = cast(Callable[..., Engine], registry.resolve("engine", engine))
    return make(folder / ARTEFACT, threads=1)


def tolerance_of(engine: str) -> Tolerance:
    if engine not in registry.names("tolerance"):
        return EXACT
    return cast(Tolerance, registry.resolve("tolerance", engine))


def assert_parity(engine: str, graph: IntegerGraph, folder: Path) -> None:
    """What the engine answers to noise is the judge's, within what is said beside the engine."""
    tolerance, pixels = tolerance_of(engine), handmade.images(24, seed=graph.spec.bits)
    compare = cast(Callable[..., Parity], registry.resolve("parity", engine))
    with opened(engine, folder) as made:
        found = compare(graph, made, images=pixels, model=folder / ARTEFACT)
        largest = np.abs(made(pixels)).max()
    assert found.logit_mismatches == 0 or tolerance != EXACT
    assert found.argmax_mismatches <= tolerance.classes_share * len(pixels)
    first = next((each for each in found.layers if each.mismatches), None)
    if first is not None:
        is_last = first.layer == graph.nodes[-1].name
        allowed = tolerance.logits_relative * largest if is_last else tolerance.code_steps
        assert first.max_abs_diff <= allowed, first


@pytest.fixture
def ready(engine: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine of a small residual network at 4 bits."""
    built(engine, handmade.residual(bits=4), tmp_path)
    with opened(engine, tmp_path) as made:
        yield made


def test_the_graphs_hold_every_node_type(engine: str) -> None:
    held = {type(node).__name__ for make in handmade.GRAPHS.values() for node in make().nodes}
    assert held == set(NODE_TYPES) - handmade.FOREIGN


@pytest.mark.parametrize("name", handmade.GRAPHS)
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("is_unsigned", [False, True])
def test_what_runs_is_integer_and_the_judges(
    engine: str, name: str, bits: int, is_unsigned: bool, tmp_path: Path
) -> None:
    graph = handmade.GRAPHS[name](bits=bits, unsigned=is_unsigned, seed=bits)
    facts = built(engine, graph, tmp_path)
    kinds, tolerance = {n.name: type(n).__name__ for n in graph.nodes}, tolerance_of(engine)
    assert {kinds[name] for name in facts.float_layers} <= tolerance.float_nodes
    assert facts.precision == ("mixed" if facts.float_layers else "integer")
    assert facts.bits == bits
    weighted = {"Conv", "Linear", "Add", "Mul"} - tolerance.fused_nodes
    assert facts.integer_kernels >= sum(kind in weighted for kind in kinds.values())
    assert_parity(engine, graph, tmp_path)


@pytest.mark.parametrize("is_tied", [False, True])
def test_free_and_strict_scales_too(engine: str, is_tied: bool, tmp_path: Path) -> None:
    for powers in (False, True):
        graph = handmade.residual(bits=8, tied=is_tied, powers_of_two=powers, seed=5)
        built(engine, graph, tmp_path)
        assert_parity(engine, graph, tmp_path)


def test_logits_are_float32_of_the_right_shape(ready: Engine) -> None:
    for count in (1, 2, 7):
        logits = ready(handmade.images(count))
        assert logits.shape == (count, 10)
        assert logits.dtype == np.float32
    assert ready(handmade.images(1)[:0]).shape == (0, 10)


def test_answers_do_not_depend_on_time_or_company(ready: Engine) -> None:
    pixels = handmade.images(9)
    whole = ready(pixels)
    np.testing.assert_array_equal(ready(pixels), whole)
    one_by_one = np.concatenate([ready(pixels[i : i + 1]) for i in range(9)])
    np.testing.assert_array_equal(one_by_one, whole)
    np.testing.assert_array_equal(ready(pixels[::-1]), whole[::-1])


def test_the_input_is_left_alone_and_the_answer_is_ours(ready: Engine) -> None:
    pixels = handmade.images(3)
    before = pixels.copy()
    first = ready(pixels)
    kept = first.copy()
    ready(255 - pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(first, kept)


def test_after_close_every_call_is_an_error(ready: Engine) -> None:
    ready.close()
    with pytest.raises(EngineFailed, match="is closed"):
        ready(handmade.images(1))
    ready.close()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 8, 8), np.float32),
        np.zeros((2, 3, 9, 8), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
    ],
    ids=["float", "other size", "channels last", "no batch"],
)
def test_images_of_another_kind_are_a_sentence(ready: Engine, wrong: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadInput, match=r"takes uint8 images \(N, 3, 8, 8\)"):
        ready(wrong)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "absent"])
def test_a_damaged_file_is_a_sentence(engine: str, damage: str, tmp_path: Path) -> None:
    built(engine, handmade.residual(), tmp_path)
    path = tmp_path / ARTEFACT
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            path.write_bytes(np.random.default_rng(0).bytes(5000))
        case "empty":
            path.write_bytes(b"")
        case _:
            path.unlink()
    with pytest.raises((BadInput, EngineFailed), match=r"model\.onnx") as caught:
        opened(engine, tmp_path)
    assert "export" in caught.value.remedy


def test_facts_are_of_the_file_that_runs(engine: str, tmp_path: Path) -> None:
    graph = handmade.mobile(bits=4)
    facts = built(engine, graph, tmp_path)
    with opened(engine, tmp_path) as made:
        assert made.facts == facts
        assert facts.engine == engine
        assert facts.digest == digest(tmp_path / ARTEFACT)
        assert facts.runtime.split()[0] in {"onnxruntime", "openvino"}
        assert facts.device["cpu_flags"] is not None
    first = (tmp_path / ARTEFACT).read_bytes()
    built(engine, graph, tmp_path)
    assert (tmp_path / ARTEFACT).read_bytes() == first, "equal graphs, equal bytes"
