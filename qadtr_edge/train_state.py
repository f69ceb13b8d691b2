"""The state of an unfinished training: one file from which it goes on to the same weights.

``train_state.safetensors`` of a run folder holds tensors alone (network, momentum, what the defence
remembers, the images batch norm is re-estimated on) and a JSON header: how far it has come, under
which options, and the command that began it. It is written whole or not at all, by one process, and
it goes when the checkpoint is there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from .defences.defence import Defence
from .errors import BadInput
from .files import explained, replacing
from .models.quantnet import QuantNet
from .train_group import Group
from .train_identity import check_same
from .types import Json

SCHEMA = 1
_HEADER = "qadtr_edge_train"


@dataclass(frozen=True)
class Spent:
    """What a phase has cost: ``images`` shown, ``passes`` of one image through the network at one
    width (attacks and regularizers included, evaluation left out), wall-clock ``seconds``.
    """

    phase: str
    steps: int = 0
    images: int = 0
    passes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Course:
    """How far it has come: ``step`` steps of phase number ``phase``, and ``lines`` of the log.

    ``told``: sum and count of each number since the last line; ``spent``: of the phases begun.
    """

    phase: int = 0
    step: int = 0
    lines: int = 0
    told: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    spent: tuple[Spent, ...] = ()

    def entered(self, phase: int, label: str) -> Course:
        """The same in phase number ``phase``: at its first step, unless it stands in it already."""
        if self.spent and phase == self.phase:
            return self
        return replace(self, phase=phase, step=0, spent=(*self.spent, Spent(label)))

    def further(self, *, images: int, passes: int, seconds: float) -> Course:
        """The same after one more step."""
        *before, now = self.spent
        now = Spent(
            now.phase, now.steps + 1, now.images + images, now.passes + passes,
            now.seconds + seconds,
        )  # fmt: skip
        return replace(self, step=self.step + 1, spent=(*before, now))

    @property
    def steps(self) -> int:
        """Steps of all phases so far."""
        return sum(each.steps for each in self.spent)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """``net``, ``momentum`` (by parameter), ``defence``: tensors by name.

    ``shown (M, 3, H, W) uint8``: what batch norm will be re-estimated on, as far as it was shown.
    ``identity``: the options and inputs that decide the weights. ``command``: how the user asked.
    """

    course: Course = field(default_factory=Course)
    identity: Mapping[str, Json] = field(default_factory=dict)
    command: Mapping[str, Json] = field(default_factory=dict)
    net: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, Tensor] = field(default_factory=dict)
    defence: dict[str, Tensor] = field(default_factory=dict)
    shown: Tensor | None = None


class StateFile:
    """The state at ``path``, written by the first process of ``group``; ``None``: no state is kept.

    ``identity`` and ``command``: as in ``Snapshot``.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        identity: Mapping[str, Json],
        command: Mapping[str, Json],
        group: Group,
    ) -> None:
        self.path = path
        self.identity, self.command, self.group = identity, command, group
        self._written_s = time.monotonic()

    def restore(self, net: QuantNet, defence: Defence) -> Snapshot:
        """Give ``net`` and ``defence`` the state that is there; the empty snapshot without one.

        Raises ``BadInput`` for a damaged file, and for the state of another training.
        """
        content = read(self.path) if self.path is not None and self.group.is_first else b""
        content = self.group.bytes_of_first(content)
        if not content:
            return Snapshot()
        path = self.path or Path("train_state.safetensors")  # of the first process
        found = parsed(content, path=path)
        check_same(found.identity, self.identity, path=path)
        device = self.group.device
        net.load_state_dict(found.net)
        defence.restore({name: value.to(device) for name, value in found.defence.items()})
        shown = None if found.shown is None else found.shown.to(device)
        return replace(found, shown=shown)

    def write(
        self, net: QuantNet, optimiser: torch.optim.Optimizer, *, defence: Defence,
        course: Course, shown: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """Write all of it, whole or not at all."""
        self._written_s = time.monotonic()
        if self.path is None or not self.group.is_first:
            return
        momentum = {
            name: optimiser.state[weight]["momentum_buffer"]
            for name, weight in net.named_parameters()
            if optimiser.state.get(weight, {}).get("momentum_buffer") is not None
        }
        found = Snapshot(
            course, self.identity, self.command, net.state_dict(), momentum, defence.state(),
            torch.cat(list(shown)) if shown else None,
        )  # fmt: skip
        write(self.path, found)

    def is_due(self, every_s: float) -> bool:
        """Whether the last writing is ``every_s`` seconds ago."""
        return time.monotonic() - self._written_s >= every_s


def give_momentum(
    net: QuantNet, optimiser: torch.optim.Optimizer, *, momentum: Mapping[str, Tensor]
) -> None:
    """Let ``optimiser`` go on with ``momentum``, by the name of each parameter of ``net``."""
    weights = dict(net.named_parameters())
    for name, value in momentum.items():
        weight = weights[name]
        optimiser.state[weight]["momentum_buffer"] = torch.empty_like(weight).copy_(value)


def write(path: Path, snapshot: Snapshot) -> None:
    """Write ``snapshot`` to ``path``, whole or not at all."""
    from safetensors.torch import save_file

    groups = {"net": snapshot.net, "momentum": snapshot.momentum, "defence": snapshot.defence}
    tensors = {
        f"{group}.{name}": value for group, held in groups.items() for name, value in held.items()
    }
    if snapshot.shown is not None:
        tensors["shown"] = snapshot.shown
    header = {
        "schema": SCHEMA, "course": asdict(snapshot.course), "identity": snapshot.identity,
        "command": snapshot.command,
    }  # fmt: skip
    copies = {  # no two may share memory, nor be laid out as convolutions like it
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with replacing(path) as temporary:
        save_file(copies, temporary, metadata={_HEADER: json.dumps(header, allow_nan=False)})


def read(path: Path) -> bytes:
    """The content of a state file; empty where there is none."""
    with explained(path):
        return path.read_bytes() if path.is_file() else b""


def parsed(content: bytes, *, path: Path) -> Snapshot:
    """The snapshot in ``content``, read from ``path``. Raises ``BadInput`` when it is none."""
    from safetensors.torch import load

    try:
        header, tensors = _header(content), load(content)
        shown = tensors.pop("shown", None)
        groups: dict[str, dict[str, Tensor]] = {"net": {}, "momentum": {}, "defence": {}}
        for name, value in tensors.items():
            group, _, inner = name.partition(".")
            groups[group][inner] = value
        if not groups["net"]:
            raise ValueError("it holds no network")
    except Exception as error:  # safetensors raises its own untyped errors for damaged files
        raise _damaged(path, error) from error
    return replace(
        header, net=groups["net"], momentum=groups["momentum"], defence=groups["defence"],
        shown=shown,
    )  # fmt: skip


def command_in(path: Path) -> dict[str, Json]:
    """The command that began the training whose state is at ``path``."""
    try:
        return dict(_header(read(path)).command)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _header(content: bytes) -> Snapshot:
    """What the header says (safetensors: eight bytes of length, then JSON, then the tensors)."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_HEADER])
    if header["schema"] != SCHEMA:
        raise ValueError(f"it has schema {header['schema']}, this version reads {SCHEMA}")
    spent = tuple(Spent(**each) for each in header["course"].pop("spent"))
    course = Course(**header["course"], spent=spent)
    return Snapshot(course, dict(header["identity"]), dict(header["command"]))


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"{path} is no training state that can be read ({type(error).__name__}: {error}).",
        "Delete it and train again.",
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds ``folder`` against a second training, until the block or the process ends.

    Raises ``BadInput`` when one runs there. Without file locks (Windows, some network disks) it
    does nothing.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"Another process is training in {folder}.", "Wait for it, or name another --run."
            ) from error
        except OSError:  # a disk that knows no locks
            pass
        yield
    finally:
        os.close(handle)
