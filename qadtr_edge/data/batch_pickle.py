"""Reads a CIFAR-10 python batch without unpickling it.

A pickle is a program that can call anything. This reader lists its opcodes with the standard
library's disassembler, which runs nothing, and interprets the few that build plain values. A name
the pickle mentions (``numpy.ndarray``, say) stays a piece of text and a call stays a record of
what was to be called: there is no import, no lookup and no call here. The array is then read from
the record as bytes. Everything a batch never holds is refused by name.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass

import numpy as np

from ..types import Labels, Pixels

_MARK = object()

# As NumPy under Python 2 wrote the official files, and as Python 3 writes them at protocol 2.
_ARRAYS = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_DTYPE = "numpy dtype"
_ENCODE = "_codecs encode"
_NAMES = (*_ARRAYS, "numpy ndarray", _DTYPE, _ENCODE)

_VALUES = ("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORES = ("BINPUT", "LONG_BINPUT")
_LOADS = ("BINGET", "LONG_BINGET")
_IGNORED = ("PROTO", "STOP")


class NotABatch(ValueError):
    """The bytes are no CIFAR-10 batch; the message says what was met instead."""


@dataclass(frozen=True)
class _Name:
    """A name the pickle wants imported; it never is."""

    text: str


@dataclass
class _Call:
    """A call the pickle wants made; it never is."""

    name: str
    arguments: object
    state: object = None


def read_batch(content: bytes) -> tuple[Pixels, Labels]:
    """Images ``(n, 3, 32, 32) uint8`` and labels ``(n,) int64``. Raises ``NotABatch``."""
    try:
        value = _interpret(content)
        if not isinstance(value, dict):
            raise NotABatch("its content is no dictionary")
        images, labels = _array(value["data"]), value["labels"]
    except KeyError as error:
        raise NotABatch(f"it has no entry {error}") from error
    except (ValueError, IndexError, TypeError) as error:
        raise NotABatch(str(error)) from error
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise NotABatch("its labels are no list of integers")
    if images.ndim != 2 or images.shape != (len(labels), 3072):
        raise NotABatch(f"it has {len(labels)} labels and data of shape {images.shape}")
    return images.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


def _interpret(content: bytes) -> object:
    """The value a pickle describes, with names and calls left as records."""
    stack: list[object] = []
    memo: dict[object, object] = {}
    with warnings.catch_warnings():  # of how odd strings are read, which are refused below
        warnings.simplefilter("ignore", DeprecationWarning)
        operations = list(pickletools.genops(content))
    for opcode, argument, _ in operations:
        kind = opcode.name
        if kind in _VALUES:
            stack.append(argument)
        elif kind in _STORES:
            memo[argument] = stack[-1]
        elif kind in _LOADS:
            stack.append(memo[argument])
        elif kind in _CONSTANTS:
            stack.append(_CONSTANTS[kind])
        elif kind in _TUPLES:
            count = _TUPLES[kind]
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif kind not in _IGNORED:
            _build(kind, stack, argument=argument)
    (value,) = stack
    return value


def _build(kind: str, stack: list[object], *, argument: object) -> None:
    """One opcode that makes or fills a container, or names or calls something."""
    if kind == "MARK":
        stack.append(_MARK)
    elif kind == "EMPTY_DICT":
        stack.append({})
    elif kind == "EMPTY_LIST":
        stack.append([])
    elif kind == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif kind in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
        _fill(kind, stack)
    elif kind == "GLOBAL":
        if argument not in _NAMES:
            raise NotABatch(f"it wants to import {str(argument).replace(' ', '.')}")
        stack.append(_Name(str(argument)))
    elif kind == "REDUCE":
        arguments, name = stack.pop(), stack.pop()
        if not isinstance(name, _Name):
            raise NotABatch("it calls something that is no name")
        stack.append(_Call(name.text, arguments))
    elif kind == "BUILD":
        state, call = stack.pop(), stack[-1]
        if not isinstance(call, _Call):
            raise NotABatch("it sets the state of a plain value")
        call.state = state
    else:
        raise NotABatch(f"it holds the pickle opcode {kind}")


def _fill(kind: str, stack: list[object]) -> None:
    """Puts the top of the stack into the list or dictionary below it."""
    count = 1 if kind.startswith("APPEND") else 2
    items = _since_mark(stack) if kind.endswith("S") else [stack.pop() for _ in range(count)][::-1]
    holder = stack[-1]
    if count == 1 and isinstance(holder, list):
        holder.extend(items)
    elif count == 2 and isinstance(holder, dict):
        keys = [_text(key) for key in items[::2]]
        holder.update(zip(keys, items[1::2], strict=True))
    else:
        raise NotABatch(f"it has {kind} without a container")


def _since_mark(stack: list[object]) -> list[object]:
    """Takes the values above the last mark, and the mark, off the stack."""
    values: list[object] = []
    while (value := stack.pop()) is not _MARK:
        values.append(value)
    return values[::-1]


def _array(value: object) -> Pixels:
    """The ``uint8`` array a recorded reconstruction describes, its bytes copied out."""
    if not isinstance(value, _Call) or value.name not in _ARRAYS:
        raise NotABatch("its data is no array")
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise NotABatch("its array has no state")
    _, shape, dtype, by_columns, raw = value.state
    if not isinstance(dtype, _Call) or dtype.name != _DTYPE:
        raise NotABatch("its array has no type")
    if not isinstance(dtype.arguments, tuple) or _text(dtype.arguments[0]) != "u1" or by_columns:
        raise NotABatch("its array does not hold bytes in row order")
    return np.frombuffer(_text(raw).encode("latin-1"), dtype=np.uint8).reshape(shape)


def _text(value: object) -> str:
    """A string: Python 2 wrote one as text, Python 3 writes bytes as a call to ``encode``."""
    if isinstance(value, _Call) and value.name == _ENCODE and isinstance(value.arguments, tuple):
        value = value.arguments[0]
    if not isinstance(value, str):
        raise NotABatch(f"it holds a {type(value).__name__} where text belongs")
    return value
