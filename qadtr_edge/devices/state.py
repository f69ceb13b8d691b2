"""The state a machine was in when it was timed: power mode, clocks, temperature, throttling.

Everything is read as an ordinary user; what the system does not tell is null. Nothing is changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..types import Json

ROOT = Path("/")


def state(root: Path = ROOT) -> dict[str, Json]:
    """What the latency and the energy of this machine depend on.

    - ``l4t``: release line of a Jetson; ``power_mode``: by ``nvpmodel``.
    - ``clocks_locked``: whether every CPU core and the GPU run at one fixed frequency; null where
      frequencies cannot be read.
    - ``temperature_c``: the hottest zone; ``throttled``: whether a cooling device is at work.
    """
    return {
        "l4t": _line(root / "etc/nv_tegra_release"),
        "power_mode": power_mode(),
        "clocks_locked": clocks_locked(root),
        "temperature_c": _hottest_c(root),
        "throttled": _throttled(root),
    }


def clocks_warning(found: Mapping[str, Json]) -> str | None:
    """What is to be said of a machine in this state, whose clocks may move."""
    locked = found["clocks_locked"]
    if locked:
        return None
    said = "are not locked" if locked is False else "cannot be read here"
    return f"The clocks {said}: latencies may move with them."


def power_mode(command: str = "nvpmodel") -> str | None:
    """The name of the power mode, such as ``MAXN``; ``None`` where there is no ``nvpmodel``."""
    path = shutil.which(command)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "-q"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return mode_named(done.stdout)


def mode_named(text: str) -> str | None:
    """The mode in what ``nvpmodel -q`` prints, plain or with ``--verbose``."""
    match = re.search(r"(?:Power Mode|Current mode): *(?:NV Power Mode: *)?(\S+)", text)
    return match[1] if match else None


def clocks_locked(root: Path = ROOT) -> bool | None:
    pairs = [
        (folder / "scaling_min_freq", folder / "scaling_max_freq")
        for folder in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    ]
    pairs += [
        (folder / "min_freq", folder / "max_freq")
        for folder in sorted((root / "sys/class/devfreq").glob("*.g*"))
    ]
    bounds = [(_line(low), _line(high)) for low, high in pairs]
    known = [(low, high) for low, high in bounds if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None


def _hottest_c(root: Path) -> float | None:
    texts = [_line(p) for p in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    on = [int(text) / 1000 for text in texts if text and re.fullmatch(r"-?\d+", text)]
    on = [degrees for degrees in on if degrees > -200]  # a sensor that is off reads -256
    return max(on, default=None)


def _throttled(root: Path) -> bool | None:
    """Fans cool and do not throttle."""
    states = [
        _line(device / "cur_state")
        for device in sorted((root / "sys/class/thermal").glob("cooling_device*"))
        if "fan" not in (_line(device / "type") or "")
    ]
    known = [text for text in states if text is not None and text.isdecimal()]
    return any(text != "0" for text in known) if known else None


def _line(path: Path) -> str | None:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return text.splitlines()[0] if text else None
