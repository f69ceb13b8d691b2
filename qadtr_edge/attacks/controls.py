"""Controls: what a square does without an attack in it. They know nothing of any model.

Each has the mask, the places and the images of the patch it stands beside. ``grey``, ``noise`` and
``crop`` are occlusion; the occlusion control is the strongest of them. ``shuffled`` has the colours
of the attack's own patch without their arrangement. Needs no torch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .. import streams
from ..data.dataset import Dataset
from ..types import Json, Labels, Patch, PatchPerImage, Pixels

OCCLUSION = ("grey", "noise", "crop")
GREY = 128


def controls(
    patch: Patch, *, pool: Dataset, seed: int, shuffles: bool = True
) -> dict[str, Patch | PatchPerImage]:
    """The controls that match ``patch``, by name; ``pool`` supplies the crops.

    ``pool`` must hold none of the scored images: then a crop is always of another image.
    """
    found: dict[str, Patch | PatchPerImage] = {
        "grey": grey(patch),
        "noise": noise(patch, seed=seed),
        "crop": crop(patch, pool=pool, seed=seed),
    }
    return {**found, "shuffled": shuffled(patch, seed=seed)} if shuffles else found


def grey(patch: Patch) -> Patch:
    """Mid-grey, 128."""
    return replace(patch, pixels=np.full_like(patch.pixels, GREY), origin={"attack": "grey"})


def noise(patch: Patch, *, seed: int) -> PatchPerImage:
    """Uniform random bytes, fresh on each image."""
    height, width = patch.mask.shape

    def pixels_of(ids: Labels) -> Pixels:
        drawn = streams.uniform(seed, "control:noise", indices=ids, draws=3 * height * width)
        return (256.0 * drawn).astype(np.uint8).reshape(len(ids), 3, height, width)

    return PatchPerImage(
        pixels_of, patch.mask, target=patch.target, origin={"attack": "noise", "seed": seed}
    )


def crop(patch: Patch, *, pool: Dataset, seed: int) -> PatchPerImage:
    """A piece of an image of ``pool``, another place of another image for each id."""
    height, width = patch.mask.shape
    windows: NDArray[np.uint8] = sliding_window_view(pool.images, (height, width), axis=(2, 3))
    sides = np.array([len(pool), *windows.shape[2:4]])

    def pixels_of(ids: Labels) -> Pixels:
        drawn = streams.uniform(seed, "control:crop", indices=ids, draws=3)
        image, row, column = (drawn * sides).astype(np.int64).T
        pieces: Pixels = windows[image, :, row, column]
        return pieces

    origin: dict[str, Json] = {"attack": "crop", "seed": seed, "pool": pool.digest}
    return PatchPerImage(pixels_of, patch.mask, target=patch.target, origin=origin)


def shuffled(patch: Patch, *, seed: int) -> Patch:
    """The patch's own pixels in random order."""
    pixels = patch.pixels.copy()
    inside = pixels[:, patch.mask]
    order = streams.generator(seed, "control", "shuffled").permutation(inside.shape[1])
    pixels[:, patch.mask] = inside[:, order]
    return replace(patch, pixels=pixels, origin={"attack": "shuffled", "seed": seed})
