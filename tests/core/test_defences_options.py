"""Options: what is set is taken, what is misspelt, mistyped or out of range is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("torch")

from qadtr_edge import registry
from qadtr_edge.defences.options import as_json, assignments, bounded, changed, recipe_file
from qadtr_edge.defences.recipes import build
from qadtr_edge.errors import BadInput, UnknownName


@dataclass(frozen=True)
class Inner:
    steps: int = bounded(5, 0, high=99)
    kind: Literal["A", "off"] = "A"


@dataclass(frozen=True)
class Outer:
    share: float = bounded(0.5, 0.0, high=1.0)
    sizes: tuple[int, ...] = bounded((6, 8), 1, high=50)  # type: ignore[type-var]
    on: bool = True
    word: str = "plain"
    inner: Inner = field(default_factory=Inner)


def test_what_is_set_is_taken_and_the_rest_keeps_its_default() -> None:
    found = changed(Outer(), {"share": 1, "inner": {"steps": 7}, "sizes": [4], "on": False})
    assert found == Outer(share=1.0, sizes=(4,), on=False, inner=Inner(steps=7))
    assert isinstance(found.share, float)
    assert changed(Outer(), {"sizes": 4}).sizes == (4,)  # one is a list of one


@pytest.mark.parametrize(
    ("given", "near"),
    [({"shre": 1}, "'share'"), ({"inner": {"stps": 1}}, "'inner.steps'"),
     ({"inner": {"kind": "of"}}, "'off'")],
)  # fmt: skip
def test_a_misspelt_option_is_answered_with_the_nearest(
    given: dict[str, object], near: str
) -> None:
    with pytest.raises(UnknownName) as caught:
        changed(Outer(), given)
    assert near in f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inner": {"steps": 2.5}}, "inner.steps is 2.5, not a whole number"),
        ({"inner": {"steps": True}}, "not a whole number"),
        ({"share": "half"}, "'half', not a number"),
        ({"share": True}, "not a number"),
        ({"on": 1}, "not true or false"),
        ({"word": 3}, "not a word"),
        ({"inner": 3}, "is a group"),
        ({"share": -0.1}, "outside 0 to 1"),
        ({"share": float("nan")}, "outside 0 to 1"),
        ({"inner": {"steps": 100}}, "inner.steps is 100, outside 0 to 99"),
        ({"sizes": [6, 51]}, "sizes is 51, outside 1 to 50"),
        ({"sizes": ["six"]}, "not a whole number"),
    ],
)
def test_a_wrong_value_is_refused_by_name(given: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        changed(Outer(), given)
    assert caught.value.remedy


def test_assignments_read_values_as_yaml_would() -> None:
    found = assignments(("a.b=2", "a.c=off", "d = 0.5", "e=true", "f=6,8", "g=1e-3"))
    assert found == {
        "a": {"b": 2, "c": "off"}, "d": 0.5, "e": True, "f": [6, 8], "g": 0.001,
    }  # fmt: skip
    assert isinstance(found["d"], float)


@pytest.mark.parametrize("pair", ["share", "=1", " =1"])
def test_what_assigns_nothing_is_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="assigns nothing"):
        assignments((pair,))


def test_a_value_has_no_members() -> None:
    with pytest.raises(BadInput, match="below a value"):
        assignments(("a=1", "a.b=2"))


def test_a_recipe_file_names_its_recipe_and_options(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: qadtr\ngir:\n  variant: off\npatches: on\na_qapa: {steps: 2}\n")
    settings = {"gir": {"variant": False}, "patches": True, "a_qapa": {"steps": 2}}
    assert recipe_file(path) == ("qadtr", settings)
    defence, options = build(str(path), settings=("a_qapa.steps=3",))
    assert defence.name == "qadtr"
    found = as_json(options)
    assert found["gir"]["variant"] == "off"  # YAML reads a bare off as false
    assert found["patches"] == "on"
    assert found["a_qapa"]["steps"] == 3  # --set comes on top


@pytest.mark.parametrize(
    ("text", "said"),
    [("steps: 3\n", "names no recipe"), ("- a\n", "names no recipe"), ("a: [\n", "not YAML")],
)
def test_a_broken_recipe_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        recipe_file(path)
    with pytest.raises(BadInput, match="cannot be read"):
        recipe_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", registry.names("defence"))
def test_options_of_every_recipe_go_through_a_manifest(name: str) -> None:
    _, options = build(name)
    stored = json.loads(json.dumps(as_json(options), allow_nan=False))
    make = registry.resolve("defence", name)
    assert changed(make.Options(), stored) == options
    with pytest.raises(UnknownName):
        build(name, settings=("no_such_option=1",))
