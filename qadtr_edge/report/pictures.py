"""The patches and images behind a row, where they can still be read, and pictures made of them.

Patches lie in the run folder. Images are read from the data set the attack named; they count only
when their digest is the row's own, so that no page shows an image that was not attacked.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import data, replay
from ..data.dataset import Dataset
from ..errors import BadInput, QadtrError
from ..integer import graph_file
from ..patch import bank, placed
from ..patch.placement import policy, spoken
from ..types import Patch, Pixels, PlacedPatches, Result
from .evidence import Evidence
from .section import Picture


@dataclass(frozen=True, eq=False)
class Sources:
    """Where patches and images of a run are read from. ``root``: the folder of the data sets."""

    evidence: Evidence
    root: Path | None
    files: Mapping[str, Path]
    _loaded: dict[int, Dataset | str] = field(default_factory=dict)

    def patch(self, row: Result) -> Patch | PlacedPatches | None:
        """The patch of a row, or ``None`` when the folder does not hold it or it is damaged."""
        path = self.files.get(row.patch_digest)
        if path is None:
            return None
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                own_places = "ids" in file
            return placed.load(path) if own_places else bank.load(path)
        except BadInput:
            return None

    def images(self, row: Result) -> Dataset | str:
        """The images of a row, or the sentence that says why they cannot be shown."""
        n = row.counts.n
        if n not in self._loaded:
            self._loaded[n] = _load(self.evidence, n, root=self.root)
        found = self._loaded[n]
        if isinstance(found, Dataset) and replay.data_digest(found) != row.data_digest:
            return "The images at hand are not those that were attacked."
        return found


def sources(evidence: Evidence, *, root: Path | None) -> Sources:
    """The sources of a run. Patch files that cannot be read are passed over."""
    files: dict[str, Path] = {}
    for path in sorted(evidence.home.patches.glob("*.npz")):
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                files[str(json.loads(str(file["header"]))["digest"])] = path
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, TypeError):
            continue
    return Sources(evidence, root, files)


def shown(row: Result, patch: Patch | PlacedPatches, *, images: Dataset, index: int) -> Pixels:
    """Image ``index`` with the patch on it, ``(3, H, W) uint8``: the bytes the engine was shown.

    Raises ``BadInput`` for a region of places that neither row nor patch holds.
    """
    said = replay.Attacked(row.attack, row.knowledge, row.victim, row.tier, row.threat)
    placement = row.placement
    if isinstance(patch, PlacedPatches):
        placement = "plain"  # brings its places along
    elif (made := patch.origin.get("parameters")) and isinstance(made, dict):
        own = str(made.get("placement"))
        placement = own if spoken(own) == row.placement else row.placement
    how = policy(placement, image_px=min(images.images.shape[2:]))
    unit = replay.Unit(said, patch, how, row.seed)
    places = replay.places_of(unit, images)
    one: Pixels = replay.pasted(unit, images, places=places, part=slice(index, index + 1))[0]
    return one


def png(pixels: Pixels, said: str) -> Picture:
    """The picture of pixels ``(3, H, W) uint8``."""
    everywhere = np.ones(pixels.shape[1:], bool)
    return patch_png(Patch(pixels, everywhere, target=None), said)


def patch_png(patch: Patch, said: str) -> Picture:
    """The picture of a patch; what its mask leaves out is transparent."""
    target = io.BytesIO()
    bank.to_image(patch).save(target, format="PNG")
    return Picture(target.getvalue(), "image/png", said)


def _load(evidence: Evidence, n: int, *, root: Path | None) -> Dataset | str:
    attack = evidence.stages.get("attack", {})
    options = attack.get("options")
    name = options.get("data") if isinstance(options, dict) else None
    if not isinstance(name, str):
        return "The manifest does not say which images were attacked."
    try:
        side = _image_px(evidence)
        return data.load(name, "test", root=root, limit=n, image_size=side)
    except QadtrError as error:
        return f"The images cannot be read here: {error.fact} {error.remedy}"


def _image_px(evidence: Evidence) -> int | None:
    """The side of the model's images, from a graph of the run."""
    for path in sorted(evidence.home.graphs.glob("w*a*.npz")):
        graph = graph_file.load(path)
        return graph.tensors[graph.input].shape[1]
    return None
