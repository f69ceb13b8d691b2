"""Patches on disk: pixels, mask, target and origin in an ``.npz``, and a PNG that can be looked at.

The PNG holds the same pixels at their own size, with the mask as transparency, so it can be edited,
printed and given back with ``--patch``. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput, MissingDependency
from ..files import replacing
from ..types import Json, Patch, PatchPerImage, PlacedPatches
from . import placed

if TYPE_CHECKING:
    from PIL.Image import Image

KEY_DIGITS = 16


def key(recipe: Mapping[str, Json]) -> str:
    """16 hexadecimal digits that stand for ``recipe``: everything that determines a patch."""
    text = json.dumps(recipe, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def digest(patch: Patch | PatchPerImage | PlacedPatches) -> str:
    """SHA-256 of the bytes that can be pasted (shape, mask, pixels), in hexadecimal.

    Of a patch per image: of its mask and origin, which determine the bytes. Of placed patches: of
    their places too.
    """
    if isinstance(patch, PlacedPatches):
        return placed.digest(patch)
    sha = hashlib.sha256(repr(patch.mask.shape).encode())
    sha.update(np.packbits(patch.mask).tobytes())
    if isinstance(patch, Patch):
        sha.update(np.ascontiguousarray(patch.pixels).tobytes())
    else:
        sha.update(key(patch.origin).encode())
    return sha.hexdigest()


def save(patch: Patch, path: Path) -> None:
    """Writes ``path`` (``.npz``) and its PNG preview beside it, each whole or not at all."""
    with replacing(path.with_suffix(".png")) as temporary:
        to_image(patch).save(temporary, format="PNG")
    header = {
        "target": patch.target,
        "origin": dict(patch.origin),
        "digest": digest(patch),
    }
    with replacing(path) as temporary:
        np.savez(
            temporary,
            pixels=patch.pixels,
            mask=patch.mask,
            header=np.array(json.dumps(header, sort_keys=True, allow_nan=False)),
        )


def load(path: str | PathLike[str]) -> Patch:
    """The patch in an ``.npz`` or a PNG.

    An ``.npz`` of other origin needs ``pixels (3, h, w) uint8`` and may hold ``mask (h, w) bool``.
    A PNG is RGB, or RGBA whose transparent pixels are left out of the patch. Raises ``BadInput``.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"There is no patch file {path}.", "Give a .png or .npz file with --patch.")
    if path.suffix.lower() == ".png":
        return _from_png(path)
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    raise BadInput(f"{path} is neither .png nor .npz.", "Save the patch as an 8-bit RGB PNG.")


def to_image(patch: Patch) -> Image:
    """The patch as a Pillow image: RGB, or RGBA when the mask leaves pixels out."""
    layers = patch.pixels.transpose(1, 2, 0)
    if not patch.mask.all():
        layers = np.concatenate([layers, (patch.mask * np.uint8(255))[..., None]], axis=2)
    image: Image = _pillow("Writing a patch preview").fromarray(np.ascontiguousarray(layers))
    return image


def _from_npz(path: Path) -> Patch:
    remedy = "Delete it: the next run crafts it again. Or give another file with --patch."
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            per_image = "ids" in file
            pixels = file["pixels"]
            mask = file["mask"] if "mask" in file else np.ones(pixels.shape[1:], bool)
            header = json.loads(str(file["header"])) if "header" in file else {}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError) as error:
        raise BadInput(f"{path} is damaged, or is no patch ({error}).", remedy) from error
    if per_image:
        raise BadInput(
            f"{path} holds patches that belong to single images, each at its own place.",
            "Give a patch made for all images with --patch.",
        )
    whole = pixels.ndim == 3 and pixels.shape[0] == 3 and mask.shape == pixels.shape[1:]
    if not whole or pixels.dtype != np.uint8 or mask.dtype != np.bool_ or not mask.any():
        raise BadInput(
            f"{path} holds pixels {pixels.shape} {pixels.dtype} and a mask {mask.shape} "
            f"{mask.dtype}; a patch is (3, h, w) uint8 with an (h, w) bool mask that is not empty.",
            "Save it in that layout, or as an RGB PNG.",
        )
    patch = Patch(pixels, mask, target=header.get("target"), origin=header.get("origin", {}))
    if header.get("digest", digest(patch)) != digest(patch):
        raise BadInput(f"{path} is damaged: its digest does not match its pixels.", remedy)
    return patch


def _from_png(path: Path) -> Patch:
    pillow = _pillow("Reading a PNG patch")
    try:
        with pillow.open(path) as image:
            image.load()
            mode, colours = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{path} cannot be read as a PNG ({error}).", "Save it again.") from error
    if mode not in ("RGB", "RGBA"):
        raise BadInput(
            f"{path} is a PNG of mode {mode}; a patch is 8-bit RGB or RGBA.",
            "Convert it in Python: PIL.Image.open(file).convert('RGB').save(file).",
        )
    pixels = np.ascontiguousarray(colours[..., :3].transpose(2, 0, 1))
    mask = np.ones(pixels.shape[1:], bool)
    if mode == "RGBA":
        if not np.isin(colours[..., 3], (0, 255)).all():
            raise BadInput(
                f"{path} has half-transparent pixels; a printed patch has none.",
                "Make every pixel fully opaque (part of the patch) or fully transparent (not).",
            )
        mask = colours[..., 3] == 255
        if not mask.any():
            raise BadInput(f"{path} is wholly transparent.", "Give a patch with opaque pixels.")
    return Patch(pixels, mask, target=None, origin={"attack": "file", "file": path.name})


def _pillow(purpose: str) -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("pillow", "train", purpose=purpose) from error
    return Image
