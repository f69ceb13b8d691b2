"""``device`` end to end, against a real OpenSSH server on loopback. A device is a folder, and an
interpreter that has NumPy and onnxruntime and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lean
import packed
import sshd
from qadtr_edge import runs
from qadtr_edge.cli import app
from qadtr_edge.devices import listing, remote
from qadtr_edge.devices.listing import Device
from qadtr_edge.devices.remote import Limits, Order
from qadtr_edge.devices.ssh import DeviceFailed
from qadtr_edge.results import Store

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "sshd")]

UNITS = 16
LIMITS = Limits(call_s=30.0, patience_s=30.0, poll_s=0.2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    found = sshd.made(tmp_path_factory.mktemp("sshd"))
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a device whose disk is slow enough to be interrupted."""
    home = tmp_path_factory.mktemp("device")
    return lean.interpreter(home, "numpy", "onnxruntime", site=lean.SLOW_DISK)


@pytest.fixture(scope="module")
def packed_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, Path]:
    home = tmp_path_factory.mktemp("packed")
    run = packed.run(home / "runs")
    packed.bundle(home / "b.pyz", run, patches=6)
    return run, home / "b.pyz"


@pytest.fixture(autouse=True)
def own_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: sshd.Server
) -> Iterator[None]:
    monkeypatch.setenv("QADTR_DEVICES", str(tmp_path / "devices.json"))
    monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
    yield
    server.known_as(server.host_key)


def device(name: str, server: sshd.Server, *, python: Path | str, folder: Path) -> Device:
    found = Device(name, server.target, server.port, str(python), folder=str(folder))
    listing.add(found)
    return found


