"""A real OpenSSH server on loopback, of this user's, with keys and configuration of its own.

Put ``bin`` at the front of ``PATH``: its ``ssh`` is the system's with a configuration that knows
this server, so neither the user's keys nor the user's known hosts are read or written.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ALIVE_S = 20


def server() -> str | None:
    """Path of ``sshd``, which is often not on a user's PATH; ``None`` where it is not installed."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


@dataclass
class Server:
    """``target`` and ``port`` are what ssh is given."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def target(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    def start(self) -> None:
        path = server()
        assert path is not None
        words = [path, "-D", "-e", "-f", str(self.home / "sshd_config")]
        log = (self.home / "sshd.log").open("ab")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        end_s = time.monotonic() + ALIVE_S
        while time.monotonic() < end_s and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self.home / "sshd.log").read_text())

    def stop(self) -> None:
        """Ends the server and every connection it has: to the other side the device is gone."""
        if self.process is None:
            return
        sessions = _descendants(self.process.pid)
        for pid in (self.process.pid, *sessions):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None

    def known_as(self, public_key: str) -> None:
        """Writes what the client takes for the host key of this server; empty: it knows none."""
        host = f"[127.0.0.1]:{self.port}"
        (self.home / "known_hosts").write_text(f"{host} {public_key}\n" if public_key else "")

    @property
    def host_key(self) -> str:
        return (self.home / "host.pub").read_text().strip()


def made(home: Path, *, told: dict[str, str] | None = None, alias: str = "") -> Server:
    """A server that is not started yet; only the key in ``home`` may log in.

    ``told``: what the environment of a session says. ``alias``: a host that the client knows as it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Server(home, port)
    found.bin.mkdir(parents=True)
    for name in ("host", "user", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True
        )
    shutil.copy(home / "user.pub", home / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own folder, made at boot on real machines
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/authorized_keys\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 100\nLogLevel VERBOSE\n"
        + "SetEnv" * bool(told)
        + "".join(f" {name}={value}" for name, value in (told or {}).items())
        + "\n"
    )
    known = f"Host {alias}\nHostName 127.0.0.1\nPort {port}\nHost *\n" if alias else ""
    (home / "ssh_config").write_text(
        f"{known}IdentityFile {home}/user\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {home}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
    )
    real = shutil.which("ssh")
    wrapper = found.bin / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {real} -F {home}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    found.known_as(found.host_key)
    return found


def _descendants(pid: int) -> list[int]:
    """Processes under ``pid`` that belong to its connections: those that made no session."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, open_ = [], [pid]
    while open_:
        children = parents.get(open_.pop(), [])
        found += children
        open_ += children
    return found
