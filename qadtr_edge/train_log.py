"""What a training tells: one line an epoch in ``log.jsonl``, a note beside the bar, TensorBoard."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .console import Progress
from .errors import MissingDependency
from .files import explained, write_text
from .types import Json

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_BY_WIDTH = re.compile(r"(\w+)_w(\d+)")
_ACCURACIES = ("clean", "patched", "perturbed")


class Journal:
    """Means since the last line. With ``is_silent`` (all processes but one) it writes nothing.

    ``lines``: lines of an earlier, interrupted process to keep; what follows them is cut. ``told``:
    sum and count of what it heard since; ``step``: how many steps it made, over all phases.
    """

    def __init__(
        self, log: Path, *, lines: int = 0, told: Mapping[str, tuple[float, int]] | None = None,
        step: int = 0, tensorboard: Path | None = None, is_silent: bool = False,
    ) -> None:  # fmt: skip
        self.lines = lines
        self.told = {name: (total, count) for name, (total, count) in (told or {}).items()}
        self._log = log
        self._is_silent = is_silent
        self._images, self._seconds = 0, 0.0
        self._board: SummaryWriter | None = None
        if is_silent:
            return
        if tensorboard is not None:
            self._board = _writer(tensorboard, step=step)
        with explained(log):
            kept = log.read_text().splitlines(keepends=True)[:lines] if lines else []
        write_text(log, "".join(kept))

    @contextmanager
    def bar(self, label: str, steps: int) -> Iterator[Callable[[], None]]:
        """Progress over ``steps`` steps; what it yields is called after each."""
        if self._is_silent or not steps:
            yield lambda: None
            return
        with Progress(label, steps, unit="steps") as progress:
            yield lambda: progress.advance(note=note(self.means, images_per_s=self.images_per_s))

    def hear(self, told: Mapping[str, float], *, images: int, seconds: float) -> None:
        """The numbers of one step; not every step tells all of them."""
        self._images, self._seconds = self._images + images, self._seconds + seconds
        for name, value in told.items():
            total, count = self.told.get(name, (0.0, 0))
            self.told[name] = (total + value, count + 1)

    @property
    def means(self) -> dict[str, float]:
        """Mean of each number over the steps since the last line that told it."""
        return {name: round(total / count, 5) for name, (total, count) in self.told.items()}

    @property
    def images_per_s(self) -> float:
        """Images a second of the steps since the last line, evaluation left out."""
        return self._images / max(self._seconds, 1e-9)

    def write(self, line: Mapping[str, Json], *, step: int) -> None:
        """One line of the log: ``line``, speed and means. ``step`` counts those of all phases."""
        full = {**line, "images_per_s": round(self.images_per_s, 1), **self.means}
        self.told = {}
        self._images, self._seconds = 0, 0.0
        self.lines += 1
        if self._is_silent:
            return
        with explained(self._log), self._log.open("a") as file:
            file.write(json.dumps(full, allow_nan=False) + "\n")
        if self._board is not None:
            for name, value in _scalars(full):
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """Finish the event file."""
        if self._board is not None:
            self._board.close()


def note(means: Mapping[str, float], *, images_per_s: float) -> str:
    """``loss 0.412, 830 images/s, clean w8 81 w4 74 %``: what fits beside a progress bar."""
    groups: dict[str, dict[int, float]] = defaultdict(dict)
    for name, value in means.items():
        if (found := _BY_WIDTH.fullmatch(name)) and found[1] in _ACCURACIES:
            groups[found[1]][int(found[2])] = value
    parts = [f"loss {means.get('loss', 0.0):.3f}", f"{images_per_s:.0f} images/s"]
    for name, values in groups.items():
        spoken = " ".join(f"w{bits} {100 * values[bits]:.0f}" for bits in sorted(values)[::-1])
        parts.append(f"{name} {spoken} %")
    return ", ".join(parts)


def _scalars(line: Mapping[str, Json]) -> list[tuple[str, float]]:
    """Numbers of a line as TensorBoard names them: ``clean_w8`` is ``clean/w8``."""
    found = []
    phase = str(line.get("phase", ""))
    for name, value in line.items():
        if isinstance(value, dict):
            found += [(f"{name}/w{key}", float(str(each))) for key, each in value.items()]
        elif isinstance(value, int | float) and name not in ("step", "images", "passes"):
            of = _BY_WIDTH.fullmatch(name)
            found.append((f"{of[1]}/w{of[2]}" if of else f"{name}/{phase}", value))
    return found


def require_tensorboard() -> None:
    """Raises ``MissingDependency`` where the package is not installed."""
    if find_spec("tensorboard") is None:
        raise MissingDependency(
            "tensorboard", "tensorboard", purpose="Writing TensorBoard event files"
        )


def _writer(folder: Path, *, step: int) -> SummaryWriter:
    """Event files in ``folder``, those of an earlier process after ``step`` steps disowned."""
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    with explained(folder):
        return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
