"""What ``--patch-size`` says: rows and columns of the patch, and which of its pixels are pasted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..patch import region
from ..patch.placement import LARGE_IMAGE_PX
from ..patch.shape import CIRCLE, FRAME, MASK, RECTANGLE
from ..types import Json, Patch
from . import attack_names
from .attack_names import KINDS, Named

ANY_PX = 1 << 14
"""Side of an image that any patch would fit on."""


@dataclass(frozen=True)
class Form:
    """``patch_px``: rows and columns; ``shape``: as of ``patch/shape.py``.

    ``covers``: the patch is as large as the image, and has one place on it.
    """

    patch_px: tuple[int, int]
    shape: str
    covers: bool

    @property
    def options(self) -> dict[str, Json]:
        """What attacks are constructed with besides its size."""
        return {} if self.shape == RECTANGLE else {"shape": self.shape}


def form(text: str | None, given: tuple[Patch, ...] = (), *, image_px: int) -> Form:
    """The form of ``6``, ``4x12``, ``circle:8``, ``frame:2`` or ``mask:FILE.png``.

    Without text: 6, or 50 on large images. The form of patches that are given stands. Raises
    ``BadInput`` for a text that is none, or that says otherwise.
    """
    shape, size = RECTANGLE, text
    if text is not None and ":" in text:
        if given:
            raise BadInput(
                f"--patch-size {text} says a shape, and a patch that is given has its own.",
                "Leave --patch-size out; in a PNG, transparent pixels are no part of the patch.",
            )
        kind, _, size = text.partition(":")
        shape = CIRCLE
        if kind == "frame":
            return Form((image_px, image_px), _frame(text, image_px=image_px), covers=True)
        if kind == "mask":
            read = region.read(Path(size))
            shape = f"{MASK}{read}"
            size = read.partition(":")[0]
        elif kind != "circle":
            raise BadInput(
                f"{text!r} is not a patch size.",
                "Give --patch-size 6, 4x12, circle:8, frame:2 or mask:FILE.png.",
            )
    px = patch_px(size, given, image_px=image_px)
    return Form(px, shape, covers=shape != RECTANGLE and px == (image_px, image_px))


def patch_px(text: str | None, given: tuple[Patch, ...] = (), *, image_px: int) -> tuple[int, int]:
    """Rows and columns of ``6`` or ``4x12``; without text 6, or 50 on large images.

    Those of patches that are given stand; raises ``BadInput`` for a text that says otherwise.
    """
    if given:
        rows, columns = np.max([patch.mask.shape for patch in given], axis=0).tolist()
        if text is not None and patch_px(text, image_px=image_px) != (rows, columns):
            raise BadInput(
                f"The given patch has {rows}x{columns} pixels, not {text}.",
                "Leave --patch-size out, or resize the picture.",
            )
        return rows, columns
    if text is None:
        side = 6 if image_px < LARGE_IMAGE_PX else 50
        return side, side
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if not match or not int(match[1]) or not int(match[2] or match[1]):
        raise BadInput(f"{text!r} is not a patch size.", "Give pixels: --patch-size 6, or 4x12.")
    return int(match[1]), int(match[2] or match[1])


def check(chosen: Named, text: str | None, *, suite: str | None) -> None:
    """Raises ``BadInput`` for a text that is no form, or one that an attack cannot hold.

    The size of the images is not known yet.
    """
    form(text, image_px=ANY_PX)
    if text is None or ":" not in text:
        return
    if suite is not None:
        raise BadInput(
            f"A suite makes rectangles, some of its attacks nothing else, and not {text}.",
            "Give --patch-size 6 or 4x12, or name attacks with --attack.",
        )
    every = (chosen.universal, chosen.per_image, chosen.searches, chosen.universal_searches)
    for kind, names in zip(KINDS, every, strict=True):
        for name in names:
            known = attack_names.takes(kind, name)
            if "patch_px" in known and "shape" not in known:
                raise BadInput(
                    f"{name} makes patches of its own shape, and not {text}.",
                    f"Leave out {name}, or give --patch-size 6 or 4x12.",
                )


def _frame(text: str, *, image_px: int) -> str:
    """The shape of ``frame:T``. Raises ``BadInput`` unless an image is left inside."""
    if not re.fullmatch(r"frame:[1-9]\d*", text) or 2 * int(text.removeprefix(FRAME)) >= image_px:
        raise BadInput(
            f"{text!r} is no frame around an image of {image_px}x{image_px} pixels.",
            "Give its thickness in pixels: --patch-size frame:2.",
        )
    return text
