"""What attacks that make one patch for all images share: which images to use, which patch to keep.

The patch kept is the one that wins most on images held out from the crafting, judged as the bytes
that will be replayed: rounded, and pasted exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import metrics, streams
from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.paste import paste
from ..patch.placement import Policy, place
from ..patch.shape import RECTANGLE, mask_of
from ..types import Labels, Patch, Pixels, Placements
from .victim import Victim, as_pixels, logits_of

HELD_OUT = 400
SMALLEST = 8


def only(data: Dataset, chosen: NDArray[np.generic]) -> Dataset:
    """The images of ``data`` at the indices, or under the mask, ``chosen``."""
    return replace(
        data, images=data.images[chosen], labels=data.labels[chosen], ids=data.ids[chosen], files=()
    )


def split(victim: Victim, data: Dataset, *, target: int | None) -> tuple[Dataset, Dataset]:
    """Images to craft on, and images held out to choose by: those the victim gets right.

    At most a fifth, and at most 400, are held out. Images of the target class are left out. Raises
    ``BadInput`` when too few remain.
    """
    clean = metrics.predicted(logits_of(victim, data.images))
    able = only(data, metrics.eligible(clean, data.labels, target=target))
    held = min(HELD_OUT, len(able) // 5)
    if held < SMALLEST:
        raise BadInput(
            f"The victim is right on {len(able)} of the {len(data)} crafting images that could be "
            f"used; at least {5 * SMALLEST} are needed.",
            "Give more crafting images, or check that --data is what the model was trained on.",
        )
    indices = np.arange(len(able))
    return only(able, indices[held:]), only(able, indices[:held])


@dataclass(frozen=True, eq=False)
class Jury:
    """Judges patches on held-out images, always at the same places."""

    victim: Victim
    held: Dataset
    policy: Policy
    seed: int

    def score(self, patch: Patch) -> tuple[float, float]:
        """Success rate, then mean margin in logits; tuples compare in that order."""
        rows, columns = patch.mask.shape
        height, width = self.held.images.shape[2:]
        places = place(
            self.policy,
            self.held.ids,
            seed=streams.key(self.seed, "jury"),
            patch_px=(rows, columns),
            image_px=(height, width),
        )
        shown = paste(self.held.images, patch.pixels, mask=patch.mask, placements=places)
        logits = logits_of(self.victim, shown)
        truth = self.held.labels
        won = metrics.succeeded(metrics.predicted(logits), truth, target=patch.target)
        margin = metrics.margins(logits, truth, target=patch.target)
        return float(won.mean()), float(margin.mean())


@dataclass
class Best:
    """The best patch offered so far."""

    jury: Jury
    patch: Patch | None = None
    score: tuple[float, float] = (-1.0, 0.0)

    def offer(self, pixels: Pixels, *, like: Patch) -> None:
        """Keeps ``pixels (3, h, w) uint8`` if they win more than what was kept."""
        candidate = replace(like, pixels=pixels)
        if (score := self.jury.score(candidate)) > self.score:
            self.patch, self.score = candidate, score

    @property
    def kept(self) -> Patch:
        assert self.patch is not None, "nothing was offered"
        return self.patch

    @property
    def told(self) -> str:
        """A note for the progress line."""
        return f"held-out success {self.score[0]:.0%}" if self.patch else ""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one step of a crafting sees: ``chosen`` images of the data, in pixels, and places."""

    step: int
    chosen: Labels
    images: Tensor
    labels: Tensor
    places: Placements


def drawn(
    data: Dataset, how: Policy, *, patch_px: tuple[int, int], steps: int, batch: int,
    chance: np.random.Generator, seed: int, name: str,
) -> Iterator[Drawn]:  # fmt: skip
    """Images and places of each of ``steps`` steps, drawn anew: expectation over transformation.

    ``chance`` draws the images; the places are a function of (``seed``, ``name``, step, image).
    """
    rows, columns = data.images.shape[2:]
    places_seed = streams.key(seed, name, "places")
    for step in range(1, steps + 1):
        chosen = chance.integers(0, len(data), batch)
        places = place(
            how, data.ids[chosen], seed=places_seed, patch_px=patch_px, image_px=(rows, columns),
            draw=step,
        )  # fmt: skip
        labels = torch.from_numpy(data.labels[chosen])
        yield Drawn(step, chosen, as_pixels(data.images[chosen]), labels, places)


def blank(patch_px: tuple[int, int], *, target: int | None, shape: str = RECTANGLE) -> Patch:
    """A black patch of a shape of ``patch/shape.py``."""
    return Patch(np.zeros((3, *patch_px), np.uint8), mask_of(shape, patch_px), target=target)


def noise(chance: np.random.Generator, patch_px: tuple[int, int]) -> Tensor:
    """Uniform noise ``(3, h, w) float32`` in [0, 1): where an ascent starts."""
    return torch.from_numpy(chance.random((3, *patch_px), dtype=np.float32))


def as_bytes(values: Tensor) -> Pixels:
    """Values in 0..1 as the nearest ``uint8``: the bytes that are judged and stored."""
    return np.rint(255.0 * values.detach().numpy()).astype(np.uint8)
