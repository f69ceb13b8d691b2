"""The CIFAR-10 python batch is read without ever running what is in it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_files import PER_BATCH, pictures, python_batch
from qadtr_edge.data.batch_pickle import NotABatch, read_batch

IMAGES, LABELS = pictures()["test_batch"]
ROW = np.zeros((1, 3072), np.uint8)
BATCH = python_batch(IMAGES, LABELS)
SMALL = python_batch(IMAGES[:2], LABELS[:2])


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_the_official_format_is_read() -> None:
    images, labels = read_batch(BATCH)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_handmade_batch_is_what_python_2_wrote() -> None:
    """The standard library, which does run pickles, agrees on what the fixture holds."""
    value = pickle.loads(SMALL.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"),
                         encoding="latin1")  # fmt: skip
    np.testing.assert_array_equal(value["data"], IMAGES[:2].reshape(2, 3072))
    assert value["labels"] == LABELS[:2].tolist()


def test_a_batch_rewritten_by_python_3_is_read() -> None:
    value = {b"data": IMAGES.reshape(PER_BATCH, 3072), b"labels": LABELS.tolist()}
    images, labels = read_batch(pickle.dumps(value, protocol=2))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "ran"
    content = pickle.dumps({"labels": [1], "data": Hostile(f"touch {trace}")}, protocol=protocol)
    with pytest.raises(NotABatch):
        read_batch(content)
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists(), "the pickle is not hostile: the test proves nothing"


def test_a_name_that_does_not_belong_is_told() -> None:
    with pytest.raises(NotABatch, match=r"wants to import (posix|nt)\.system"):
        read_batch(pickle.dumps(Hostile("true"), protocol=2))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "."),
        (b"not a pickle", "."),
        (SMALL[:-2000], "."),
        (b"S'\\u1234'\n.", "."),  # an escape that Python itself warns of
        (pickle.dumps([1, 2], protocol=2), "no dictionary"),
        (pickle.dumps({"labels": [1]}, protocol=2), "no entry 'data'"),
        (pickle.dumps({"data": 3, "labels": [1]}, protocol=2), "data is no array"),
        (pickle.dumps({"data": ROW[:, :5], "labels": [1]}, protocol=2), "shape"),
        (pickle.dumps({"data": ROW.astype(float), "labels": [1]}, protocol=2), "bytes"),
        (pickle.dumps({"data": ROW, "labels": ["a"]}, protocol=2), "list"),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(NotABatch, match=told):
        read_batch(content)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_refused_or_read_never_anything_else(data: st.DataObject) -> None:
    content = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 260) | st.integers(len(content) - 60, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try:
        images, labels = read_batch(bytes(content))
    except NotABatch:
        return
    assert images.shape == (len(labels), 3, 32, 32)
