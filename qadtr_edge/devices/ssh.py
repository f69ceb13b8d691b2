"""Commands on a device by the system's OpenSSH, as the user has configured it.

Keys, jump hosts, host keys and connection sharing are the user's own configuration. No question is
ever asked, and nothing waits for ever: what fails is one sentence of fact and one of remedy.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import QadtrError
from ..types import Json
from .listing import Device

OPTIONS = (
    "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3",
)  # fmt: skip
SSH_FAILED = 255
NOT_FOUND = (126, 127)


class DeviceFailed(QadtrError):
    """A device, or the way to it, refused."""


class ConnectionLost(DeviceFailed):
    """The way to the device broke, or never was: trying again later may help."""


def call(
    device: Device,
    words: Sequence[str],
    *,
    timeout_s: float,
    given: bytes = b"",
    sent: tuple[Path, int] | None = None,
) -> bytes:
    """What a command on the device writes to stdout.

    It reads ``given``, or with ``sent`` a file from an offset on. Raises ``DeviceFailed``, and
    ``ConnectionLost`` where trying again may help.
    """
    command = [*_ssh(device), device.target, shlex.join(words)]
    stream = None if sent is None else sent[0].open("rb")
    try:
        if stream is not None and sent is not None:
            # The child reads from the descriptor, so it is moved there, not in Python's buffer.
            os.lseek(stream.fileno(), sent[1], os.SEEK_SET)
        done = subprocess.run(
            command, stdin=stream, input=given if stream is None else None, capture_output=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DeviceFailed(
            "There is no ssh on this machine.", "Install OpenSSH: apt-get install openssh-client."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeviceFailed(
            f"A command on {device.name} gave no answer within {timeout_s:g} s: {words[0]}.",
            f"Look at it there: ssh {device.target}; or allow more with --timeout.",
        ) from error
    finally:
        if stream is not None:
            stream.close()
    if done.returncode:
        raise _failure(device, done.returncode, said=done.stderr.decode(errors="replace"))
    return done.stdout


def answer(
    device: Device, words: Sequence[str], *, timeout_s: float, given: bytes = b""
) -> dict[str, Json]:
    """The JSON object a command prints last; what a login prints before it is passed over."""
    text = call(device, words, timeout_s=timeout_s, given=given).decode(errors="replace")
    lines = text.strip().splitlines()
    try:
        value = json.loads(lines[-1])
    except (IndexError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise DeviceFailed(
            f"{device.name} answered {text[-80:].strip()!r} where a JSON object was due.",
            f"See what it prints at a login: ssh {device.target} true; then run again.",
        )
    return value


def _ssh(device: Device) -> list[str]:
    return ["ssh", *OPTIONS, *_own(device)]


def _own(device: Device) -> list[str]:
    """The options of this device."""
    port = [] if device.port is None else ["-p", str(device.port)]
    identity = [] if device.identity is None else ["-i", device.identity]
    return [*port, *identity]


def _failure(device: Device, code: int, *, said: str) -> DeviceFailed:
    """What the exit code and the last lines of stderr mean."""
    if code == SSH_FAILED:
        return _ssh_failure(device, said)
    if told := re.search(r"^Error: (.+)\n(.+)", said, re.MULTILINE):
        return DeviceFailed(f"{device.name}: {told[1].strip()}", told[2].strip())
    last = _last_line(said) or f"exit code {code}"
    if code in NOT_FOUND:
        return DeviceFailed(
            f"{device.name} cannot run {device.python} ({last}).",
            "Install Python 3.10 or newer there, or name another: qadtr-edge device add "
            f"{device.name} {device.target} --python PATH.",
        )
    if "No space left" in said or "quota" in said:
        return DeviceFailed(
            f"The disk of {device.name} is full ({last}).", "Free some space there, then run again."
        )
    return DeviceFailed(
        f"A command on {device.name} failed ({last}).", f"Look at it there: ssh {device.target}."
    )


def _ssh_failure(device: Device, said: str) -> DeviceFailed:
    if "Host key verification failed" in said:
        changed = "HAS CHANGED" in said
        fact = "is not the one this machine knows" if changed else "is not known to this machine"
        return DeviceFailed(
            f"The host key of {device.name} {fact}, so nothing was sent.",
            f"Check the key, and connect once by hand: ssh {_by_hand(device)}"
            + ("; a key that was replaced on purpose is forgotten by ssh-keygen -R." * changed)
            + ("." * (not changed)),
        )
    if "Permission denied" in said:
        return DeviceFailed(
            f"{device.name} does not accept this user's key for {device.target}.",
            f"Allow it: ssh-copy-id {_by_hand(device)}; a key with a passphrase needs ssh-agent.",
        )
    return ConnectionLost(
        f"{device.name} cannot be reached ({_last_line(said) or 'the connection broke'}).",
        f"Check that it is on and that this works: ssh {_by_hand(device)}; then run again: "
        "what is done there is not done twice.",
    )


def _by_hand(device: Device) -> str:
    """What ssh is given to reach the device, as a user would type it."""
    return shlex.join([*_own(device), device.target])


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200].rstrip(".") if lines else ""
