"""What a test may need beyond the package itself, and what happens when it is not there.

``@pytest.mark.needs("ort")`` skips a test, with the reason, where onnxruntime is missing. A skip is
a result: it is listed and counted at the end. ``QADTR_REQUIRE=ort,real_data`` turns the skips for
want of those into failures, on machines that must have them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import sshd


def _package(name: str, extra: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if find_spec(name) else f"{name} is not installed: pip install -e '.[{extra}]'"

    return missing


def _real_data() -> str | None:
    folder = os.environ.get("QADTR_DATA")
    if folder is None:
        return "QADTR_DATA is unset: point it at a folder of real data"
    return None if Path(folder).is_dir() else f"QADTR_DATA={folder} is no folder"


def _brevitas() -> str | None:
    if find_spec("brevitas"):
        return None
    return "brevitas is not installed: pip install --no-deps -r tests/golden/brevitas.txt"


def _cuda() -> str | None:
    return (
        None if Path("/proc/driver/nvidia/version").exists() else "no NVIDIA driver on this machine"
    )


def _chromium() -> str | None:
    return None if shutil.which("chromium") else "no Chromium: apt-get install chromium"


def _sshd() -> str | None:
    return None if sshd.server() else "no OpenSSH server: apt-get install openssh-server"


def _trt() -> str | None:
    either = find_spec("tensorrt") or find_spec("tensorrt_rtx")
    return None if either else "neither tensorrt nor tensorrt-rtx is installed: extra trt"


if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # A slow machine is no defect: examples are judged by what they show, not by how long they take.
    settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("untimed")

NEEDS: dict[str, Callable[[], str | None]] = {
    "torch": _package("torch", "train"),
    "ort": _package("onnxruntime", "ort"),
    "trt": lambda: _trt() or _cuda(),
    "trt-rtx": _package("tensorrt_rtx", "trt-rtx"),
    "openvino": _package("openvino", "openvino"),
    "litert": _package("ai_edge_litert", "litert"),
    "loadgen": _package("mlperf_loadgen", "loadgen"),
    "art": _package("art", "peers"),
    "maite": _package("maite", "peers"),
    "mkdocs": _package("mkdocs", "docs"),
    "brevitas": _brevitas,
    "cuda": _cuda,
    "sshd": _sshd,
    "chromium": _chromium,
    "real_data": _real_data,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("QADTR_REQUIRE", "").split(",")))
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            reason = NEEDS[name]()
            if reason is not None and name in required:
                pytest.fail(f"QADTR_REQUIRE asks for {name}, but {reason}", pytrace=False)
            if reason is not None:
                pytest.skip(reason)


@pytest.fixture
def data_root() -> Path:
    """The folder of real data. For tests marked ``needs("real_data")``."""
    return Path(os.environ["QADTR_DATA"])
