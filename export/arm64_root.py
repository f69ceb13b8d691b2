"""A folder with an arm64 Python, numpy and onnxruntime, for QEMU's ``-L``: unpacked, not installed.

Debian's own packages and the runtime's own wheels, the versions of this machine. onnxruntime asks
the kernel about the CPU when it is imported, and would be told of the host: the folder answers for
an Arm core instead.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qadtr_edge.errors import Unsupported

DEBIAN = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0",
    "liblzma5", "libuuid1", "libcrypt1", "libncursesw6", "libtinfo6", "libreadline8",
    "libsqlite3-0", "libnsl2", "libtirpc3", "libdb5.3", "libgomp1", "python3.11-minimal",
    "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip
"""Of Debian 12, which has Python 3.11."""

WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
READY = "ready"


@dataclass(frozen=True)
class Root:
    """``folder``: for ``-L``; ``python``: its interpreter; ``site``: numpy and onnxruntime."""

    folder: Path
    python: Path
    site: Path


def prepare(cache: Path, *, packages: Mapping[str, str]) -> Root:
    """The root in ``cache``, made on first use with these versions of Python ``packages``."""
    named = "-".join(f"{name}{number}" for name, number in sorted(packages.items()))
    folder, site = cache / "root", cache / f"site-{named}"
    if not (folder / READY).is_file():
        unpack(folder, DEBIAN, architecture="arm64")
        _answer_for_an_arm_core(folder)
        (folder / READY).touch()
    if not (site / READY).is_file():
        _wheels(site, packages)
        (site / READY).touch()
    return Root(folder, folder / "usr" / "bin" / "python3.11", site)


def unpack(folder: Path, packages: Sequence[str], *, architecture: str | None) -> None:
    """Downloads Debian packages and unpacks them into ``folder``, as an ordinary user.

    Raises ``Unsupported`` where there is no apt, no network, or no such package.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unsupported(
                f"Emulation needs QEMU, and there is no {program} to fetch it with.",
                "Install qemu-user-static, or run this on Debian 12.",
            )
    lists, archives = folder / "apt" / "lists", folder / "apt" / "archives"
    for made in (lists / "partial", archives / "partial"):
        made.mkdir(parents=True, exist_ok=True)
    options = [
        f"-oDir::State::Lists={lists}", f"-oDir::Cache={folder / 'apt'}",
        "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache=", "-oDebug::NoLocking=1",
    ]  # fmt: skip
    if architecture is not None:
        options += [f"-oAPT::Architecture={architecture}", f"-oAPT::Architectures={architecture}"]
    _run(["apt-get", *options, "-qq", "update"], within=archives)
    _run(["apt-get", *options, "-qq", "download", *packages], within=archives)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(folder)], within=archives)
    shutil.rmtree(folder / "apt")


def _wheels(site: Path, packages: Mapping[str, str]) -> None:
    """The arm64 wheels of ``packages``, unpacked."""
    downloads = site / "wheels"
    downloads.mkdir(parents=True, exist_ok=True)
    platforms = [word for tag in WHEELS for word in ("--platform", tag)]
    wanted = [f"{name}=={number}" for name, number in packages.items()]
    _run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
         "--python-version", "3.11", "--implementation", "cp", *platforms, "-d", str(downloads),
         *wanted],
        within=site,
    )  # fmt: skip
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(site)
    shutil.rmtree(downloads)


def _run(command: list[str], *, within: Path) -> None:
    done = subprocess.run(
        command, cwd=within, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unsupported(
            f"Setting up the emulation failed at {command[0]}: {said[:300]}",
            "It needs Debian 12 with a network, once; qemu-user-static can also be installed.",
        )


FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)


def _answer_for_an_arm_core(root: Path) -> None:
    """The files of /sys and /proc that onnxruntime reads about the CPU, of one Cortex-A76."""
    cpu = "sys/devices/system/cpu"
    files = {f"{cpu}/{name}": "0" for name in ("possible", "present", "online")}
    files[f"{cpu}/kernel_max"] = "255"
    files[f"{cpu}/cpu0/cpufreq/cpuinfo_max_freq"] = "2188800"
    files[f"{cpu}/cpu0/cpufreq/cpuinfo_min_freq"] = "115200"
    for name in ("physical_package_id", "cluster_id", "core_id", "core_siblings_list",
                 "cluster_cpus_list", "core_cpus_list", "package_cpus_list",
                 "thread_siblings_list"):  # fmt: skip
        files[f"{cpu}/cpu0/topology/{name}"] = "0"
    for name in ("core_siblings", "cluster_cpus", "core_cpus", "package_cpus", "thread_siblings"):
        files[f"{cpu}/cpu0/topology/{name}"] = "1"
    caches = (("1", "Data", "64K"), ("1", "Instruction", "64K"), ("2", "Unified", "256K"))
    for index, (level, kind, size) in enumerate(caches):
        described = {"level": level, "type": kind, "size": size, "shared_cpu_list": "0",
                     "coherency_line_size": "64", "number_of_sets": "256",
                     "ways_of_associativity": "4"}  # fmt: skip
        for name, text in described.items():
            files[f"{cpu}/cpu0/cache/index{index}/{name}"] = text
    files["proc/cpuinfo"] = (
        f"processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: {FEATURES}\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd0b\nCPU revision\t: 1"
    )
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
