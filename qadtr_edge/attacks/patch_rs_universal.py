"""Universal Patch-RS: one patch for all images, searched on the engine by its scores.

The universal variant of Sparse-RS (Croce et al., arXiv 2006.12834): a batch of crafting images at
places drawn once, a square of saturated colours changed a little at a time; images and places are
drawn anew ten times. Published targeted alone, with 30 images and 30 % of the patch changed at
first; untargeted it is this project's, and so is what is done at the end of each tenth: the patch
is judged on held-out images, and the one that won most there is kept. Equal scores are accepted.
Needs no torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .. import metrics, streams
from ..data.dataset import Dataset
from ..errors import BadInput
from ..patch.paste import paste
from ..patch.placement import check_fit, place, policy
from ..patch.shape import RECTANGLE, mask_of
from ..types import Json, Labels, Patch, Pixels
from .parameters import parameters_of
from .patch_moves import DRAWS, proposed, require_full, schedule, start
from .queries import Ledger, Model, Told, require_scores

PERIODS = 10
ALPHA = 0.3
HELD_OUT = 200

ENOUGH = 2.0
"""Lead in logits past which nothing more is gained on an image: others are to be won."""

ALL = np.zeros(1, np.int64)
"""The one id whose draws the patch takes."""


class PatchRsUniversal:
    """One patch of {0, 255} colours by random search over a batch of images.

    - ``queries``: patches tried, each on ``images`` crafting images; what the engine is shown
      besides, clean and held-out images, stands with them under ``shown`` in the origin.
    - ``placement``: the policy its places are drawn from. ``shape``: as of ``patch/shape.py``.
    """

    name = "patch_rs_universal"
    tier = "T5"
    threat: Literal["T-A"] = "T-A"
    knowledge = "scores"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        placement: str = "random",
        queries: int = 10_000,
        images: int = 30,
        shape: str = RECTANGLE,
    ) -> None:
        if queries < PERIODS:
            raise BadInput(
                f"{queries} queries cannot be shared by {PERIODS} batches of images.",
                f"Give at least {PERIODS}.",
            )
        self.patch_px = patch_px
        self.target = target
        self.placement = placement
        self.queries = queries
        self.images = images
        self.shape = shape
        require_full(self.name, shape, patch_px=patch_px)

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self, at_rest={"shape": RECTANGLE})

    def craft(
        self, model: Model, data: Dataset, *, seed: int, batch: int,
        told: Told = lambda count, note: None,
    ) -> Patch:  # fmt: skip
        """The patch, crafted on ``data``, which must hold none of the images it is scored on.

        ``told`` hears of ``queries`` in all. Raises ``BadInput`` when the engine is right on too
        few images, ``Unsupported`` when its scores tell no more than labels.
        """
        rows, columns = data.images.shape[2:]
        how = policy(self.placement, image_px=min(rows, columns))
        check_fit(how, self.patch_px, image_px=(rows, columns))
        ledger = Ledger(model, batch=batch)
        clean = ledger(data.images)
        require_scores(clean)
        able = np.flatnonzero(
            metrics.eligible(metrics.predicted(clean), data.labels, target=self.target)
        )
        held = min(HELD_OUT, len(able) // 5)
        if not held:
            raise BadInput(
                f"The engine is right on {len(able)} of the {len(data)} crafting images that could "
                "be used; at least 5 are needed.",
                "Give more crafting images, or check that --data is what the model was trained on.",
            )
        chance = streams.generator(seed, self.name)
        able = chance.permutation(able)
        # The place stands outside the patch here: no query may be spent on shifting it.
        plan = schedule(
            self.patch_px, (rows, columns), queries=self.queries, alpha=ALPHA,
            shift_every=self.queries,
        )  # fmt: skip
        mask = mask_of(self.shape, self.patch_px)

        def shown(pixels: Pixels, chosen: Labels, draw: int) -> tuple[float, float]:
            """Success rate and mean score of a patch on the images ``chosen``, at a draw."""
            places = place(
                how, data.ids[chosen], seed=streams.key(seed, self.name, "places"),
                patch_px=self.patch_px, image_px=(rows, columns), draw=draw,
            )  # fmt: skip
            logits = ledger(paste(data.images[chosen], pixels, mask=mask, placements=places))
            truth = data.labels[chosen]
            won = metrics.succeeded(metrics.predicted(logits), truth, target=self.target)
            lead = metrics.margins(logits, truth, target=self.target).astype(np.float64)
            return float(won.mean()), float(np.minimum(lead, ENOUGH).mean())

        at = start(plan, ALL, seed=seed, name=self.name)
        best, kept, score = (-1.0, 0.0), at.pixels[0], -np.inf
        chosen, period = able[held:], -1
        for it in range(self.queries):
            if it * PERIODS // self.queries != period:
                period = it * PERIODS // self.queries
                chosen = chance.permutation(able[held:])[: self.images]
                _, score = shown(at.pixels[0], chosen, 1 + period)
            else:
                drawn = streams.uniform(seed, f"{self.name}:{it}", indices=ALL, draws=DRAWS)
                to = proposed(plan, at, it=it, chance=drawn)
                _, reached = shown(to.pixels[0], chosen, 1 + period)
                if reached >= score:
                    at, score = to, reached
            if (it + 1) * PERIODS // self.queries != period:
                judged = shown(at.pixels[0], able[:held], 0)
                if judged > best:
                    best, kept = judged, at.pixels[0].copy()
            told(1, f"held-out success {max(best[0], 0.0):.0%}")
        return Patch(
            kept, mask, target=self.target,
            origin={
                "attack": self.name, "parameters": self.parameters, "seed": seed,
                "held_out": best[0], "shown": ledger.shown,
            },
        )  # fmt: skip
