"""From a torch classifier to a ``QuantNet``: raw bytes become the first integer codes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import Unsupported
from ..types import QuantSpec
from .layers import PIXEL_CENTRE, PIXEL_DIVISOR, PixelInput
from .quantnet import QuantNet
from .steps import trace


def prepare(
    model: nn.Module, spec: QuantSpec, *, widths: Sequence[int], classes: int, image_px: int
) -> QuantNet:
    """A ``QuantNet`` with the weights of ``model`` (which is left as it is), not yet calibrated.

    ``model`` maps pixels 0..255 to logits and starts with ``PixelInput``. One with a mean and
    deviation per channel is folded into its first convolution: exactly inside the image, while the
    border is padded with pixel 128 instead of the mean colour (noted in ``QuantNet.notes``).
    Raises ``Unsupported`` naming an operation that has no integer form.
    """
    model = copy.deepcopy(model).eval()
    steps = trace(model)
    notes: tuple[str, ...] = ()
    pixel_input = steps[0].module
    if isinstance(pixel_input, PixelInput) and not pixel_input.is_raw:
        readers = [step for step in steps if steps[0].name in step.inputs]
        if len(readers) != 1 or not isinstance(readers[0].module, nn.Conv2d):
            raise Unsupported(
                "A mean and deviation per channel fold only into one first convolution.",
                "Train with one normalisation for all channels (PixelInput without arguments).",
            )
        _fold_into(readers[0].module, pixel_input)
        if any(readers[0].module.padding):
            notes = (
                "input mean and deviation folded into the first convolution; "
                "its padding is pixel 128, not the mean colour",
            )
        pixel_input.is_raw = True
    net = QuantNet(model, spec=spec, widths=widths, classes=classes, image_px=image_px)
    net.notes = notes
    return net


@torch.no_grad()
def _fold_into(conv: nn.Conv2d, pixel_input: PixelInput) -> None:
    """Rewrite ``conv`` to read ``(pixel - 128) / 64`` in place of the normalised pixel."""
    if conv.groups != 1:
        raise Unsupported(
            "The first convolution is grouped.", "Use an ungrouped first convolution."
        )
    deviation: Tensor = pixel_input.std
    offset = (PIXEL_CENTRE / 255 - pixel_input.mean) / deviation
    shift = (conv.weight * offset).sum(dim=(1, 2, 3))
    conv.weight.mul_(PIXEL_DIVISOR / 255 / deviation)
    conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias + shift)
