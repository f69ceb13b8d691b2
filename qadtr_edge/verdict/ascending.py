"""Probes that ascend a loss on the simulation: steps, sizes, gradients, and how attacks fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import streams
from ..attacks import upright
from ..attacks.ascent import Ascended, Ascent, Gain, ascend, gain_of
from ..attacks.per_image import lead_of
from ..attacks.queries import Ledger, Logits, Model
from ..attacks.victim import BATCH, Victim, as_pixels, frozen, logits_of
from ..data.dataset import Dataset
from ..types import Json, PlacedPatches
from .asking import Doubled, fooled, part, shown, step

STEP_SIZE = 0.05
BORDER_PX = 2
LAST = 10
MOVED = 0.05
"""Share of all its rise that a loss makes in the last ten steps from which it is still moving."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """What one ascent found.

    ``patches``: the best of each image; ``score (N,)``: its lead as the attack kept it; ``leads
    (T, N)``: the lead at every step of every start, in the order they were met.
    """

    patches: PlacedPatches
    score: Floats
    leads: Floats


class White:
    """Sign ascent of the margin through one victim, on images it gets right.

    The same (seed, image) starts from the same noise at the same place whatever else is asked, so
    that more steps and more restarts continue what fewer did.
    """

    def __init__(
        self, victim: Victim, data: Dataset, *, patch_px: tuple[int, int], steps: int,
        restarts: int, seed: int,
    ) -> None:  # fmt: skip
        self.victim, self.data, self.seed = victim, data, seed
        self.how = Ascent(patch_px, steps=steps, step_size=STEP_SIZE, moves="none", attempts=1)
        self.restarts = restarts
        self._base: Run | None = None

    @property
    def base(self) -> Run:
        """The first start of all images, with which others are compared."""
        if self._base is None:
            self._base = self.run(self.how)
        return self._base

    def run(
        self, how: Ascent, *, start: int = 0, victim: Victim | None = None,
        data: Dataset | None = None,
    ) -> Run:  # fmt: skip
        """One ascent of all images, or of those of ``data``, from the noise of that ``start``."""
        prey = self.victim if victim is None else victim
        images = self.data if data is None else data
        parts: list[Ascended] = []
        leads: list[Floats] = []
        with frozen(prey):
            for first in range(0, len(images), BATCH):
                rows = slice(first, first + BATCH)
                labels = torch.from_numpy(images.labels[rows])
                met: list[Tensor] = []
                parts.append(
                    ascend(
                        prey,
                        as_pixels(images.images[rows]),
                        gain=gain_of("margin", labels),
                        how=how,
                        ids=images.ids[rows],
                        seed=streams.key(self.seed, "probe", start),
                        score=_noting(lead_of(labels, target=None), met),
                    )
                )
                leads.append(torch.stack(met).numpy())
        patches = PlacedPatches(
            ids=images.ids,
            pixels=torch.cat([part.pixels for part in parts]).numpy().astype(np.uint8),
            mask=np.ones(how.patch_px, np.bool_),
            placements=upright.placements(torch.cat([part.corners for part in parts])),
            target=None,
        )
        score = torch.cat([part.score for part in parts]).numpy()
        return Run(patches, score, np.concatenate(leads, axis=1))

    def restarted(self, how: Ascent, won: Flags, *, starts: range, answers: Model) -> Flags:
        """``won (N,)`` and what further starts fool; an image leaves once ``answers`` is fooled."""
        fallen = won.copy()
        for start in starts:
            rows = np.flatnonzero(~fallen)
            if not len(rows):
                break
            left = part(self.data, rows)
            found = self.run(how, start=start, data=left).patches
            fallen[rows] = fooled(answers, left, found=found)
        return fallen

    def won(self, run: Run) -> Flags:
        """Images the patches of ``run`` fool on the simulation, judged from their bytes."""
        return fooled(self._answers, self.data, found=run.patches)

    def by_steps(self) -> list[Json]:
        """One step against all."""
        one = self.run(replace(self.how, steps=1))
        pairs = ((1, one), (self.how.steps, self.base))
        return [{"steps": steps, **step(self.data, self.won(run))} for steps, run in pairs]

    def by_size(self) -> list[Json]:
        """Square patches of 2, 4, … pixels, up to half the image."""
        half = min(self.data.images.shape[2:]) // 2
        sides = [*(2**power for power in range(1, half.bit_length()) if 2**power < half), half]
        return [
            {"size_px": side, **step(self.data, self.won(self.run(self._sized(side, side))))}
            for side in sides
        ]

    def unbounded(self) -> Flags:
        """Images that a patch over all but a border fools, restarted."""
        rows, columns = (side - 2 * BORDER_PX for side in self.data.images.shape[2:])
        how = replace(self._sized(rows, columns), corner=(BORDER_PX, BORDER_PX))
        none = np.zeros(len(self.data), np.bool_)
        return self.restarted(how, none, starts=range(self.restarts), answers=self._answers)

    def zero_gradients(self, plain: Victim | None) -> dict[str, Json]:
        """Images whose patch has no gradient at its random start, by loss and victim."""
        logits = logits_of(self.victim, self.data.images)
        top = np.sort(logits, axis=1)[:, -2:]
        temperature = max(float(np.median(top[:, 1] - top[:, 0])), 1e-6)
        return {
            "images": len(self.data),
            "straight_through": int(self._zero(self.victim, "margin").sum()),
            "cross_entropy": int(self._zero(self.victim, "cross_entropy").sum()),
            "temperature": int(
                self._zero(self.victim, "cross_entropy", temperature=temperature).sum()
            ),
            "plain": None if plain is None else int(self._zero(plain, "margin").sum()),
        }

    def loss(self, clean: Logits) -> dict[str, Json]:
        """Whether the loss rose, labels changed, and its sign agrees with the judged label.

        ``clean``: the engine's logits of the images, of which a softmax output is told.
        """
        run = self.base
        won = self.won(run)
        share = np.abs(clean.sum(axis=1) - 1.0) < 0.05
        return {
            "objective": "margin",
            "images": len(self.data),
            "rose": int((run.leads.max(axis=0) > run.leads[0]).sum()),
            "fooled": int(won.sum()),
            "disagree": int(((run.score > 0) != won).sum()),
            "softmax": bool((share & (clean.min(axis=1) >= 0.0)).all()),
        }

    def indicators(self, ledger: Ledger, *, fallen: Flags, unbounded: Flags) -> dict[str, Json]:
        """The six indicators of attack failure (Pintor et al.), as counts of images.

        Transfer failure is this project's: fooled on the simulation and not on the engine. A loss
        is still moving where the last ten steps made over 5 % of its rise, on an image that no
        start fools. ``fallen``, ``unbounded (N,)``: images fooled by some start, and by a patch
        over the whole image.
        """
        run = self.base
        won = self.won(run)
        best = np.maximum.accumulate(run.leads, axis=0)
        rise = best[-1] - best[0]
        moving = best[-1] - best[max(0, len(best) - 1 - LAST)] > MOVED * rise
        images = shown(self.data, run.patches)
        again = self._answers(images) != self._answers(images)
        return {
            "images": len(self.data),
            "unavailable_gradients": int(self._zero(self.victim, "margin").sum()),
            "unstable_predictions": int(again.any(axis=1).sum()),
            "silent_success": int(((run.leads > 0).any(axis=0) & ~won).sum()),
            "incomplete_optimisation": int((moving & ~won & ~fallen).sum()),
            "transfer_failure": int((won & ~fooled(ledger, self.data, found=run.patches)).sum()),
            "unconstrained_failure": int((~unbounded).sum()),
        }

    def doubled(self, ledger: Ledger) -> dict[str, Doubled]:
        """Steps and restarts continued to twice as many, judged on the engine."""
        one = fooled(ledger, self.data, found=self.base.patches)
        longer = replace(self.how, steps=2 * self.how.steps)
        several = self.restarted(self.how, one, starts=range(1, self.restarts), answers=ledger)
        twice = range(self.restarts, 2 * self.restarts)
        return {
            "steps": (one, self.restarted(longer, one, starts=range(1), answers=ledger)),
            "restarts": (several, self.restarted(self.how, several, starts=twice, answers=ledger)),
        }

    def _sized(self, rows: int, columns: int) -> Ascent:
        return replace(self.how, patch_px=(rows, columns))

    def _answers(self, images: NDArray[np.uint8]) -> Logits:
        return logits_of(self.victim, images)

    def _zero(self, victim: Victim, loss: str, *, temperature: float = 1.0) -> Flags:
        """Images whose gradient is zero all over the patch at its random start."""
        start = self.run(replace(self.how, steps=0)).patches
        pixels = shown(self.data, start)
        corners = np.stack([start.placements.top, start.placements.left], axis=1).astype(np.int64)
        parts = []
        with frozen(victim):
            for at in range(0, len(self.data), BATCH):
                rows = slice(at, at + BATCH)
                images = as_pixels(pixels[rows]).requires_grad_(True)
                labels = torch.from_numpy(self.data.labels[rows])
                gain = gain_of("margin" if loss == "margin" else "cross_entropy", labels)
                gains = gain(victim(images).float() / temperature)
                (gradient,) = torch.autograd.grad(gains.sum(), images)
                patch = upright.read(
                    gradient, torch.from_numpy(corners[rows]), patch_px=self.how.patch_px
                )
                parts.append((patch == 0).flatten(1).all(dim=1).numpy())
        return np.concatenate(parts)


def _noting(score: Gain, met: list[Tensor]) -> Gain:
    """``score`` itself, whose answers are also kept in ``met``."""

    def noted(logits: Tensor) -> Tensor:
        found = score(logits)
        met.append(found.detach())
        return found

    return noted
