"""Naming devices, reading what ssh says, and merging: with a stand-in for ssh, and no device."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toy
from qadtr_edge import files, replay, runs
from qadtr_edge.cli import device
from qadtr_edge.cli.bundle import bundle
from qadtr_edge.devices import background, listing, merge, remote, ssh
from qadtr_edge.devices.listing import Device
from qadtr_edge.devices.remote import Limits, Order
from qadtr_edge.devices.ssh import ConnectionLost, DeviceFailed
from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.patch.placement import policy
from qadtr_edge.replay import Attacked, Unit
from qadtr_edge.report import evidence
from qadtr_edge.results import Store
from qadtr_edge.types import Patch

ONE = Device("one", "me@there")


@pytest.fixture(autouse=True)
def own_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QADTR_DEVICES", str(tmp_path / "devices.json"))


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in ssh's place; what it was called with lies beside it."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return script


def says(script: Path, body: str) -> None:
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {script.parent}/words\n{body}\n')
    script.chmod(0o755)


def test_devices_are_kept_changed_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    listing.add(Device("nano", "me@nano", 2222, "py", "key", "there"))
    listing.add(ONE)
    listing.add(Device("nano", "me@elsewhere"))
    assert listing.devices() == {"nano": Device("nano", "me@elsewhere"), "one": ONE}
    listing.remove("nano")
    assert listing.devices() == {"one": ONE}
    with pytest.raises(UnknownName, match="'nan'"):
        listing.remove("nan")


def test_without_a_file_of_its_own_the_listing_is_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QADTR_DEVICES")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    listing.add(ONE)
    assert (tmp_path / "config" / "qadtr-edge" / "devices.json").is_file()


@pytest.mark.parametrize(
    ("name", "target"),
    [("-x", "a@b"), ("a/b", "a@b"), ("..", "a@b"), ("", "a@b"), ("ort@x", "a@b"),
     ("a", "-oProxyCommand=evil"), ("a", "a b"), ("a", "")],
)  # fmt: skip
def test_what_would_be_an_option_or_a_path_is_no_device(name: str, target: str) -> None:
    with pytest.raises(BadInput):
        listing.add(Device(name, target))
    assert listing.devices() == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"schema": 2, "devices": []}', '{"schema": 1}',
                                  '{"schema": 1, "devices": [{"name": "x"}]}'])  # fmt: skip
def test_a_damaged_listing_is_refused(text: str) -> None:
    listing.listing().write_text(text)
    with pytest.raises(BadInput):
        listing.devices()


def test_ssh_gets_options_that_never_ask_and_one_quoted_command(fake_ssh: Path) -> None:
    says(fake_ssh, "cat; exit 0")
    device = Device("one", "me@there", 2222, identity="key file")
    assert ssh.call(device, ["echo", "a b; rm x"], timeout_s=5, given=b"in") == b"in"
    words = (fake_ssh.parent / "words").read_text().splitlines()
    assert words[-2:] == ["me@there", "echo 'a b; rm x'"]
    assert "BatchMode=yes" in words
    assert [words[words.index(option) + 1] for option in ("-p", "-i")] == ["2222", "key file"]
    assert not [word for word in words if "StrictHostKeyChecking" in word]


def test_a_file_is_sent_from_an_offset_on(fake_ssh: Path, tmp_path: Path) -> None:
    says(fake_ssh, "cat")
    (tmp_path / "file").write_bytes(b"0123456789")
    assert ssh.call(ONE, ["x"], timeout_s=5, sent=(tmp_path / "file", 4)) == b"456789"


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "fact"),
    [
        (255, "Host key verification failed.", DeviceFailed, "host key of one is not known"),
        (255, "REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
         DeviceFailed, "is not the one this machine knows"),
        (255, "me@there: Permission denied (publickey).", DeviceFailed, "does not accept"),
        (255, "ssh: connect to host there port 22: Connection refused", ConnectionLost, "refused"),
        (255, "", ConnectionLost, "the connection broke"),
        (127, "bash: python3: command not found", DeviceFailed, "cannot run python3"),
        (1, "cat: write error: No space left on device", DeviceFailed, "disk of one is full"),
        (2, "noise\nError: This is wrong.\nDo that.", DeviceFailed, "one: This is wrong"),
        (9, "", DeviceFailed, "exit code 9"),
    ],
)  # fmt: skip
def test_what_ssh_says_becomes_a_fact_and_a_remedy(
    fake_ssh: Path, code: int, stderr: str, kind: type[DeviceFailed], fact: str
) -> None:
    says(fake_ssh, f"cat >&2 <<'END'\n{stderr}\nEND\nexit {code}")
    with pytest.raises(DeviceFailed, match=fact) as told:
        ssh.call(ONE, ["python3"], timeout_s=5)
    assert type(told.value) is kind
    assert told.value.remedy


@pytest.mark.parametrize(
    "stderr", ["Host key verification failed.", "Permission denied (publickey).", "refused"]
)
def test_what_to_try_by_hand_goes_where_the_tool_went(fake_ssh: Path, stderr: str) -> None:
    says(fake_ssh, f"echo '{stderr}' >&2; exit 255")
    with pytest.raises(DeviceFailed) as told:
        ssh.call(Device("one", "me@there", 2222, identity="my key"), ["x"], timeout_s=5)
    assert " -p 2222 -i 'my key' me@there" in told.value.remedy


def test_a_command_that_hangs_is_left(fake_ssh: Path) -> None:
    says(fake_ssh, "exec sleep 30")
    with pytest.raises(DeviceFailed, match=r"no answer within 0\.3 s"):
        ssh.call(ONE, ["python3"], timeout_s=0.3)


def test_what_a_login_prints_is_passed_over(fake_ssh: Path) -> None:
    says(fake_ssh, "echo Welcome; echo '{\"a\": 1}'")
    assert ssh.answer(ONE, ["x"], timeout_s=5) == {"a": 1}
    says(fake_ssh, "echo Welcome")
    with pytest.raises(DeviceFailed, match="Welcome"):
        ssh.answer(ONE, ["x"], timeout_s=5)


def test_work_that_stands_still_is_told_and_left_running(fake_ssh: Path, tmp_path: Path) -> None:
    import threading

    (tmp_path / "b.pyz").write_bytes(b"bundle")
    said = {"python": [3, 11, 0], "numpy": "2", "whole": True, "part_bytes": 0, "free_bytes": 1,
            "home": "/there", "cpu": "x", "l4t": None, "jetpack": None, "power_mode": None,
            "memory_bytes": 1, "runtimes": {}, "state": "running", "done": 1, "units": 9,
            "log": ["one"]}  # fmt: skip
    says(fake_ssh, f"echo '{json.dumps(said)}'")
    limits = Limits(call_s=5, stall_s=0.2, poll_s=0.01, wait_s=0)
    order = Order.of(tmp_path / "b.pyz", threads=1)
    told: list[str] = []
    with pytest.raises(DeviceFailed, match="finished nothing"):
        remote.work(ONE, order, limits=limits, told=told.append, stop=threading.Event())
    assert told[-1] == "1/9 units finished; one"
    stop = threading.Event()
    stop.set()
    with pytest.raises(remote.Stopped):
        remote.work(ONE, order, limits=Limits(call_s=5), told=told.append, stop=stop)


def found_on_a_device(folder: Path) -> Store:
    """Results as a device would write them."""
    out = runs.Run(folder)
    store = Store(out.results, out.labels)
    engine, data = toy.Quadrants(), toy.pictures(40, split="test")
    subject = replay.Subject(engine, "toy", data)
    for seed in range(2):
        patch = Patch(np.full((3, 4, 4), 255 * seed, np.uint8), np.ones((4, 4), bool), None)
        said = Attacked("gap", "surrogate", "x", "T1", "T-A")
        unit = Unit(said, patch, policy("plain", image_px=16), seed)
        store.append(*replay.replay(unit, engine.facts, subject=subject))
    return store


def test_rows_of_a_device_are_merged_once_under_its_name(tmp_path: Path) -> None:
    there = found_on_a_device(tmp_path / "there")
    (tmp_path / "there" / background.DEVICE).write_text("{}")
    whole, begun = (f"patches/{name}.npz" for name in ("0123456789abcdef", "0123456789abcdee-0"))
    for name in (whole, begun):
        files.write_bytes(tmp_path / "there" / name, b"found")
    run = runs.new_run(tmp_path / "runs")
    sent = io.BytesIO()
    background.send(tmp_path / "there", sent)
    with tarfile.open(fileobj=io.BytesIO(sent.getvalue())) as archive:
        assert [name for name in archive.getnames() if name.startswith("patches")] == [whole]
    assert merge.keep(run, "nano", tar=sent.getvalue()) == 2
    assert merge.merge(run, "nano") == 2
    assert (run.patches / Path(whole).name).read_bytes() == b"found"
    assert merge.merge(run, "nano") == 0
    assert merge.keep(run, "orin", tar=sent.getvalue()) == 2
    assert merge.merge(run, "orin") == 2
    store = Store(run.results, run.labels)
    rows = store.rows()
    assert [row.engine for row in rows] == ["toy@nano"] * 2 + ["toy@orin"] * 2
    assert len({row.key for row in rows}) == 4
    assert [row.counts for row in rows[:2]] == [row.counts for row in there.rows()]
    for row, was in zip(rows[:2], there.rows(), strict=True):
        assert (store.outcomes(row.key).patched.labels
                == there.outcomes(was.key).patched.labels).all()  # fmt: skip
    raw = (merge.folder_of(run, "nano") / "results.jsonl").read_bytes()
    assert raw == (tmp_path / "there" / "results.jsonl").read_bytes()


def test_a_device_writes_only_where_it_may(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path / "runs")
    sent = io.BytesIO()
    with tarfile.open(fileobj=sent, mode="w") as archive:
        for name in ("../evil", "/tmp/evil", "labels/../../evil.npz", "manifest.json"):
            entry = tarfile.TarInfo(name)
            archive.addfile(entry, io.BytesIO())
        link = tarfile.TarInfo("device.json")
        link.type, link.linkname = tarfile.SYMTYPE, "../../manifest.json"
        archive.addfile(link)
    assert merge.keep(run, "nano", tar=sent.getvalue()) == 0
    assert [path for path in run.folder.rglob("*") if path.is_file()] == []
    with pytest.raises(BadInput, match="no whole archive"):
        merge.keep(run, "nano", tar=b"not a tar file")


def test_a_row_of_a_device_stands_while_the_engine_it_was_sent_does(tmp_path: Path) -> None:
    run = runs.new_run(tmp_path / "runs")
    files.write_bytes(run.engine("ort", 8) / "model.onnx", b"model")
    there = found_on_a_device(tmp_path / "there")
    row = replace(there.rows()[0], engine="ort@nano", bits=8)
    found = evidence.read(run)
    assert found.stands(replace(row, engine_digest=hashlib.sha256(b"model").hexdigest()))
    assert not found.stands(row)


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ({"attack": "gap,sweep", "out": Path("b.pyz")}, "sweep needs more"),
        ({"attack": "differential", "out": Path("b.pyz")}, "differential needs more"),
        ({"attack": "patch_rs_universal", "out": Path("b.pyz")}, "patch_rs_universal needs more"),
        ({"attack": "patch_rs_differential", "out": Path("b.pyz")}, "differential needs more"),
        ({"attack": "gap", "queries": 9, "out": Path("b.pyz")}, "--queries is an option of"),
        ({"attack": "gap", "out": Path("b.zip")}, r"does not end in \.pyz"),
        ({"attack": "gap", "out": Path(".")}, r"does not end in \.pyz"),
        ({"patch": Path("p.npz"), "steps": 3, "out": Path("b.pyz")}, "--steps says how to craft"),
        ({"patch": Path("p.npz"), "attack": "gap", "out": Path("b.pyz")}, "--attack says how to"),
        ({"patch": Path("p.npz"), "victim": "twin", "out": Path("b.pyz")}, "--victim says how to"),
        ({"attack": "imagenet_patch", "out": Path("b.pyz")}, "replays published patches"),
        ({"gaps": "", "out": Path("b.pyz")}, "--gaps '' is not a list"),
    ],
)
def test_what_a_bundle_cannot_carry_is_refused_before_the_work(
    tmp_path: Path, words: dict[str, object], fact: str
) -> None:
    with pytest.raises(BadInput, match=fact):
        bundle(runs=tmp_path, **words)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [device.run, device.pull])
def test_what_is_no_bundle_is_not_sent(
    verb: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "place_of", lambda *_, **__: pytest.fail("a device was asked"))
    run = runs.new_run(tmp_path / "runs")
    listing.add(Device("nano", "me@nano"))
    (tmp_path / "other.pyz").write_bytes(b"another file")
    for name in ("other.pyz", "none.pyz"):
        with pytest.raises(BadInput, match=f"{name} is no whole bundle"):
            verb(["nano"], bundle=tmp_path / name, into=run.folder)
