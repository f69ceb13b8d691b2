"""The patch paste on a GPU, straight into an engine's input: ``cuda/paste.cu``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.patch import light
from qadtr_edge.patch.paste import coefficients
from qadtr_edge.types import Pixels, Placements

from .build import CUDA, cubin, host_library
from .memory_pycuda import PyCudaDevice, PyCudaStream

SOURCE = CUDA / "paste.cu"
FLIP_TO_CODES = 0x80
"""A byte with its sign bit flipped is the int8 code of zero point 128."""

_THREADS = 256


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
    """The kernel on one GPU, for one stream: batches share the buffers its arguments go through.

    Images and codes are device memory; the rest is copied in.
    """

    def __init__(self, device: PyCudaDevice) -> None:
        architecture = "sm_" + device.facts["compute_capability"].replace(".", "")
        self._kernel = device.function(cubin(SOURCE, architecture), "paste_codes")
        self._device = device
        self._places: dict[str, tuple[int, int]] = {}

    def __call__(
        self, images_at: int, codes_at: int, *, given: Arguments, stream: PyCudaStream
    ) -> None:
        """Queues the paste of ``given`` on the images at one address into codes at another."""
        held: dict[str, NDArray[np.generic]] = {
            "patches": given.patches,
            "mask": given.mask,
            "maps": given.maps,
            "corners": given.corners,
        }
        at = {name: self._put(name, array, stream) for name, array in held.items()}
        self._kernel(
            given.layout,
            [images_at, *at.values(), codes_at],
            blocks=-(-given.pixels // _THREADS), threads=_THREADS, stream=stream,
        )  # fmt: skip

    def _put(self, name: str, array: NDArray[np.generic], stream: PyCudaStream) -> int:
        """The address of device memory that holds ``array`` once the stream has come to it."""
        address, size = self._places.get(name, (0, -1))
        if size < array.nbytes:
            address = self._device.allocate(array.nbytes)
            self._places[name] = (address, array.nbytes)
        stream.copy_in(address, array)
        return address


def paste_on_cpu(images: Pixels, given: Arguments) -> Pixels:
    """The kernel's own source, compiled for this CPU and run: its codes as bytes (N, 3, H, W)."""
    images = np.ascontiguousarray(images)
    codes = np.empty_like(images)
    function = ctypes.CDLL(str(host_library(SOURCE))).paste_codes_host
    held = (images, given.patches, given.mask, given.maps, given.corners, codes)
    layout = _Layout(*(int(value) for value in given.layout))
    function(layout, *(ctypes.c_void_p(array.ctypes.data) for array in held))
    return codes


class _Layout(ctypes.Structure):
    _fields_ = [(f"field{index}", ctypes.c_int32) for index in range(10)]
