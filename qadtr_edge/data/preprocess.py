"""What a model made elsewhere does to an image before its first layer, and the file that says so.

A sidecar is a few lines of TOML. It lies beside the model under the same name (``model.toml`` for
``model.onnx``), or is named with ``--preprocess``::

    layout = "NCHW"                   # or "NHWC"
    channels = "RGB"                  # or "BGR": the order the model reads
    mean = [0.485, 0.456, 0.406]      # (pixel / 255 - mean) / std, given for R, G, B
    std = [0.229, 0.224, 0.225]
    # scale = 0.0078125               # or pixel * scale + offset: a number, or three for R, G, B
    # offset = -1.0
    # class_offset = 1                # leading outputs that are no class (background)
    # size_px = 224                   # side of the images, where the file leaves it open
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput, MissingDependency, UnknownName
from ..types import Json, Pixels

SUFFIX = ".toml"
EXAMPLE = """
layout = "NCHW"
channels = "RGB"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]"""
"""Lines that can be copied into a file."""

Layout = Literal["NCHW", "NHWC"]
Order = Literal["RGB", "BGR"]

_KEYS = ("layout", "channels", "mean", "std", "scale", "offset", "class_offset", "size_px")
_MOST_SIDE_PX = 4096


@dataclass(frozen=True, eq=False)
class Preprocess:
    """From the uint8 RGB image to what the file's input takes.

    - ``values``: ``(3, 256) float32``, what the model reads for each byte of R, G and B.
    - ``class_offset``: leading outputs that are no class of the data; ``size_px``: side of the
      images where the file leaves it open. ``None``: as the file has it.
    """

    layout: Layout
    channels: Order
    values: NDArray[np.float32]
    class_offset: int | None = None
    size_px: int | None = None

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        """What the model reads of images ``(N, 3, H, W) uint8``: float32 in ``layout``."""
        made = np.stack([row[images[:, c]] for c, row in enumerate(self.values)], axis=1)
        ordered = made if self.channels == "RGB" else made[:, ::-1]
        return np.ascontiguousarray(ordered if self.layout == "NCHW" else _channels_last(ordered))

    @property
    def digest(self) -> str:
        """SHA-256 of everything that changes what the model reads, or what its outputs mean."""
        told = f"{self.layout} {self.channels} {self.class_offset}".encode()
        return hashlib.sha256(told + np.ascontiguousarray(self.values, "<f4").tobytes()).hexdigest()


def raw(layout: Layout, *, offset: float = 0.0) -> Preprocess:
    """The bytes themselves, plus ``offset``, in RGB order."""
    return Preprocess(layout, "RGB", np.tile(_affine(1.0, offset), (3, 1)))


def sidecar_of(model: Path) -> Path | None:
    """The sidecar beside ``model``, or ``None``."""
    beside = model.with_suffix(SUFFIX)
    return beside if beside.is_file() else None


def agreed(model: Path, given: Path | None) -> Preprocess | None:
    """What is said of ``model`` by the file ``given``, or else by the sidecar beside it."""
    path = given or sidecar_of(model)
    return None if path is None else read(path)


def read(path: Path) -> Preprocess:
    """The sidecar at ``path``. Raises ``BadInput``, naming the key, for what it cannot mean."""
    stored = _parsed(path)
    for name in stored:
        if name not in _KEYS:
            raise UnknownName(f"key of {path}", name, _KEYS)
    fields = _Fields(path, stored)
    offset = fields.whole("class_offset", least=0, most=1)
    size = fields.whole("size_px", least=1, most=_MOST_SIDE_PX)
    return Preprocess(
        layout=cast(Layout, fields.word("layout", ("NCHW", "NHWC"))),
        channels=cast(Order, fields.word("channels", ("RGB", "BGR"))),
        values=fields.values(),
        class_offset=offset,
        size_px=size,
    )


@dataclass(frozen=True)
class _Fields:
    """The keys of one sidecar, each checked as it is read."""

    path: Path
    stored: dict[str, Json]

    def refused(self, name: str, wanted: str) -> BadInput:
        return BadInput(
            f"{self.path} has {name} = {self.stored.get(name)!r}, which is not {wanted}.",
            f"For example:{EXAMPLE}",
        )

    def word(self, name: str, known: tuple[str, ...]) -> str:
        value = self.stored.get(name, known[0])
        if not isinstance(value, str) or value not in known:
            raise self.refused(name, f"one of {', '.join(known)}")
        return value

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        value = self.stored.get(name)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            raise self.refused(name, f"a whole number from {least} to {most}")
        return value

    def triple(self, name: str, default: float) -> NDArray[np.float64]:
        """One number for all channels, or three for R, G and B."""
        value = self.stored.get(name, default)
        found = np.full(3, np.nan)
        listed = value if isinstance(value, list) else [value] * 3
        if len(listed) == 3 and all(type(item) in (int, float) for item in listed):
            found = np.array(listed, np.float64)
        if not np.isfinite(found).all():
            raise self.refused(name, "a number, or three for R, G and B")
        return found

    def values(self) -> NDArray[np.float32]:
        """What is read of each byte. Raises ``BadInput`` where float32 does not hold that."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            made = self._values()
        if not np.isfinite(made).all():
            raise BadInput(
                f"{self.path} makes values of pixels that float32 does not hold.",
                f"Write what the model was trained with; for example:{EXAMPLE}",
            )
        return made

    def _values(self) -> NDArray[np.float32]:
        """``(pixel / 255 - mean) / std`` in float32 as torchvision does, or ``scale, offset``."""
        if {"mean", "std"} & self.stored.keys() and {"scale", "offset"} & self.stored.keys():
            raise BadInput(
                f"{self.path} gives both mean and std, and scale and offset.", "Keep one pair."
            )
        if not {"mean", "std", "scale", "offset"} & self.stored.keys():
            raise BadInput(
                f"{self.path} does not say what the model reads for a pixel.",
                f"Add mean and std, or scale and offset; for example:{EXAMPLE}",
            )
        if {"mean", "std"} & self.stored.keys():
            mean, std = (
                self.triple(*item).astype(np.float32) for item in (("mean", 0), ("std", 1))
            )
            if (std <= 0).any():
                raise self.refused("std", "positive")
            unit = np.arange(256, dtype=np.float32) / np.float32(255)
            return (unit - mean[:, None]) / std[:, None]
        scale, offset = self.triple("scale", 1), self.triple("offset", 0)
        if (scale == 0).any():
            raise self.refused("scale", "other than 0")
        return np.stack([_affine(s, o) for s, o in zip(scale, offset, strict=True)])


def _affine(scale: float, offset: float) -> NDArray[np.float32]:
    """``pixel * scale + offset`` of all bytes."""
    return (np.arange(256) * scale + offset).astype(np.float32)


def _channels_last(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.transpose(0, 2, 3, 1)


def _parsed(path: Path) -> dict[str, Json]:
    module = next((name for name in ("tomllib", "tomli") if _there(name)), None)
    if module is None:
        raise MissingDependency("tomli", "onnx", purpose="Reading a preprocessing file")
    parse = cast(Callable[[str], dict[str, Json]], import_module(module).loads)
    try:
        return parse(path.read_text())
    except OSError as error:
        raise BadInput(
            f"Cannot read {path}: {error.strerror}.", f"Write it; for example:{EXAMPLE}"
        ) from error
    except ValueError as error:  # of TOML, and of text that is no UTF-8
        raise BadInput(
            f"{path} is not valid TOML: {error}.", f"Correct it; for example:{EXAMPLE}"
        ) from error


def _there(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
