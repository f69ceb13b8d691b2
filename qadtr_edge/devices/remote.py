"""A bundle on one device: sent by digest, started in the background, followed, brought back.

Every step may be cut off and repeated: the file goes on where it broke off, a worker that lives is
followed, one that died is started again, and what it finished is not redone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..files import digest
from ..types import Json
from . import ssh
from .listing import Device
from .probe import ARRIVED, FIRST_LOOK
from .ssh import ConnectionLost, DeviceFailed

OLDEST_PYTHON = (3, 10)
SLOWEST_BYTES_PER_S = 50_000
RESTARTS = 3
WAIT_S = 2.0
T = TypeVar("T")
Told = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """How long is waited: for the answer to a command, for a lost device to come back, for a unit
    to be finished. ``poll_s``: between two looks at the work; ``wait_s``: a look, for news.
    """

    call_s: float = 60.0
    patience_s: float = 120.0
    stall_s: float = 900.0
    poll_s: float = 2.0
    wait_s: float = 20.0


@dataclass(frozen=True, eq=False)
class Order:
    """A bundle, the threads of its engines, and the digest of the whole file: its name there."""

    bundle: Path
    threads: int
    digest: str

    @classmethod
    def of(cls, bundle: Path, *, threads: int) -> Order:
        return cls(bundle, threads, digest(bundle))


@dataclass(frozen=True, eq=False)
class Place:
    """Where on the device: the interpreter, the bundle, the folder of its results."""

    device: Device
    bundle: str
    out: str

    def words(self, verb: str, *more: str) -> list[str]:
        return [self.device.python, self.bundle, verb, *more]


class Stopped(Exception):
    """The user interrupted this side; the work on the device goes on."""


def work(
    device: Device, order: Order, *, limits: Limits, told: Told, stop: threading.Event
) -> bytes:
    """Runs the bundle on the device to its end; the tar file of what it found.

    Raises ``DeviceFailed`` for whatever keeps it from that; the finished part stays there.
    """
    place = upload(device, order, limits=limits, told=told, stop=stop)
    told(_described(ssh.answer(device, place.words("probe"), timeout_s=limits.call_s)))
    _follow(place, order, limits=limits, told=told, stop=stop)
    return pull(place, limits=limits, stop=stop)


def upload(
    device: Device, order: Order, *, limits: Limits, told: Told, stop: threading.Event
) -> Place:
    """The bundle stands on the device when this returns; nothing is sent that is there."""
    size = order.bundle.stat().st_size

    def attempt() -> Place:
        place, said = _look(device, order, limits=limits)
        begun = int(str(said["part_bytes"]))
        _check(device, said, needed_bytes=2 * size - begun)
        if not said["whole"]:
            _send(place, order, begun=begun, limits=limits, told=told)
        return place

    return _patiently(attempt, limits=limits, stop=stop, told=told)


def place_of(device: Device, order: Order, *, limits: Limits) -> Place:
    """Where the bundle is on the device. Raises ``DeviceFailed`` when it is not there."""
    place, said = _look(device, order, limits=limits)
    if not said["whole"]:
        raise DeviceFailed(
            f"{device.name} does not have this bundle.",
            f"Run it: qadtr-edge device run {device.name} --bundle {order.bundle}.",
        )
    return place


def _look(device: Device, order: Order, *, limits: Limits) -> tuple[Place, dict[str, Json]]:
    """Where the bundle is or will be on the device, and what the device said of itself."""
    name = f"{order.digest}.pyz"
    words = [device.python, "-", device.folder, name]
    said = ssh.answer(device, words, timeout_s=limits.call_s, given=FIRST_LOOK.encode())
    home = said.get("home")
    return Place(device, f"{home}/bundles/{name}", f"{home}/out/{order.digest[:16]}"), said


def pull(place: Place, *, limits: Limits, stop: threading.Event) -> bytes:
    """The tar file of what the device has found so far."""

    def attempt() -> bytes:
        words = place.words("send", "--out", place.out)
        return ssh.call(place.device, words, timeout_s=10 * limits.call_s)

    return _patiently(attempt, limits=limits, stop=stop, told=lambda text: None)


def _check(device: Device, said: dict[str, Json], *, needed_bytes: int) -> None:
    """Raises ``DeviceFailed`` for a device that cannot run the bundle, before it is sent."""
    version = said["python"]
    assert isinstance(version, list)
    spoken = ".".join(map(str, version))
    again = f"qadtr-edge device add {device.name} {device.target} --python PATH"
    if tuple(int(str(part)) for part in version[:2]) < OLDEST_PYTHON:
        raise DeviceFailed(
            f"{device.python} on {device.name} is Python {spoken}; 3.10 is the oldest that works.",
            f"Install a newer one there (JetPack 6 has it) and name it: {again}.",
        )
    if said["numpy"] is None:
        raise DeviceFailed(
            f"{device.python} on {device.name} has no NumPy.",
            f"Install it there ({device.python} -m pip install numpy), or name the Python that "
            f"has it: {again}.",
        )
    if "error" in said:
        raise DeviceFailed(
            f"{device.name} cannot hold the bundle ({said['error']}).",
            "Free some space there, or name another folder: qadtr-edge device add --folder.",
        )
    free = int(str(said["free_bytes"]))
    if not said["whole"] and free < needed_bytes:
        raise DeviceFailed(
            f"{device.name} has {free / 1e6:.1f} MB free at {said['home']}; the bundle and its "
            f"results need {needed_bytes / 1e6:.1f} MB.",
            "Free some space there, or name another folder: qadtr-edge device add --folder.",
        )


def _send(place: Place, order: Order, *, begun: int, limits: Limits, told: Told) -> None:
    """Sends the rest of the file; what was there of another file is found out by the digest."""
    device = place.device
    left = order.bundle.stat().st_size - begun
    if left >= 0:
        told(f"sending {left / 1e6:.1f} MB" + (f", {begun / 1e6:.1f} are there" if begun else ""))
        ssh.call(
            device, ["sh", "-c", 'cat >> "$1"', "sh", f"{place.bundle}.part"],
            timeout_s=limits.call_s + left / SLOWEST_BYTES_PER_S, sent=(order.bundle, begun),
        )  # fmt: skip
    words = [device.python, "-", place.bundle, order.digest]
    said = ssh.answer(device, words, timeout_s=limits.call_s, given=ARRIVED.encode())
    if not said["whole"]:
        raise ConnectionLost(
            f"What arrived on {device.name} is not what was sent.", "Run it again: it is sent anew."
        )


def _follow(
    place: Place, order: Order, *, limits: Limits, told: Told, stop: threading.Event
) -> None:
    """Starts the work where it does not run, and returns when it is done."""
    out = ("--out", place.out)
    start = place.words("start", *out, "--threads", str(order.threads))
    look = place.words("status", *out)
    wait = [*look, "--wait", str(limits.wait_s)]
    restarts, shown, moved_s = 0, "", time.monotonic()
    said = _asked(place, look, limits=limits, told=told, stop=stop)
    is_done = said["state"] == "done" and said["threads"] == order.threads
    if said["state"] != "running" and not is_done:
        said = _asked(place, start, limits=limits, told=told, stop=stop)
    while True:
        state = said["state"]
        if state == "done":
            return
        if state == "failed":
            raise DeviceFailed(f"{place.device.name}: {said['fact']}", str(said["remedy"]))
        if state != "running":
            if restarts == RESTARTS:
                raise DeviceFailed(
                    f"The work on {place.device.name} was killed {RESTARTS + 1} times.",
                    f"Read why there: {place.out}/log.txt.",
                )
            restarts += 1
            told("the work stopped there; starting it again")
            said = _asked(place, start, limits=limits, told=told, stop=stop)
            continue
        now = _progress(said)
        if now != shown:
            told(now)
            shown, moved_s = now, time.monotonic()
        elif time.monotonic() - moved_s > limits.stall_s:
            raise DeviceFailed(
                f"{place.device.name} has finished nothing for {limits.stall_s:g} s.",
                f"It still runs there; read {place.out}/log.txt, or run again to wait on.",
            )
        if stop.wait(limits.poll_s):
            raise Stopped
        said = _asked(place, wait, limits=limits, told=told, stop=stop)


def _asked(
    place: Place, words: list[str], *, limits: Limits, told: Told, stop: threading.Event
) -> dict[str, Json]:
    return _patiently(
        lambda: ssh.answer(place.device, words, timeout_s=limits.call_s + limits.wait_s),
        limits=limits, stop=stop, told=told,
    )  # fmt: skip


def _patiently(attempt: Callable[[], T], *, limits: Limits, stop: threading.Event, told: Told) -> T:
    """What ``attempt`` gives, tried again while the connection is lost and patience lasts."""
    end_s = time.monotonic() + limits.patience_s
    while True:
        try:
            return attempt()
        except ConnectionLost as error:
            if time.monotonic() > end_s:
                raise
            told(f"{error.fact} Trying again …")
            if stop.wait(WAIT_S):
                raise Stopped from error


def _progress(said: dict[str, Json]) -> str:
    log = said["log"]
    last = log[-1] if isinstance(log, list) and log else "starting"
    return f"{said['done']}/{said['units'] or '?'} units finished; {last}"


def _described(said: dict[str, Json]) -> str:
    """One line of what a device is."""
    runtimes = said["runtimes"]
    assert isinstance(runtimes, dict)
    has = [f"{name} {version}" for name, version in runtimes.items() if version]
    parts = [
        str(said["cpu"]),
        str(said["l4t"] or ""),
        f"JetPack {said['jetpack']}" if said["jetpack"] else "",
        f"power mode {said['power_mode']}" if said["power_mode"] else "",
        f"{int(str(said['memory_bytes'])) / 1e9:.1f} GB memory",
        f"{int(str(said['free_bytes'])) / 1e9:.1f} GB free",
        ", ".join(has) or "no runtime by package",
    ]
    return "; ".join(part for part in parts if part)
