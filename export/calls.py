"""What every engine has: its end, and what it says of a file or a call that it cannot serve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.errors import BadInput, EngineFailed
from qadtr_edge.types import Pixels

T = TypeVar("T", bound="Opened")


class Opened(ABC):
    """An engine: open once it is made, closed at the end of its block."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what the runtime holds; every call after it raises ``EngineFailed``."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def content_of(artefact: Path) -> bytes:
    """The bytes of an engine file. Raises ``BadInput`` where they cannot be read."""
    try:
        return artefact.read_bytes()
    except OSError as error:
        raise BadInput(
            f"Cannot read {artefact}: {error.strerror}.", "Make it with `qadtr-edge export`."
        ) from error


def check_images(artefact: Path, shape: tuple[int, int, int], *, images: Pixels) -> None:
    """Raises ``BadInput`` for ``images`` that are not uint8 ``(N, *shape)``."""
    if images.dtype == np.uint8 and images.shape[1:] == shape:
        return
    depth, height, width = shape
    raise BadInput(
        f"{artefact} takes uint8 images (N, {depth}, {height}, {width}); "
        f"these are {images.dtype} {images.shape}.",
        "Give RGB bytes, channels first, in the model's size.",
    )


def check_logits(artefact: Path, logits: NDArray[np.float32]) -> None:
    """Raises ``EngineFailed`` for logits that are not finite."""
    if not np.isfinite(logits).all():
        raise EngineFailed(
            f"{artefact} answered with logits that are not numbers.",
            "Check the checkpoint it was exported from, and export it again.",
        )


def closed(artefact: Path) -> EngineFailed:
    """What a call after ``close`` raises."""
    return EngineFailed(f"The engine of {artefact} is closed.", "Open it again.")
