"""Which patch an analysis shows: one of a file, the newest of the run, or one crafted now."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import console, craft, replay
from ..attacks import controls
from ..attacks.gap import Gap
from ..data.dataset import Dataset
from ..patch import bank
from ..patch.paste import footprint
from ..patch.placement import Policy, check_fit, place, policy
from ..runs import Run
from ..types import FLOAT_BITS, Json, Patch, PatchPerImage, Pixels, Placements
from .scene import BATCH, Scene

PLACEMENT = "random"
"""The places of every analysis but the map of places: where the attacks are scored too."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """A patch, and how it was come by: ``file``, ``newest of the run``, ``crafted`` or ``noise``.

    It is always counted as untargeted: any wrong label is a success.
    """

    patch: Patch | PatchPerImage
    source: str

    def as_json(self) -> dict[str, Json]:
        origin = self.patch.origin
        return {
            "source": self.source,
            "attack": origin.get("attack"),
            "victim": origin.get("victim_name"),
            "seed": origin.get("seed"),
            "rows_px": self.patch.mask.shape[0],
            "columns_px": self.patch.mask.shape[1],
            "made_for_target": self.patch.target,
            "digest": bank.digest(self.patch),
        }

    @property
    def spoken(self) -> str:
        """``gap 6x6 px (newest of the run)`` for a title."""
        height, width = self.patch.mask.shape
        return f"{self.patch.origin.get('attack', 'patch')} {height}x{width} px ({self.source})"


def of_file(path: Path) -> Chosen:
    """The patch in a ``.png`` or ``.npz``. ``BadInput`` when it holds none for all images."""
    return Chosen(bank.load(path), "file")


def newest(run: Run) -> Chosen | None:
    """The patch for all images that was written last into the run, or ``None``."""
    found = sorted(run.patches.glob("*.npz"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in reversed(found):
        if not _is_per_image(path):
            return Chosen(bank.load(path), "newest of the run")
    return None


def crafted(
    run: Run,
    data: Dataset,
    *,
    widths: tuple[int, ...],
    patch_px: tuple[int, int],
    steps: int | None,
    seed: int,
) -> Chosen:
    """A patch by ``gap`` on the simulation at the widest integer width of ``widths``.

    ``data`` is the crafting split. Kept in the run's bank, and read from there the next time.
    """
    bits = max((b for b in widths if b != FLOAT_BITS), default=FLOAT_BITS)
    attack = Gap(patch_px=patch_px) if steps is None else Gap(patch_px=patch_px, steps=steps)
    prey = craft.prey(run, "simulation", bits=bits)
    with console.Progress(f"Crafting gap on {prey.name}", attack.steps, unit="steps") as bar:
        patch = craft.craft(
            attack,
            prey,
            data=data,
            folder=run.patches,
            seed=seed,
            told=lambda count, note: bar.advance(count, note=note),
        )
    return Chosen(patch, "crafted")


def noise(patch_px: tuple[int, int], *, seed: int) -> Chosen:
    """A square of fresh random bytes on each image: what a patch is without an attack."""
    blank = Patch(np.zeros((3, *patch_px), np.uint8), np.ones(patch_px, bool), target=None)
    return Chosen(controls.noise(blank, seed=seed), "noise")


def untargeted(patch: Patch) -> Patch:
    """The same bytes, scored by any wrong label."""
    return replace(patch, target=None)


def how(scene: Scene, patch_px: tuple[int, int]) -> Policy:
    """Where patches of ``patch_px`` land. Raises ``BadInput`` when they do not fit."""
    height, width = scene.test.images.shape[2:]
    policy_ = policy(PLACEMENT, image_px=min(height, width))
    check_fit(policy_, patch_px, image_px=(height, width))
    return policy_


def placed(scene: Scene, data: Dataset, *, patch_px: tuple[int, int]) -> Placements:
    """The place of a patch of ``patch_px`` on each image of ``data``, as in a replay."""
    height, width = data.images.shape[2:]
    return place(
        how(scene, patch_px), data.ids, seed=scene.seed, patch_px=patch_px, image_px=(height, width)
    )


def shown(
    patch: Patch | PatchPerImage, data: Dataset, *, places: Placements, part: slice
) -> Pixels:
    """The images of ``part`` with the patch on them."""
    said = replay.Attacked("", knowledge="none", victim="none", tier="T0", threat="T-A")
    unit = replay.Unit(said, patch, Policy("given"), seed=0)
    return replay.pasted(unit, data, places=places, part=part)


def shown_all(patch: Patch | PatchPerImage, data: Dataset, *, places: Placements) -> Pixels:
    """All images of ``data`` with the patch on them, ``(N, 3, H, W) uint8``."""
    starts = range(0, len(data), BATCH)
    parts = [shown(patch, data, places=places, part=slice(at, at + BATCH)) for at in starts]
    return np.concatenate(parts)


def covered(
    places: Placements, *, mask: NDArray[np.bool_], image_px: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which pixels of each image lie under the patch, ``(N, H, W) bool``."""
    where = footprint(places, mask=mask, image_px=image_px)
    region = np.zeros((len(places.top), *image_px), bool)
    region[where.image, where.row, where.column] = True
    return region


def _is_per_image(path: Path) -> bool:
    """Whether the file holds patches of single images; a damaged one is left to ``bank.load``."""
    try:
        with zipfile.ZipFile(path) as file:
            return "ids.npy" in file.namelist()
    except zipfile.BadZipFile:
        return False
