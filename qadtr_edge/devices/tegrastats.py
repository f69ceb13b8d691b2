"""Lines of NVIDIA's ``tegrastats``: power rails, temperatures, load, of Nano to Thor.

The format was never documented and differs by release: the date may be missing, ``mW`` is missing
on release 32, a rail shows two values (now, mean) or three (now, mean, largest), two rails may both
be called ``NC``, and on Xavier a rail and a temperature are both called ``GPU``. What a line does
not hold is absent; no line is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RAIL = re.compile(
    r"(?<![\w@])([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?:/(\d+)(?:mW)?)?(?=\s|$)"
)
_TEMPERATURE = re.compile(r"(?<![\w@])([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C(?=[/\s]|$)")
_GPU = re.compile(r"(?<!\w)GR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?")
_NOT_RAILS = {"RAM", "SWAP", "IRAM"}

SENSOR_OFF_C = -256.0
"""What a sensor that is switched off reads."""


@dataclass(frozen=True)
class Rail:
    """Power of one rail in milliwatts, now and its mean since ``tegrastats`` started."""

    name: str
    now_mw: int
    mean_mw: int


@dataclass(frozen=True)
class Reading:
    """One line. ``temperatures_c``: by sensor, those that are on. ``gpu_mhz`` needs root."""

    rails: tuple[Rail, ...]
    temperatures_c: Mapping[str, float]
    gpu_percent: int | None
    gpu_mhz: int | None


def parse(line: str) -> Reading:
    """What ``line`` says."""
    rails = tuple(
        Rail(name, int(now), int(mean))
        for name, now, mean, _ in _RAIL.findall(line)
        if name not in _NOT_RAILS
    )
    temperatures = {name: float(text) for name, text in _TEMPERATURE.findall(line)}
    gpu = _GPU.search(line)
    return Reading(
        rails=rails,
        temperatures_c={name: t for name, t in temperatures.items() if t != SENSOR_OFF_C},
        gpu_percent=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=int(gpu[2]) if gpu and gpu[2] else None,
    )
