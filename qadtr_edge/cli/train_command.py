"""A training as it was asked for: the options as typed, kept in its state so that it can go on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..errors import BadInput, UnknownName
from ..types import FLOAT_BITS, Json, QuantSpec
from . import options

MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Command:
    """The options of a training; ``None`` where the default follows from others."""

    recipe: str
    settings: tuple[str, ...]
    data: str
    model: str
    bits: str
    init: str | None
    epochs: float
    float_epochs: float | None
    limit: int | None
    lr: float | None
    batch: int
    scales: str
    attack_precision: str
    seed: int
    threads: int
    device: str
    data_root: str | None
    tensorboard: bool

    def resumed(self, state: Mapping[str, Json], *, given: Collection[str]) -> Command:
        """This command with what ``state`` holds in place of every option not in ``given``."""
        merged: dict[str, Any] = asdict(self)
        merged |= {name: state[name] for name in merged if name in state and name not in given}
        return Command(**{**merged, "settings": tuple(merged["settings"])})

    def as_json(self) -> dict[str, Json]:
        """What ``resumed`` takes."""
        return {**asdict(self), "settings": list(self.settings)}

    @property
    def widths(self) -> tuple[int, ...]:
        return options.widths(self.bits)

    @property
    def spec(self) -> QuantSpec:
        return spec_of(self.scales)

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """``attack_precision``; ``UnknownName`` for another word."""
        match self.attack_precision:
            case "float32" | "bfloat16":
                return self.attack_precision
        raise UnknownName("precision", self.attack_precision, ("float32", "bfloat16"))

    @property
    def first_epochs(self) -> float:
        """Float epochs before: by default as many as quantized ones, none with float weights."""
        if self.float_epochs is not None:
            return self.float_epochs
        return 0 if self.init else self.epochs

    @property
    def peak_lr(self) -> float:
        """The peak rate: by default lower where training starts from float weights."""
        return self.lr if self.lr is not None else (0.02 if self.init else 0.1)

    @property
    def later_lr(self) -> float | None:
        """The peak rate after float epochs; ``None`` for the usual share of ``peak_lr``.

        Where that is lower by default, for the float weights it starts from, it is not lowered
        for the same reason again.
        """
        return self.peak_lr if self.init and self.lr is None else None

    def check(self) -> None:
        """Raises ``BadInput`` for what can be known to be wrong before anything is loaded."""
        if Path(self.recipe).suffix not in (".yaml", ".yml"):
            registry.path_of("defence", self.recipe)
        elif not Path(self.recipe).is_file():
            raise BadInput(
                f"There is no recipe file {self.recipe}.", "Check its path, or name a recipe."
            )
        registry.path_of("model", self.model)
        assert self.spec
        assert self.precision
        self._check_numbers()
        if self.init and not Path(self.init).is_file():
            raise BadInput(
                f"There is no weights file {self.init}.", "Check the path given to --init."
            )
        if self.first_epochs and FLOAT_BITS not in self.widths:
            raise BadInput(
                f"Float epochs need the width {FLOAT_BITS}, which --bits {self.bits} leaves out.",
                f"Give --bits {FLOAT_BITS},{self.bits}, or float weights: "
                "--init FILE --float-epochs 0.",
            )

    def _check_numbers(self) -> None:
        if self.lr is not None and not 0 < self.lr < math.inf:  # also refuses NaN
            raise BadInput(
                f"--lr {self.lr:g} is no learning rate.", "Give a positive number, as in --lr 0.1."
            )
        for name, value in (("epochs", self.epochs), ("float-epochs", self.first_epochs)):
            if not 0 <= value <= MOST_EPOCHS:
                raise BadInput(
                    f"--{name} {value:g} is no number of epochs.",
                    f"Give one from 0 to {MOST_EPOCHS:,}, as in --{name} 10.",
                )


def spec_of(scales: str) -> QuantSpec:
    """The ``QuantSpec`` of a scale profile; ``UnknownName`` for another word."""
    match scales:
        case "tied" | "strict" | "free":
            return QuantSpec(scales=scales)
    raise UnknownName("scale profile", scales, ("tied", "strict", "free"))
