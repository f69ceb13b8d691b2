"""What training shows a network instead of the stored image: shifted, sometimes mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CODE_ZERO = 128  # the pixel that a model's input rule, pixel - 128, maps to 0


def augment(
    images: torch.Tensor, generator: torch.Generator, *, flip: bool, crop_px: int
) -> torch.Tensor:
    """Images ``(B, 3, H, W) uint8`` after a random crop and, with ``flip``, a random mirroring.

    Each image is padded by ``crop_px`` grey pixels on every side and cut back to H x W at a place
    of its own (He et al. 2016, section 4.2: 4 pixels); every second one, at random, is mirrored.
    Draws come from ``generator`` alone, so the same state gives the same bytes.
    """
    import torch
    from torch.nn.functional import pad

    count, _, height, width = images.shape
    where = generator.device
    if crop_px:
        corner = torch.randint(2 * crop_px + 1, (2, count), generator=generator, device=where)
        top, left = corner.to(images.device)
        padded = pad(images, (crop_px,) * 4, value=_CODE_ZERO)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(count, device=images.device), :, top, left]
    if flip:
        mirror = torch.rand(count, generator=generator, device=where).to(images.device) < 0.5
        images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    return images
