"""One suite for every engine of the registry that can be built here from an integer graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import handmade
from qadtr_edge import registry
from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.files import digest
from qadtr_edge.integer import judge
from qadtr_edge.integer.graph import NODE_TYPES, IntegerGraph
from qadtr_edge.types import Engine, EngineFacts

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
def test_every_bit_is_the_judges(
    engine: str, name: str, bits: int, is_unsigned: bool, tmp_path: Path
) -> None:
    graph = handmade.GRAPHS[name](bits=bits, unsigned=is_unsigned, seed=bits)
    facts = built(engine, graph, tmp_path)
    assert (facts.precision, facts.float_layers, facts.bits) == ("integer", (), bits)
    assert facts.integer_kernels >= sum(
        type(node).__name__ in {"Conv", "Linear", "Add", "Mul"} for node in graph.nodes
    )
    pixels = handmade.images(24, seed=bits)
    with opened(engine, tmp_path) as made:
        np.testing.assert_array_equal(made(pixels), judge.run(graph, pixels))


@pytest.mark.parametrize("is_tied", [False, True])
def test_free_and_strict_scales_are_exact_too(engine: str, is_tied: bool, tmp_path: Path) -> None:
    from qadtr_edge.export.parity import native_rounding

    pixels = handmade.images(24)
    for powers in (False, True):
        graph = handmade.residual(bits=8, tied=is_tied, powers_of_two=powers, seed=5)
        built(engine, graph, tmp_path)
        with opened(engine, tmp_path) as made:
            expected = judge.run(graph, pixels, add=native_rounding())
            np.testing.assert_array_equal(made(pixels), expected)


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
        assert facts.runtime.split()[0] in {"onnxruntime"}
        assert facts.device["cpu_flags"] is not None
    first = (tmp_path / ARTEFACT).read_bytes()
    built(engine, graph, tmp_path)
    assert (tmp_path / ARTEFACT).read_bytes() == first, "equal graphs, equal bytes"
