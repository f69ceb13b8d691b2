"""Names resolve lazily, unknown ones are answered, other packages can add theirs."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import pytest

import qadtr_edge.zoo
from qadtr_edge import registry
from qadtr_edge.errors import BadInput, UnknownName

CODE = [
    (kind, name)
    for kind, table in registry.TABLES.items()
    for name, path in table.items()
    if ":" in path
]


@pytest.mark.parametrize(("kind", "name"), CODE)
def test_every_name_stands_for_something_that_exists(kind: str, name: str) -> None:
    module, _, attribute = registry.path_of(kind, name).partition(":")
    assert find_spec(module), f"{module} does not exist"
    if kind in {"attack", "per-image attack", "defence", "model"}:
        pytest.importorskip("torch")
    assert hasattr(import_module(module), attribute)


def test_every_packaged_model_is_there() -> None:
    folder = Path(qadtr_edge.zoo.__file__ or "").parent
    for file in registry.TABLES["packaged model"].values():
        assert (folder / file).is_file(), f"{file} is not packaged"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        registry.resolve("model", "resnet21")
    assert "resnet2" in caught.value.remedy


def added(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    point = EntryPoint(name, value, "qadtr_edge.engines")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])


def test_another_package_adds_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, "mine", "json:loads")
    assert "mine" in registry.names("engine")
    assert registry.resolve("engine", "mine") is import_module("json").loads


def test_another_package_cannot_replace_a_built_in_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    added(monkeypatch, "ort", "json:loads")
    assert registry.path_of("engine", "ort").startswith("qadtr_edge.export")
    assert registry.names("engine").count("ort") == 1


@pytest.mark.parametrize("value", ["no_such_module:x", "json:no_such_name"])
def test_a_broken_addition_is_not_our_bug(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    added(monkeypatch, "mine", value)
    with pytest.raises(BadInput, match="cannot be loaded"):
        registry.resolve("engine", "mine")


def test_a_model_is_a_function_of_the_users_own_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nets_of_mine.py").write_text("def tiny(classes, pixel_input): return classes\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    built = registry.resolve("model", "nets_of_mine:tiny")
    assert built(3, None) == 3  # type: ignore[operator]


@pytest.mark.parametrize("name", ["no_such_file:net", "json:net"])
def test_a_function_that_is_not_there_is_said(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(BadInput, match=name) as caught:
        registry.resolve("model", name)
    assert "module:function" in caught.value.remedy


@pytest.mark.parametrize(("text", "told"), [("def f(:", "SyntaxError"), ("x = y", "NameError")])
def test_a_file_that_does_not_load_is_not_our_bug(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f"broken_{told.lower()}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(BadInput, match=told):
        registry.resolve("model", f"broken_{told.lower()}:f")


def test_only_models_are_named_so() -> None:
    with pytest.raises(UnknownName):
        registry.resolve("engine", "json:loads")


@pytest.mark.parametrize("name", [":f", ".nets:f", "nets:", "my nets:f", "nets:f:g"])
def test_what_is_no_module_and_function_is_an_unknown_model(name: str) -> None:
    with pytest.raises(UnknownName):
        registry.resolve("model", name)
