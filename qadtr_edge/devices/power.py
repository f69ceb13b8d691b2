"""Where a machine tells what it draws: one function a source, and the first that works here.

Nothing is estimated, no right is asked for that the user does not have, and nothing ever prompts.
A source gives a meter, or raises ``Unsupported`` with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from ..errors import Unsupported
from .integrate import Integral, sampled
from .rails import total_of
from .tegrastats import parse

SYS = Path("/sys")
PERIOD_MS = 100
"""Between two samples of a source that tells power and not energy."""
FIRST_LINE_S = 5.0


class Meter(Protocol):
    """``name``: the source and what it covers. ``joules``: drawn since any fixed moment."""

    @property
    def name(self) -> str: ...

    def joules(self) -> float: ...

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Source:
    """The meter of this machine, or in ``said`` why there is none."""

    meter: Meter | None
    said: str


@contextmanager
def source(asked: bool) -> Iterator[Source]:
    """What tells energy here, where it was asked for."""
    if not asked:
        yield Source(None, "Not asked for: --energy.")
        return
    with ExitStack() as stack:
        try:
            found = stack.enter_context(meter())
        except Unsupported as error:
            told = Source(None, str(error))
        else:
            told = Source(found, found.name)
        yield told


@contextmanager
def meter(sys: Path = SYS) -> Iterator[Meter]:
    """The first source that works on this machine.

    Boards first, since a Jetson's own sensors cover more than its CPU. Raises ``Unsupported`` with
    the reason of every source when none works.
    """
    reasons = []
    for source in (partial(ina3221, sys), tegrastats, nvml, partial(rapl, sys)):
        try:
            opened = source()
        except Unsupported as error:
            reasons.append(error.fact)
            continue
        with closing(opened):
            yield opened
        return
    raise Unsupported(" ".join(reasons), "Measure it with a meter at the plug.")


def ina3221(sys: Path = SYS) -> Meter:
    """The INA3221 monitors of a Jetson board: millivolts times milliamperes of each channel."""
    rails: dict[str, Callable[[], float]] = {}
    for folder in sorted((sys / "class" / "hwmon").glob("*")):
        if _text(folder / "name") not in {"ina3221", "ina3221x"}:
            continue
        for label in sorted(folder.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            pair = folder / f"in{number}_input", folder / f"curr{number}_input"
            if (name := _text(label)) and all(path.is_file() for path in pair):
                rails[name] = partial(_channel_watts, *pair)
    if not rails:
        raise _none("No INA3221 power monitor is in /sys.")
    names = total_of(rails)
    if names is None:
        raise _none(f"Which of the rails {', '.join(sorted(rails))} make up the total is unknown.")
    parts = [rails[name] for name in names]
    return sampled(
        f"INA3221 {' + '.join(names)}",
        lambda: sum(part() for part in parts),
        period_s=PERIOD_MS / 1000,
    )


def tegrastats(command: str = "tegrastats") -> Meter:
    """What ``tegrastats`` prints, started for this measurement since its means run from its start.

    Raises ``Unsupported`` where it is absent, says nothing, or names no known total.
    """
    path = shutil.which(command)
    if path is None:
        raise _none("tegrastats is not installed.")
    running = subprocess.Popen(
        [path, "--interval", str(PERIOD_MS)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    found = Integral("tegrastats")
    seen, answered = [""], threading.Event()

    def read() -> None:
        assert running.stdout is not None
        for line in running.stdout:
            seen[0] = line
            rails = {rail.name: rail.now_mw for rail in parse(line).rails}
            if names := total_of(rails):
                found.name = f"tegrastats {' + '.join(names)}"
                found.told(sum(rails[name] for name in names) / 1000)
            answered.set()
        answered.set()

    reading = threading.Thread(target=read, name="tegrastats", daemon=True)
    reading.start()

    def end() -> None:
        running.kill()
        running.wait()
        reading.join()
        assert running.stdout is not None
        running.stdout.close()

    found.on_close(end)
    answered.wait(FIRST_LINE_S)
    if not found.started:
        found.close()
        raise _none(f"tegrastats names no rail whose total is known: {seen[0].strip()[:80]!r}.")
    return found


def nvml() -> Meter:
    """All NVIDIA GPUs of the machine, by their own energy counters (Volta and newer).

    A Jetson's integrated GPU has none.
    """
    try:
        library = import_module("pynvml")
    except ModuleNotFoundError:
        raise _none("The package nvidia-ml-py is not installed.") from None
    try:
        library.nvmlInit()
        gpus = [library.nvmlDeviceGetHandleByIndex(n) for n in range(library.nvmlDeviceGetCount())]
        counted = [partial(library.nvmlDeviceGetTotalEnergyConsumption, gpu) for gpu in gpus]
        for count in counted:
            count()
    except library.NVMLError as error:
        raise _none(f"NVML tells no energy: {error}.") from error
    if not gpus:
        raise _none("NVML finds no GPU.")
    return _Counter("NVML, all GPUs", lambda: sum(count() for count in counted) / 1000)


def rapl(sys: Path = SYS) -> Meter:
    """The packages of an x86 CPU: everything on the chip, not the memory or the board."""
    zones = [
        zone for zone in sorted((sys / "class" / "powercap").glob("intel-rapl:*"))
        if (_text(zone / "name") or "").startswith("package-")
    ]  # fmt: skip
    if not zones:
        raise _none("No RAPL energy counter is in /sys.")
    try:
        parts = [_Wrapping(zone) for zone in zones]
    except OSError as error:
        raise _none(f"The RAPL energy counter cannot be read: {error.strerror}.") from error
    return _Counter("RAPL, CPU packages", lambda: sum(part.joules() for part in parts))


class _Counter:
    """A source that counts energy itself."""

    def __init__(self, name: str, joules: Callable[[], float]) -> None:
        self.name = name
        self.joules = joules

    def close(self) -> None:
        """Nothing to end."""


class _Wrapping:
    """A counter of microjoules that starts again at 0 after its range, which must not be missed:
    at 100 W it lasts 40 minutes or more, and windows are shorter."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._total = 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        self._total += (now - self._last) % self._range if now < self._last else now - self._last
        self._last = now
        return self._total / 1e6


def _channel_watts(millivolts: Path, milliamperes: Path) -> float:
    return int(millivolts.read_text()) * int(milliamperes.read_text()) / 1e6


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _none(reason: str) -> Unsupported:
    return Unsupported(reason, "Energy is not available from there.")
