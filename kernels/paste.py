"""The patch paste on a GPU, straight into an engine's input: ``cuda/paste.cu``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.errors import EngineFailed
from qadtr_edge.patch import light
from qadtr_edge.patch.paste import coefficients
from qadtr_edge.patch.places import copies
from qadtr_edge.types import Pixels, Placements

from .build import CUDA, cubin, host_library
from .memory import Device, Loading, Stream

SOURCE = CUDA / "paste.cu"
FLIP_TO_CODES = 0x80
"""A byte with its sign bit flipped is the int8 code of zero point 128."""

_THREADS = 256
_ALIGNED = 256


@dataclass(frozen=True, eq=False)
class Arguments:
    """What the kernel is told of one batch. ``layout``: ``struct Layout``, ten int32.

    ``maps``: ``(N, 6)`` or, in perspective, ``(N, 11)``: the coefficients of each image, its light.
    """

    layout: NDArray[np.int32]
    patches: Pixels
    mask: NDArray[np.uint8]
    maps: NDArray[np.int32]
    corners: NDArray[np.int32]

    @property
    def arrays(self) -> list[NDArray[np.generic]]:
        """What the kernel is given addresses of, in its order, images and codes apart."""
        return [self.patches, self.mask, self.maps, self.corners]

    @property
    def pixels(self) -> int:
        """Threads that have work: one for each pixel of each image."""
        images, height, width = (int(side) for side in self.layout[:3])
        return images * height * width


def arguments(
    pixels: Pixels, mask: NDArray[np.bool_], *, placements: Placements, image_px: tuple[int, int],
    flip: int = FLIP_TO_CODES,
) -> Arguments:  # fmt: skip
    """The kernel's arguments for ``pixels`` (3, h, w), or (N, 3, h, w), placed on N images.

    For one copy of the patch: of several, each goes through the kernel by itself.
    """
    assert not placements.more, "the arguments of one copy"
    fixed, corner, side = coefficients(placements, patch_px=mask.shape, image_px=image_px)
    count = len(placements.top)
    stride = pixels[0].size if pixels.ndim == 4 else 0
    maps = np.concatenate([*fixed, light.settings(placements)], axis=1)
    layout = np.array([count, *image_px, *mask.shape, *side, stride, flip, maps.shape[1]], np.int32)
    return Arguments(
        layout=layout,
        patches=np.ascontiguousarray(pixels),
        mask=np.ascontiguousarray(mask, np.uint8),
        maps=np.ascontiguousarray(maps, np.int32),
        corners=np.ascontiguousarray(np.stack(corner, axis=1), np.int32),
    )


class CudaPaste:
    """The kernel on one GPU, for one stream: batches share the memory its arguments go through.

    Raises ``EngineFailed`` for a device that loads no kernels or not this one, and
    ``MissingDependency`` where nothing compiles it.
    """

    def __init__(self, device: Device) -> None:
        if not isinstance(device, Loading):
            raise EngineFailed(
                "Kernels are loaded through PyCUDA, and this device is opened without it.",
                "Install it: pip install 'qadtr-edge[cuda]'.",
            )
        architecture = "sm_" + device.facts["compute_capability"].replace(".", "")
        self._kernel = device.function(cubin(SOURCE, architecture), "paste_codes")
        self._device: Device = device
        self._at = 0
        self._host = np.empty(0, np.uint8)

    def __call__(
        self, images_at: int, codes_at: int, *, pixels: Pixels, mask: NDArray[np.bool_],
        placements: Placements, image_px: tuple[int, int], flip: int, stream: Stream,
    ) -> None:  # fmt: skip
        """Queues the paste on the images at one address into codes at another.

        ``pixels``, ``mask`` and ``placements`` as of the reference, codes being its bytes
        ``^ flip``. Nothing queued by a call before may still be under way. Copies of a patch go one
        after the other, all but the first onto the codes; only the last flips.
        """
        last = len(placements.more)
        given = [
            arguments(
                pixels, mask, placements=one, image_px=image_px, flip=flip if n == last else 0
            )
            for n, one in enumerate(copies(placements))
        ]  # fmt: skip
        arrays = [array for each in given for array in each.arrays]
        addresses = self._put(arrays, stream)
        source = images_at
        for each in given:
            at = [addresses.pop(0) for _ in each.arrays]
            self._kernel(
                each.layout, [source, *at, codes_at],
                blocks=-(-each.pixels // _THREADS), threads=_THREADS, stream=stream,
            )  # fmt: skip
            source = codes_at

    def _put(self, arrays: list[NDArray[np.generic]], stream: Stream) -> list[int]:
        """Queues one copy of all ``arrays``; the address of each."""
        sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
        *starts, total = np.cumsum([0, *sizes]).tolist()
        if total > self._host.size:
            self._host = self._device.pinned((total,), np.uint8).view(np.uint8)
            self._at = self._device.allocate(total)
        for start, array in zip(starts, arrays, strict=True):
            self._host[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
        stream.copy_in(self._at, self._host[:total])
        return [self._at + start for start in starts]


def paste_on_cpu(images: Pixels, given: Arguments) -> Pixels:
    """The kernel's own source, compiled for this CPU and run: its codes as bytes (N, 3, H, W)."""
    images = np.ascontiguousarray(images)
    codes = np.empty_like(images)
    function = ctypes.CDLL(str(host_library(SOURCE))).paste_codes_host
    held = (images, *given.arrays, codes)
    layout = _Layout(*(int(value) for value in given.layout))
    function(layout, *(ctypes.c_void_p(array.ctypes.data) for array in held))
    return codes


class _Layout(ctypes.Structure):
    _fields_ = [(f"field{index}", ctypes.c_int32) for index in range(10)]
