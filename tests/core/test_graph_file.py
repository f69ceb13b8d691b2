"""Graph files: what goes in comes out, the digest is of the contents, damage is a sentence."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import handmade
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import graph as g
from qadtr_edge.integer import graph_file, judge
from qadtr_edge.types import QuantSpec


def tiny() -> g.IntegerGraph:
    """A graph written out by hand, so that its digest can stand in a test."""
    image = g.Tensor("images", (3, 1, 1), 0.0078125, -128, 127, 128)
    flat = replace(image, name="flat", shape=(3,))
    last = g.Linear(
        "last", "flat", "logits", np.array([[1, -2, 3], [4, 5, -6]], np.int8),
        np.array([0.1, 0.25], np.float32), np.array([7, -8], np.int32),
    )  # fmt: skip
    return g.IntegerGraph(
        (g.Flatten("flatten", "images", "flat"), last), {"images": image, "flat": flat}, "images",
        "logits", 2, QuantSpec(), {"model": "tiny"}, ("a note",),
    )  # fmt: skip


@pytest.mark.parametrize("name", handmade.GRAPHS)
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    graph = handmade.GRAPHS[name](bits=4)
    graph_file.save(graph, tmp_path / "sub" / "w4a4.npz")
    loaded = graph_file.load(tmp_path / "sub" / "w4a4.npz")
    assert loaded.tensors == graph.tensors
    assert (loaded.spec, loaded.source, loaded.notes) == (graph.spec, graph.source, graph.notes)
    assert [type(node) for node in loaded.nodes] == [type(node) for node in graph.nodes]
    assert graph_file.digest(loaded) == graph_file.digest(graph)
    pixels = handmade.images(4)
    np.testing.assert_array_equal(judge.run(loaded, pixels), judge.run(graph, pixels))
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["w4a4.npz"]


def test_the_digest_is_of_the_contents_on_any_machine(tmp_path: Path) -> None:
    assert graph_file.digest(tiny()) == (
        "d39c254f68e05f1db39afe74d61cd98633d6885ba70292889eb44303e88aca19"
    )
    graph_file.save(tiny(), tmp_path / "a.npz")
    with (
        zipfile.ZipFile(tmp_path / "a.npz") as old,
        zipfile.ZipFile(tmp_path / "b.npz", "w") as new,
    ):
        for name in reversed(old.namelist()):
            later = zipfile.ZipInfo(name, (2031, 2, 3, 4, 5, 6))
            new.writestr(later, old.read(name), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()
    assert graph_file.digest(graph_file.load(tmp_path / "b.npz")) == graph_file.digest(tiny())


def test_the_digest_sees_every_change() -> None:
    graph = tiny()
    last = graph.nodes[-1]
    assert isinstance(last, g.Linear)
    nudged = np.nextafter(last.weight_scale, np.float32(9))
    changed = [
        replace(graph, nodes=(graph.nodes[0], replace(last, weight=-last.weight))),
        replace(graph, nodes=(graph.nodes[0], replace(last, weight_scale=nudged))),
        replace(graph, nodes=(graph.nodes[0], replace(last, bias=last.bias + 1))),
        replace(graph, nodes=(replace(graph.nodes[0], name="other"), last)),
        replace(graph, spec=QuantSpec(bits=7)),
        replace(graph, source={"model": "other"}),
        replace(graph, tensors=graph.tensors | {"flat": replace(graph.tensors["flat"], high=126)}),
    ]
    digests = {graph_file.digest(each) for each in (graph, *changed)}
    assert len(digests) == len(changed) + 1


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no integer graph at .*qadtr-edge export"):
        graph_file.load(tmp_path / "none.npz")


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    graph_file.save(tiny(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="not a readable integer graph"):
        graph_file.load(path)


def rewritten(path: Path, **changes: object) -> None:
    """The file at ``path`` with fields of its header replaced."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays["header"])) | changes
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    graph_file.save(tiny(), path)
    rewritten(path, schema=graph_file.SCHEMA + 1)
    with pytest.raises(BadInput, match="schema 2; this version reads up to 1"):
        graph_file.load(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nodes": []}, "does not produce the logits"),
        ({"tensors": []}, "nothing has produced"),
        ({"logits": "other"}, "does not produce the logits"),
        ({"spec": {"colour": "red"}}, "damaged"),
        ({"nodes": [{"kind": "Teleport"}]}, "damaged"),
    ],
)
def test_a_graph_that_does_not_hang_together_is_refused(
    changes: dict[str, object], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "graph.npz"
    graph_file.save(tiny(), path)
    rewritten(path, **changes)
    with pytest.raises(BadInput, match=why):
        graph_file.load(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "graph.npz"
    graph_file.save(tiny(), path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **(arrays | {"1.weight": np.array([{"a": 1}], object)}))
    with pytest.raises(BadInput, match="not a readable integer graph"):
        graph_file.load(path)
