"""Pasting on the GPU, straight into an engine's input, once it was seen to do so exactly.

The first batch of each kind of paste is read back and compared with what the host pastes. Equal
bytes, and the kernel is trusted with that kind; anything else is told, and it is never used again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from qadtr_edge import registry
from qadtr_edge.answered import PixelsOf
from qadtr_edge.errors import EngineFailed
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.places import columns, copies, taken
from qadtr_edge.types import Pixels, Placements

from .trt_form import INPUT_ZERO_POINT
from .trt_slot import Device, Slot, Stream, Tensor

RESIDENT_BYTES = 1 << 30
"""Up to so many bytes of clean images stay on the GPU; of more, each batch is copied in."""


class Kernel(Protocol):
    """What is used of ``kernels.paste.CudaPaste``."""

    def __call__(
        self, images_at: int, codes_at: int, *, pixels: Pixels, mask: NDArray[np.bool_],
        placements: Placements, image_px: tuple[int, int], flip: int, stream: Stream,
    ) -> None: ...  # fmt: skip


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean images ``(N, 3, H, W)`` and what goes on them, as ``patch.paste.paste`` takes it."""

    images: Pixels
    pixels: Pixels
    mask: NDArray[np.bool_]
    placements: Placements

    @property
    def kind(self) -> tuple[str, ...]:
        """What the kernel must be able to do for these: with each new kind it is tried again."""
        is_moved_only = all(
            not one.degrees.any() and (one.scale == 1.0).all() for one in copies(self.placements)
        )
        return (
            "upright" if is_moved_only else "affine",
            "one patch" if self.pixels.ndim == 3 else "one each",
            *columns(self.placements),
        )


@dataclass(frozen=True, eq=False)
class Unit:
    """All images, and what goes on them; the pixels of a batch are asked for in its turn."""

    images: Pixels
    pixels: PixelsOf
    mask: NDArray[np.bool_]
    placements: Placements

    def batch(self, rows: slice) -> Batch:
        at = taken(self.placements, rows)
        return Batch(self.images[rows], self.pixels(rows), self.mask, at)


class GpuPaste:
    """The kernel before the slots of one engine, and the clean images it reads.

    ``refusal``: why it is not used; ``None`` as long as it is.
    """

    def __init__(self, device: Device, image: Tensor, *, batch: int) -> None:
        self.refusal: str | None = None
        self._device, self._image = device, image
        self._flip = INPUT_ZERO_POINT if image.kind == np.int8 else 0
        self._kernels: dict[Slot, Kernel] = {}
        self._trusted: set[tuple[str, ...]] = set()
        self._clean = Clean(device, image, batch=batch)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.refusal is not None:
            return (f"pasted on the host: {self.refusal.rstrip('.')}",)
        return self._clean.notes

    def start(self, slot: Slot, unit: Unit, *, rows: slice, size: int) -> None:
        """Queues these rows, filled up with blank images to ``size``, and their answers.

        Raises ``EngineFailed`` or ``MissingDependency`` where the kernel cannot be had, and
        ``EngineFailed`` where it pastes other bytes than the host.
        """
        if slot not in self._kernels:
            make = cast(Callable[[Device], Kernel], registry.resolve("kernel", "paste"))
            self._kernels[slot] = make(self._device)

        def fill(codes_at: int, stream: Stream) -> None:
            part = unit.batch(rows)
            count = len(part.images)
            self._kernels[slot](
                self._clean.at(slot, unit.images, rows=rows, stream=stream), codes_at,
                pixels=part.pixels, mask=part.mask, placements=part.placements,
                image_px=part.images.shape[2:], flip=self._flip, stream=stream,
            )  # fmt: skip
            if part.kind not in self._trusted:
                self._try(part, codes_at, stream)
            if size > count:
                blank = np.zeros(self._image.size_bytes(size - count), np.uint8)
                stream.copy_in(codes_at + self._image.size_bytes(count), blank)

        slot.start_filled(fill, size=size)

    def _try(self, part: Batch, codes_at: int, stream: Stream) -> None:
        """Trusts the kernel with this kind if what it wrote is what the host pastes."""
        found = self._device.pinned(part.images.shape, np.uint8)
        stream.copy_out(found, codes_at)
        stream.wait()
        wanted = paste(part.images, part.pixels, mask=part.mask, placements=part.placements)
        wanted ^= np.uint8(self._flip)
        if wrong := int((found != wanted).sum()):
            raise EngineFailed(
                f"The paste kernel wrote {wrong} of {wanted.size} bytes otherwise than the host "
                f"({', '.join(part.kind)}).",
                "Paste on the host.",
            )
        self._trusted.add(part.kind)

    def close(self) -> None:
        """Lets go of the kernels, which must go before the device."""
        self._kernels.clear()


class Clean:
    """Clean images on the GPU: all of an array while they fit, or the batch that is asked for.

    An array that is handed in again is taken to hold the same images.
    """

    def __init__(self, device: Device, image: Tensor, *, batch: int) -> None:
        self.notes: tuple[str, ...] = ()
        self._device, self._image, self._batch = device, image, batch
        self._held: Pixels | None = None
        self._held_at: int | None = None
        self._room = (0, 0)  # where images may be held, and how many bytes of them
        self._staged: dict[Slot, tuple[int, NDArray[np.generic]]] = {}

    def at(self, slot: Slot, images: Pixels, *, rows: slice, stream: Stream) -> int:
        """The address of these rows of ``images``, there once the slot's stream has come to it."""
        if self._held is not images:
            self._hold(images, stream)
        if self._held_at is not None:
            return self._held_at + self._image.size_bytes(rows.start)
        if slot not in self._staged:
            address = self._device.allocate(self._image.size_bytes(self._batch))
            host = self._device.pinned((self._batch, *self._image.shape), np.uint8)
            self._staged[slot] = (address, host)
        address, host = self._staged[slot]
        part = images[rows]
        host[: len(part)] = part
        stream.copy_in(address, host[: len(part)])
        return address

    def _hold(self, images: Pixels, stream: Stream) -> None:
        self._held, self._held_at, self.notes = images, None, ()
        if images.nbytes > RESIDENT_BYTES:
            self._say(f"they are more than {RESIDENT_BYTES} bytes")
            return
        if images.nbytes > self._room[1]:
            try:
                self._room = (self._device.allocate(images.nbytes), images.nbytes)
            except EngineFailed as error:
                self._say(error.fact.rstrip("."))
                return
        self._held_at = self._room[0]
        stream.copy_in(self._held_at, np.ascontiguousarray(images))
        stream.wait()  # the streams of other slots read them too

    def _say(self, reason: str) -> None:
        self.notes = (f"clean images go to the GPU batch by batch: {reason}",)
