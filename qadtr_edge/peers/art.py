"""The Adversarial Robustness Toolbox (ART): these engines under its attacks, its patches on these.

ART's images are floats of 0 to 255 here, channels first, since that is what a patch is in bytes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset
from ..errors import BadInput, MissingDependency
from ..replay import BATCH, Model
from ..types import Labels, Patch, PlacedPatches
from .attacked import placed_patches, to_bytes
from .callables import on_arrays

if TYPE_CHECKING:
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

TOP = 255.0


class Attack(Protocol):
    """An attack object of ART on images: ``art.attacks.evasion.EvasionAttack``."""

    def generate(self, x: NDArray[np.float32], y: Labels) -> NDArray[np.float32]: ...


class PatchAttack(Protocol):
    """One that makes a patch: ``AdversarialPatch`` and its kin."""

    def generate(
        self, x: NDArray[np.float32], y: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


def black_box(
    model: Model, *, classes: int, image_px: tuple[int, int], batch: int = BATCH
) -> BlackBoxClassifierNeuralNetwork:
    """An engine as ART's black-box classifier: scores, no gradient, values of 0 to 255.

    Raises ``MissingDependency`` without ART.
    """
    try:
        module = import_module("art.estimators.classification")
    except ModuleNotFoundError:
        raise MissingDependency(
            "adversarial-robustness-toolbox", "peers", purpose="peers.art"
        ) from None
    made: BlackBoxClassifierNeuralNetwork = module.BlackBoxClassifierNeuralNetwork(
        on_arrays(model, top=TOP, batch=batch), (3, *image_px), classes, channels_first=True,
        clip_values=(0.0, TOP),
    )  # fmt: skip
    return made


def patches_of(attack: Attack, data: Dataset, *, patch_px: tuple[int, int]) -> PlacedPatches:
    """What an attack of ART does to each image of ``data``, as patches to replay.

    Raises ``BadInput`` when it changes more of an image than ``patch_px``.
    """
    images = data.images.astype(np.float32)
    attacked = to_bytes(attack.generate(x=images, y=data.labels), top=TOP)
    return placed_patches(data, attacked, patch_px=patch_px, name=f"art:{type(attack).__name__}")


def patch_of(
    attack: PatchAttack, data: Dataset, *, classes: int, target: int | None = None
) -> Patch:
    """The patch that ART's ``AdversarialPatch`` family makes on the images of ``data``.

    Its target, for an attack that ART calls targeted; else it is pushed from the true class.
    """
    wanted = data.labels if target is None else np.full(len(data), target)
    if wanted.max(initial=0) >= classes:
        raise BadInput(f"There are {classes} classes.", "Give --target one of them.")
    one_hot = np.eye(classes, dtype=np.float32)[wanted]
    pixels, mask = attack.generate(x=data.images.astype(np.float32), y=one_hot)
    covered = np.asarray(mask).reshape(-1, *mask.shape[-2:]).max(axis=0) > 0
    return Patch(
        pixels=to_bytes(np.asarray(pixels), top=TOP),
        mask=covered,
        target=target,
        origin={"attack": f"art:{type(attack).__name__}"},
    )
