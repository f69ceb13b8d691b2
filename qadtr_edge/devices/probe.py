"""What a device is: asked before a bundle is sent, and again, in full, by the bundle itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import provenance
from ..types import Json
from .state import state

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "tensorrt", "openvino")

FIRST_LOOK = """
import json, os, sys
folder, name = sys.argv[1:3]
home = os.path.join(os.path.expanduser("~"), folder, "bundles")
said = {"python": list(sys.version_info[:3]), "home": os.path.dirname(home)}
try:
    if not os.path.isdir(home):
        os.makedirs(home)
    disk = os.statvfs(home)
    said["free_bytes"] = disk.f_bavail * disk.f_frsize
except OSError as error:
    said["error"] = "%s: %s" % (error.filename, error.strerror)
whole = os.path.join(home, name)
said["whole"] = os.path.isfile(whole)
part = whole + ".part"
said["part_bytes"] = os.path.getsize(part) if os.path.isfile(part) else 0
try:
    import numpy
    said["numpy"] = numpy.__version__
except ImportError:
    said["numpy"] = None
print(json.dumps(said))
"""
"""Runs on any Python, 2.7 too, so that a device with an old one can be told so."""

ARRIVED = """
import hashlib, json, os, sys
whole, digest = sys.argv[1:3]
part, sha = whole + ".part", hashlib.sha256()
with open(part, "rb+") as file:
    for block in iter(lambda: file.read(1 << 20), b""):
        sha.update(block)
    os.fsync(file.fileno())
same = sha.hexdigest() == digest
if same:
    os.rename(part, whole)
else:
    os.remove(part)
print(json.dumps({"whole": same}))
"""
"""Renames what was sent to its final name if its bytes are those of the digest, else removes it."""


def probe(folder: Path) -> dict[str, Json]:
    """The device in full; what it does not tell is null. ``free_bytes``: of the disk of ``folder``.

    JetPack's and TensorRT's versions are those of the system's packages, as `dpkg` knows them.
    """
    return {
        **provenance.device(),
        **state(),
        "jetpack": _debian_package("nvidia-jetpack"),
        "tensorrt": _debian_package("tensorrt") or _debian_package("libnvinfer-bin"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free_bytes": shutil.disk_usage(folder).free,
        "versions": provenance.versions(),
        "runtimes": {name: _version(name) for name in RUNTIMES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _debian_package(name: str) -> str | None:
    """The version of an installed Debian package; ``None`` without it, or without Debian."""
    try:
        done = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", name], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
