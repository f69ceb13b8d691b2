"""The differentiable paste: what crafting optimises through.

It shows what the exact paste shows, pixel for pixel: each pasted pixel is one pixel of the patch,
to which its gradient goes back. (Bilinear colours would be smoother to optimise, but a few pixels
of patch, blurred in crafting and sharp in replay, lose a tenth of their success.) Averaging the
gradient over random placements is expectation over transformation (Athalye et al., arXiv
1707.07397).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..patch import light
from ..patch.paste import FRACTION_BITS, footprint
from ..patch.places import copies
from ..types import Placements


def paste(
    images: Tensor,
    pixels: Tensor,
    *,
    mask: NDArray[np.bool_],
    placements: Placements,
    which: NDArray[np.int64] | None = None,
) -> Tensor:
    """``images (N, 3, H, W)`` with a patch, or copies, on each; differentiable in ``pixels``.

    ``pixels`` is ``(3, h, w)``, one patch for all images, or ``(P, 3, h, w)`` with ``which (N,)``
    telling the patch of each image. All are float32 on one scale, which is 0 to 255 where the
    placements vary the light. Outside the footprint the images come through bit for bit.
    """
    for one in copies(placements):
        images = _pasted(images, pixels, mask=mask, placements=one, which=which)
    return images


def _pasted(
    images: Tensor,
    pixels: Tensor,
    *,
    mask: NDArray[np.bool_],
    placements: Placements,
    which: NDArray[np.int64] | None,
) -> Tensor:
    """The images with one copy on each."""
    height, width = images.shape[2:]
    where = footprint(placements, mask=mask, image_px=(height, width))
    source = (where.down >> FRACTION_BITS) * mask.shape[1] + (where.across >> FRACTION_BITS)
    flat = source.astype(np.int64)
    if which is not None:
        flat += which[where.image] * mask.size
    colours = pixels.reshape(-1, 3, mask.size).transpose(1, 2).reshape(-1, 3)
    image, row, column, taken = (
        torch.from_numpy(index).to(images.device)
        for index in (where.image, where.row, where.column, flat)
    )
    shown = colours[taken]
    if not light.is_plain(placements):
        shown = _lit(shown, torch.from_numpy(light.settings(placements)).to(images)[image])
    pasted = images.permute(0, 2, 3, 1).clone()
    return pasted.index_put((image, row, column), shown).permute(0, 3, 1, 2)


def _lit(colours: Tensor, settings: Tensor) -> Tensor:
    """Colours ``(M, 3)`` in the light of ``settings (M, 2)``: what ``patch/light.py`` shows.

    The colours are rounded before, as patches are; both roundings pass the gradient straight
    through, and what leaves 0..255 has none.
    """
    factor, offset = settings.T[:, :, None]
    exact = (factor * to_bytes(colours) + offset) / light.ONE
    rounded = exact + ((exact.detach() + 0.5).floor() - exact.detach())
    shown: Tensor = rounded.clamp(0.0, float(light.BRIGHTEST))
    return shown


def to_bytes(values: Tensor) -> Tensor:
    """Values rounded to whole numbers in 0..255; the gradient passes straight through."""
    return values + (values.detach().round().clamp(0.0, 255.0) - values.detach())