def qadtr(*words: str | Path) -> tuple[int, dict[str, list[dict[str, object]]]]:
    """Exit code of ``device …``, and what it says with ``--json``."""
    done = CliRunner().invoke(app, ["device", *map(str, words), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout)


def test_two_devices_at_once_and_their_rows_in_the_run(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    run, file = packed_run
    for name in ("nano", "orin"):
        device(name, server, python=python, folder=tmp_path / name)
    code, said = qadtr("run", "--all", "--bundle", file, "--run", run.folder)
    assert code == 0
    assert [(row["device"], row["state"], row["units"], row["new"]) for row in said["devices"]] == [
        ("nano", "done", UNITS, UNITS), ("orin", "done", UNITS, UNITS)
    ]  # fmt: skip
    homes = [run.folder / "devices" / name for name in ("nano", "orin")]
    assert (homes[0] / "results.jsonl").read_bytes() == (homes[1] / "results.jsonl").read_bytes()
    rows = Store(run.results, run.labels).rows()
    assert {row.engine for row in rows} == {"ort@nano", "ort@orin"}
    assert len({row.key for row in rows}) == 2 * UNITS
    first, same = rows[0], next(row for row in rows if row.engine == "ort@orin")
    assert (first.counts, first.patch_digest) == (same.counts, same.patch_digest)
    bench = json.loads((homes[0] / "bench.json").read_text())
    assert {row["engine_digest"] for row in bench["results"]} == {row.engine_digest for row in rows}
    assert json.loads((homes[1] / "device.json").read_text())["device"]["versions"]["numpy"]

    again = time.monotonic()
    told: list[str] = []
    order = Order.of(file, threads=1)
    remote.work(listing.devices()["nano"], order, limits=LIMITS, told=told.append,
                stop=threading.Event())  # fmt: skip
    assert not [text for text in told if "sending" in text or "units" in text]
    assert time.monotonic() - again < 20
    bench = homes[0] / "bench.json"
    code, _ = qadtr("run", "nano", "--bundle", file, "--run", run.folder, "--threads", "2")
    assert (code, json.loads(bench.read_text())["threads"]) == (0, 2)
    code, said = qadtr("pull", "nano", "--bundle", file, "--run", run.folder)
    assert (code, said["devices"][0]["new"]) == (0, 0)


def test_a_connection_killed_and_a_device_that_goes_down_end_the_same(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    _, file = packed_run
    order = Order.of(file, threads=1)
    whole = device("whole", server, python=python, folder=tmp_path / "whole")
    cut = device("cut", server, python=python, folder=tmp_path / "cut")
    part = tmp_path / "cut" / "bundles" / f"{order.digest}.pyz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(file.read_bytes()[:100_000])
    told: list[str] = []
    got: list[bytes] = []

    def work() -> None:
        got.append(remote.work(cut, order, limits=LIMITS, told=told.append, stop=threading.Event()))

    thread = threading.Thread(target=work)
    thread.start()
    out = tmp_path / "cut" / "out" / order.digest[:16]
    _until(lambda: _lines(out) >= 3, thread)
    server.stop()
    before = _lines(out)
    _until(lambda: any("Trying again" in text for text in told), thread)
    _until(lambda: _lines(out) > before, thread)  # the work does not need the connection
    os.kill(json.loads((out / "outcome.json").read_text())["pid"], signal.SIGKILL)  # power is lost
    assert _lines(out) < UNITS
    server.start()
    thread.join(60)
    assert not thread.is_alive()
    sent = (file.stat().st_size - 100_000) / 1e6
    assert told[0] == f"sending {sent:.1f} MB, 0.1 are there"
    assert "the work stopped there; starting it again" in told
    expected = remote.work(
        whole, order, limits=LIMITS, told=lambda text: None, stop=threading.Event()
    )
    assert len(got) == 1
    assert _sent(got[0], "results.jsonl") == _sent(expected, "results.jsonl")
    assert len(_sent(got[0], "results.jsonl").splitlines()) == UNITS


def test_a_part_of_another_file_is_sent_anew(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    order = Order.of(packed_run[1], threads=1)
    one = device("one", server, python=python, folder=tmp_path / "one")
    part = tmp_path / "one" / "bundles" / f"{order.digest}.pyz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(5000))
    place = remote.upload(one, order, limits=LIMITS, told=lambda text: None, stop=threading.Event())
    assert Path(place.bundle).read_bytes() == packed_run[1].read_bytes()
    assert not part.exists()


@pytest.mark.parametrize("known", ["other", ""])
def test_a_wrong_host_key_is_refused(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path, known: str
) -> None:
    """Nothing is asked and nothing is sent, for a key that changed and for one never seen."""
    run, file = packed_run
    device("spoofed", server, python=python, folder=tmp_path / "there")
    other = (server.home / "stranger.pub").read_text().strip()
    server.known_as(other if known else "")
    code, said = qadtr("run", "spoofed", "--bundle", file, "--run", run.folder)
    assert code == 2
    row = said["devices"][0]
    assert row["state"] == "failed"
    expected = "is not the one this machine knows" if known else "is not known to this machine"
    assert expected in str(row["fact"])
    assert not (tmp_path / "there").exists()


def test_devices_that_fail_are_rows_beside_one_that_works(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    """No runtime, no NumPy, no Python, an old Python, a command that hangs, nobody there."""
    run, file = packed_run
    bare = lean.interpreter(tmp_path / "bare")
    alone = lean.interpreter(tmp_path / "alone", "numpy")
    scripts = {"hangs": "sleep 60", "old": 'echo \'{"python": [3, 8, 10], "part_bytes": 0}\''}
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    pythons = {"works": python, "no-runtime": alone, "no-numpy": bare, "no-python": "python9",
               "old-python": tmp_path / "old", "hanging": tmp_path / "hangs"}  # fmt: skip
    for name, path in pythons.items():
        device(name, server, python=path, folder=tmp_path / f"on-{name}")
    listing.add(Device("gone", server.target, 1, str(python)))
    begun = time.monotonic()
    code, said = qadtr("run", "--all", "--bundle", file, "--run", run.folder, "--timeout", "10",
                       "--patience", "0")  # fmt: skip
    assert time.monotonic() - begun < 50
    assert code == 2
    why = {row["device"]: f"{row['fact']} {row['remedy']}" for row in said["devices"]}
    state = {row["device"]: row["state"] for row in said["devices"]}
    assert state == {name: "done" if name == "works" else "failed" for name in (*pythons, "gone")}
    assert "needs the package onnxruntime" in why["no-runtime"]
    assert f"{alone} -m pip install onnxruntime" in why["no-runtime"]
    assert "has no NumPy" in why["no-numpy"]
    assert re.search(r"cannot run python9 .*not found", why["no-python"])
    assert "is Python 3.8.10; 3.10 is the oldest" in why["old-python"]
    assert "gave no answer within 10 s" in why["hanging"]
    assert "cannot be reached" in why["gone"]


def test_a_key_that_may_not_enter_is_said(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], tmp_path: Path
) -> None:
    one = Device("closed", f"nobody-here@{server.target.split('@')[1]}", server.port, str(python))
    with pytest.raises(DeviceFailed, match="does not accept this user's key"):
        remote.upload(one, Order.of(packed_run[1], threads=1), limits=LIMITS,
                      told=lambda text: None, stop=threading.Event())  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB; mounting one is for root only, and not everywhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command for a small disk")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_before_and_after_the_bundle_is_there(
    server: sshd.Server, python: Path, packed_run: tuple[runs.Run, Path], small_disk: Path
) -> None:
    run, file = packed_run
    one = device("full", server, python=python, folder=small_disk / "kept")
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - file.stat().st_size))
    command = ("run", "full", "--bundle", file, "--run", run.folder)
    code, said = qadtr(*command)
    assert code == 2
    assert "MB free" in str(said["devices"][0]["fact"])
    filler.unlink()
    place = remote.upload(
        one, Order.of(file, threads=1), limits=LIMITS, told=lambda text: None,
        stop=threading.Event(),
    )  # fmt: skip
    assert Path(place.bundle).is_file()
    with filler.open("wb", buffering=0) as all_of_it:
        try:
            while True:
                all_of_it.write(bytes(4096))
        except OSError as error:
            assert error.errno == 28  # noqa: PT017
    code, said = qadtr(*command)
    assert code == 2
    assert "No space left on device" in str(said["devices"][0]["fact"])
    assert "Free some space" in str(said["devices"][0]["remedy"])
    filler.unlink()
    code, said = qadtr(*command)
    assert (code, said["devices"][0]["units"]) == (0, UNITS)


def _lines(out: Path) -> int:
    results = out / "results.jsonl"
    return results.read_bytes().count(b"\n") if results.is_file() else 0


def _until(what, thread: threading.Thread) -> None:  # type: ignore[no-untyped-def]
    while not what():
        assert thread.is_alive()
        time.sleep(0.02)


def _sent(tar: bytes, name: str) -> bytes:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()
