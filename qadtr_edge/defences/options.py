"""Options of a defence: frozen dataclasses, read from a recipe file or from ``--set KEY=VALUE``.

A recipe file is YAML: ``recipe: NAME`` and any of that recipe's options, nested as the dataclasses
are. What is left out keeps its default; what is misspelt, of another type or out of range is
refused by name. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from ..errors import BadInput, MissingDependency, UnknownName
from ..types import Json

Options = TypeVar("Options")
Number = TypeVar("Number", int, float)


def bounded(default: Number, low: float, *, high: float) -> Number:
    """A dataclass field with an inclusive range: ``steps: int = bounded(5, 0, high=99)``."""
    found: Number = field(default=default, metadata={"range": (low, high)})
    return found


def changed(options: Options, values: Mapping[str, object], *, where: str = "") -> Options:
    """``options`` with ``values`` in place of its own, nested mappings inside nested dataclasses.

    Raises ``UnknownName`` for an option that is not there and ``BadInput`` for a wrong value.
    """
    assert is_dataclass(options)
    assert not isinstance(options, type)
    known = {item.name: item for item in fields(options)}
    hints = get_type_hints(type(options))
    new: dict[str, object] = {}
    for name, value in values.items():
        path = f"{where}{name}"
        if name not in known:
            raise UnknownName("option", path, tuple(f"{where}{each}" for each in known))
        own = getattr(options, name)
        if is_dataclass(own):
            if not isinstance(value, Mapping):
                raise BadInput(
                    f"The option {path} is a group, not {value!r}.",
                    f"Give one of its members, for example {path}.{fields(own)[0].name}.",
                )
            new[name] = changed(own, value, where=f"{path}.")
        else:
            new[name] = _checked(value, hints[name], path=path)
            _check_range(new[name], known[name].metadata.get("range"), path=path)
    return cast(Options, replace(options, **new))


def assignments(pairs: Sequence[str]) -> dict[str, object]:
    """``("gir.variant=B", "a_qapa.steps=2")`` as nested mappings.

    Raises ``BadInput`` for a pair without ``=``.
    """
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"--set {pair!r} assigns nothing.", "Write --set gir.variant=B.")
        *groups, name = key.strip().split(".")
        inner = found
        for group in groups:
            deeper = inner.setdefault(group, {})
            if not isinstance(deeper, dict):
                raise BadInput(f"--set {pair!r} goes below a value.", f"Set {group} only once.")
            inner = deeper
        inner[name] = _scalar(text.strip())
    return found


def recipe_file(path: Path) -> tuple[str, dict[str, object]]:
    """The recipe a YAML file names, and the options it sets.

    Raises ``BadInput`` for a file that cannot be read or names no recipe.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency("pyyaml", "train", purpose="Reading a recipe file") from error
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}).", "Give a YAML file.") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} is not YAML ({reason}).", "Correct that line.") from error
    if not isinstance(value, dict) or not isinstance(value.get("recipe"), str):
        raise BadInput(f"{path} names no recipe.", "Begin it with a line such as `recipe: qadtr`.")
    settings = {str(name): each for name, each in value.items() if name != "recipe"}
    return value["recipe"], settings


def as_json(options: object) -> dict[str, Json]:
    """The options as a manifest holds them."""
    assert is_dataclass(options)
    assert not isinstance(options, type)
    return cast("dict[str, Json]", _plain(asdict(options)))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _scalar(text: str) -> object:
    """A number, a truth value, a list ``6,8`` or a word, as YAML would read it."""
    if text in ("true", "false"):
        return text == "true"
    if "," in text:
        return [_scalar(part.strip()) for part in text.split(",") if part.strip()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _checked(value: object, hint: object, *, path: str) -> object:
    """``value`` as the annotation ``hint`` wants it; ``BadInput`` when it is something else."""
    if get_origin(hint) is Literal:
        words = get_args(hint)
        if isinstance(value, bool):  # YAML reads a bare on or off as a truth value
            value = "on" if value else "off"
        if value not in words:
            raise UnknownName(f"value of {path}", str(value), tuple(map(str, words)))
        return value
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        listed = value if isinstance(value, list | tuple) else [value]
        return tuple(_checked(each, inner, path=path) for each in listed)
    is_bool = isinstance(value, bool)
    if hint is bool and is_bool:
        return value
    if hint is int and isinstance(value, int) and not is_bool:
        return value
    if hint is float and isinstance(value, int | float) and not is_bool:
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    spoken = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    wanted = spoken.get(cast(type, hint), str(hint))
    raise BadInput(f"The option {path} is {value!r}, not {wanted}.", f"Give {path}={wanted}.")


def _check_range(value: object, limits: tuple[float, float] | None, *, path: str) -> None:
    if limits is None:
        return
    low, high = limits
    for each in value if isinstance(value, tuple) else (value,):
        assert isinstance(each, int | float)
        if not low <= each <= high:  # also refuses NaN
            raise BadInput(
                f"The option {path} is {each}, outside {low:g} to {high:g}.",
                f"Give a value from {low:g} to {high:g}.",
            )
