"""A store is append-only, survives being killed, and says what it cannot read."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qadtr_edge import results
from qadtr_edge.errors import BadInput
from qadtr_edge.results import Answers, Outcomes, Store
from qadtr_edge.types import Counts, Result


def row(key: str = "a") -> Result:
    return Result(
        key=key, engine="ort", bits=8, precision="integer", attack="gap", knowledge="simulation",
        victim="twin-w8a8", goal="untargeted", target=None, tier="T1", threat="T-A",
        patch_size_px=6, patch_rows_px=6, patch_columns_px=6, mask_digest="m",
        patch_seed=0, placement="random", seed=0,
        counts=results.count(outcomes(), target=None), queries_median=None, engine_digest="e",
        patch_digest="p", data_digest="d", simulation_digest="s",
    )  # fmt: skip


def answers(*labels: int) -> Answers:
    return Answers(np.array(labels, np.int64), np.array(labels, np.float32) / 3)


def outcomes() -> Outcomes:
    """Truth 0 1 2 1 0: the engine is right on all but the last, the simulation on the last four."""
    return Outcomes(
        ids=np.arange(5) + 70,
        truth=np.array([0, 1, 2, 1, 0]),
        clean=answers(0, 1, 2, 1, 2),
        patched=answers(1, 1, 1, 0, 0),
        sim_clean=answers(1, 1, 2, 1, 0),
        sim_patched=answers(0, 0, 1, 1, 0),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results.jsonl", tmp_path / "labels")


def test_counts_by_hand() -> None:
    assert results.count(outcomes(), target=None) == Counts(
        n=5, clean_correct=4, eligible=4, fooled=3, patched_correct=2, changed=4, target_hits=None,
        sim_eligible=4, sim_fooled=2, both_eligible=3, both_fooled=1, sim_only=1, engine_only=1,
    )  # fmt: skip
    assert results.count(outcomes(), target=1) == Counts(
        n=5, clean_correct=4, eligible=2, fooled=2, patched_correct=2, changed=4, target_hits=3,
        sim_eligible=2, sim_fooled=1, both_eligible=1, both_fooled=1, sim_only=0, engine_only=0,
    )  # fmt: skip


def test_rows_and_labels_come_back(store: Store) -> None:
    assert store.rows() == ()
    store.append(row("a"), outcomes())
    store.append(row("b"), replace(outcomes(), sim_clean=None, sim_patched=None))
    assert store.rows() == (row("a"), row("b"))
    assert store.finished("a") == row("a")
    assert store.finished("c") is None
    found = store.outcomes("a")
    assert results.count(found, target=None) == row().counts
    assert found.patched.margins.dtype == np.float32
    assert store.outcomes("b").sim_clean is None


def test_a_line_is_plain_json_with_its_schema(store: Store) -> None:
    store.append(row(), outcomes())
    (line,) = store.lines.read_text().splitlines()
    value = json.loads(line, parse_constant=pytest.fail)
    assert value["schema"] == results.SCHEMA
    assert value["counts"]["fooled"] == 3


def test_nan_is_never_written(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.append(replace(row(), queries_median=float("nan")), outcomes())
    assert store.rows() == ()


@settings(max_examples=30)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_cut_by_the_next_append(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    store = Store(folder / "results.jsonl", folder / "labels")
    store.append(row("a"), outcomes())
    store.append(row("b"), outcomes())
    whole = store.lines.read_bytes()
    store.lines.write_bytes(whole[:-cut])
    assert store.rows() == (row("a"),)
    store.append(row("b"), outcomes())
    assert store.lines.read_bytes() == whole


def test_the_cost_of_an_append_does_not_grow_with_the_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read for the first append and the second, then never again."""
    genuine, reads = Path.read_bytes, []

    def read_bytes(path: Path) -> bytes:
        reads.append(path)
        return genuine(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    for number in range(30):
        store.append(row(f"unit-{number}"), outcomes())
        assert store.finished(f"unit-{number}") is not None
    assert reads.count(store.lines) <= 2
    assert len(store.rows()) == 30
    assert Store(store.lines, store.labels).rows() == store.rows()


def test_what_another_process_wrote_meanwhile_is_read_and_kept(store: Store) -> None:
    other = Store(store.lines, store.labels)
    for number in range(3):
        store.append(row(f"mine-{number}"), outcomes())
        other.append(row(f"theirs-{number}"), outcomes())
    with store.lines.open("ab") as file:
        file.write(b'{"schema":1,"key":"torn')
    store.append(row("last"), outcomes())
    keys = [f"{whose}-{number}" for number in range(3) for whose in ("mine", "theirs")]
    for each in (store, other, Store(store.lines, store.labels)):
        assert [one.key for one in each.rows()] == [*keys, "last"]
    store.lines.unlink()
    assert store.rows() == ()


def test_a_row_without_its_labels_is_done_again(store: Store) -> None:
    store.append(row(), outcomes())
    next(store.labels.iterdir()).unlink()
    assert store.finished("a") is None
    with pytest.raises(BadInput, match="missing"):
        store.outcomes("a")
    store.append(row(), outcomes())
    assert store.rows() == (row(),)


@pytest.mark.parametrize("damage", [b"", b"zip?", None])
def test_damaged_labels_are_said_to_be(store: Store, damage: bytes | None) -> None:
    store.append(row(), outcomes())
    path = next(store.labels.iterdir())
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    with pytest.raises(BadInput, match="damaged"):
        store.outcomes("a")


def test_a_newer_schema_is_refused_and_left_alone(store: Store) -> None:
    store.append(row(), outcomes())
    newer = store.lines.read_text().replace('"schema":1', '"schema":2').encode()
    store.lines.write_bytes(newer)
    store = Store(store.lines, store.labels)  # as the next command opens it
    with pytest.raises(BadInput, match="schema 2") as error:
        store.rows()
    assert "Update" in error.value.remedy
    with pytest.raises(BadInput, match="schema 2"):
        store.append(row("b"), outcomes())
    assert store.lines.read_bytes() == newer


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", "{}", '{"schema":1}', '{"schema":1,"counts":{"n":1}}', "null"]
)
def test_a_line_that_is_no_result_is_named_by_number(store: Store, line: str) -> None:
    store.append(row(), outcomes())
    with store.lines.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match="Line 2"):
        store.rows()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"bits":8', '"bits":"8"', "bits is '8'"),
        ('"seed":0,"counts"', '"seed":-1,"counts"', "seed is -1"),
        ('"engine":"ort"', '"engine":3', "engine is 3"),
        ('"goal":"untargeted"', '"goal":"any"', "goal is 'any'"),
        ('"queries_median":null', '"queries_median":NaN', "queries_median is nan"),
        ('"n":5', '"n":5.0', "counts.n is 5.0"),
        ('"n":5', '"n":null', "counts.n is None"),
        ('"fooled":3', '"fooled":true', "counts.fooled is True"),
        ('"fooled":3', '"fooled":-3', "counts.fooled is -3"),
        ('"fooled":3', '"fooled":5', "counts.fooled is 5 and counts.eligible 4"),
        ('"eligible":4,"fooled":3', '"eligible":0,"fooled":0', "counts.eligible is 0"),
        ('"n":5', '"n":3', "counts.clean_correct is 4 and counts.n 3"),
    ],
)
def test_values_no_unit_can_have_are_named_with_file_and_line(
    store: Store, before: str, after: str, said: str
) -> None:
    store.append(row("a"), outcomes())
    store.append(row("b"), outcomes())
    first, second = store.lines.read_text().splitlines()
    assert before in second
    store.lines.write_text(f"{first}\n{second.replace(before, after, 1)}\n")
    with pytest.raises(BadInput) as error:
        Store(store.lines, store.labels).rows()
    assert said in error.value.fact
    assert f"Line 2 of {store.lines}" in error.value.fact


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_two_sentences_and_loses_nothing(
    store: Store, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(row("a"), outcomes())
    before = store.lines.read_bytes()
    genuine = os.write

    def full(handle: int, content: bytes = b"") -> int:
        if os.fstat(handle).st_ino != store.lines.stat().st_ino:
            return genuine(handle, content) if content else 0
        if call == "write":
            genuine(handle, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(results.os, call, full)
        with pytest.raises(BadInput, match="No space left") as error:
            store.append(row("b"), outcomes())
    assert "space" in error.value.remedy
    assert store.lines.read_bytes() == before
    store.append(row("b"), outcomes())
    assert store.rows() == (row("a"), row("b"))


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_results import row, outcomes
from qadtr_edge.results import Store
store = Store(Path("results.jsonl"), Path("labels"))
for number in range({units}):
    key = f"unit-{{number:03}}"
    if store.finished(key) is None:
        store.append(row(key), outcomes())
    print(key, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_and_resumed_is_the_same_as_never_stopped(tmp_path: Path) -> None:
    code = WRITER.format(tests=str(Path(__file__).parent), units=40)
    command = [sys.executable, "-c", code]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    subprocess.run(command, cwd=whole, check=True, stdout=subprocess.DEVNULL)
    for after in (7, 24):
        with subprocess.Popen(command, cwd=killed, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(after):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    subprocess.run(command, cwd=killed, check=True, stdout=subprocess.DEVNULL)
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.*"))
    assert len(names) == 41
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_the_key_ignores_order_and_nothing_else() -> None:
    keys = {results.key(value) for value in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"})}
    assert len(keys) == 4
    assert results.key({"a": 1, "b": 2}) == results.key({"b": 2, "a": 1})
