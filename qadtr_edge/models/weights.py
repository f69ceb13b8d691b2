"""Float weights a user already has: safetensors, or torch files read without executing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BadInput
from .layers import PixelInput, WithPixels

IMAGENET_PIXELS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel mean and deviation of most public checkpoints, the CIFAR-10 ResNets included."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from ``.safetensors``, ``.npz``, or a torch file (``weights_only=True``).

    A nested ``state_dict`` or ``model`` entry is opened, ``module.`` prefixes are dropped.
    Raises ``BadInput`` for a missing, damaged or pickled-code file.
    """
    if not path.is_file():
        raise BadInput(f"There is no weights file {path}.", "Give the path of an existing file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: object = load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: torch.from_numpy(arrays[name]).float() for name in arrays.files}
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"The weights file {path} cannot be read: {reason}.",
            "Give a safetensors file, an .npz, or a torch file that holds tensors only.",
        ) from error
    for name in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no named tensors.", "Save the model's state_dict.")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights in ``path`` into ``model``: the same names with the same shapes, no others.

    Only the counters ``num_batches_tracked`` may be missing. Raises ``BadInput`` otherwise.
    """
    found = read_weights(path)
    model = model.net if isinstance(model, WithPixels) else model
    wanted = model.state_dict()
    surplus = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found and "num_batches" not in name]
    if missing:
        raise BadInput(
            f"{path} lacks {len(missing)} of the model's tensors, {missing[0]!r} first.",
            "Choose the --model these weights were made for.",
        )
    if surplus:  # a shallower model's names are all in a deeper one's file
        raise BadInput(
            f"{path} holds {len(surplus)} tensors the model has not, {surplus[0]!r} first.",
            "Choose the --model these weights were made for.",
        )
    for name, tensor in wanted.items():
        if name in found and found[name].shape != tensor.shape:
            raise BadInput(
                f"{path}: {name!r} has shape {tuple(found[name].shape)}, "
                f"the model wants {tuple(tensor.shape)}.",
                "Choose the --model and number of classes these weights were made for.",
            )
    model.load_state_dict(found, strict=False)


@torch.no_grad()
def reverse_channels(model: nn.Module) -> None:
    """Makes a model whose weights expect BGR read RGB: the first convolution's channels, reversed.

    Exact. Raises ``BadInput`` when the model does not start with a convolution of three channels.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)), None)
    if not isinstance(first, nn.Conv2d) or first.in_channels != 3 or first.groups != 1:
        raise BadInput(
            "The model does not start with a convolution of three channels.",
            "Leave --bgr out, and give weights that expect RGB.",
        )
    first.weight.copy_(first.weight.flip(1))


def public_pixels() -> PixelInput:
    """The normalisation public checkpoints expect (mean and deviation of ImageNet)."""
    return PixelInput(*IMAGENET_PIXELS)
