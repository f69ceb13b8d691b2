"""The extra runs the checks ask for, on a fixed subset of the images, as one JSON document.

Numbers are counts of images. A step of a series has ``fooled``, ``eligible`` and ``ids``, those of
the images fooled. Torch is imported where gradients are needed.

- ``subset``: how many images, the seed and the budget;
- ``steps``, ``sizes``, ``unbounded``: white-box runs of other steps and sizes, on the simulation;
- ``random``: random patches and places on the engine; ``randomness``: labels that change by
  repeating, permuting and showing one by one;
- ``zero_gradients``, ``loss``, ``indicators``: what the gradients and the loss did on each image;
- ``doubled``: steps, restarts, queries continued to twice as many, on the engine, and their union;
- ``eot``: a patch for all images whose gradient is averaged over more places, on the engine, where
  there are images to craft it on; ``planted``: planted masking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import metrics
from ..attacks.queries import BATCH, Ledger, Logits, Model
from ..data.dataset import Dataset
from ..errors import BadInput
from ..types import Json, Patch
from . import asking

if TYPE_CHECKING:
    from ..attacks.victim import Victim


@dataclass(frozen=True)
class Budget:
    """How much the probes may cost.

    - ``images``: of the subset, ``None`` for all; ``random_images`` and ``planted_images`` of them
      are shown random patches and are attacked behind planted masking.
    - ``steps``, ``restarts``: of the white-box runs; ``queries``: of the searches; ``draws``: of
      random patches for an image. What is doubled goes on to twice these.
    """

    images: int | None
    steps: int
    restarts: int
    queries: int
    draws: int
    random_images: int
    planted_images: int


BUDGETS = {
    "quick": Budget(50, 40, 2, 500, 200, 50, 25),
    "default": Budget(200, 100, 10, 1000, 10_000, 100, 100),
    "full": Budget(None, 100, 30, 10_000, 10_000, 100, 100),
}
"""By the name of the suite they belong to."""

NAMES = (
    "randomness", "random", "zero_gradients", "steps", "sizes", "unbounded", "doubled", "loss",
    "eot", "planted",
)  # fmt: skip
"""What ``told`` is called with, in this order, each when it is done."""


def run(
    model: Model,
    victim: Victim,
    *,
    data: Dataset,
    patch_px: tuple[int, int],
    seed: int,
    budget: Budget,
    patches: Sequence[Patch] = (),
    plain: Victim | None = None,
    crafting: Dataset | None = None,
    batch: int = BATCH,
    told: Callable[[str], None] = lambda name: None,
) -> dict[str, Json]:
    """All probes of an engine and its simulation on the images of ``data`` that both get right.

    - ``victim``: the network that stands for the engine where gradients are needed.
    - ``patches``: made for all images on an unmasked network, swept behind planted masking.
    - ``plain``: the victim without straight-through rules, where there is one.
    - ``crafting``: images of which none is in ``data``, to craft a patch for all images on.

    Raises ``BadInput`` when there is none, and ``EngineFailed`` for logits that are no numbers.
    """
    from . import ascending, masking, sampling

    ledger = Ledger(model, batch=batch)
    subset, clean = _subset(victim, ledger, data=data, limit=budget.images)
    few = asking.part(subset, np.arange(min(budget.random_images, len(subset))))
    found: dict[str, Json] = {
        "subset": {"images": len(subset), "seed": seed, "budget": asdict(budget)},
        "randomness": asking.randomness(model, subset, seed=seed, batch=batch),
    }
    told("randomness")
    found["random"] = asking.random(ledger, few, patch_px=patch_px, seed=seed, draws=budget.draws)
    told("random")
    white = ascending.White(
        victim, subset, patch_px=patch_px, steps=budget.steps, restarts=budget.restarts,
        seed=seed,
    )  # fmt: skip
    found["zero_gradients"] = white.zero_gradients(plain)
    told("zero_gradients")
    found["steps"] = white.by_steps()
    told("steps")
    found["sizes"] = white.by_size()
    told("sizes")
    unbounded = white.unbounded()
    found["unbounded"] = asking.step(subset, unbounded)
    told("unbounded")
    twofold = white.doubled(ledger)
    asked = asking.doubled(
        model, subset, clean=clean, patch_px=patch_px, seed=seed, queries=budget.queries,
        batch=batch,
    )  # fmt: skip
    found["doubled"] = asking.twice({**twofold, **asked})
    told("doubled")
    fallen, _ = twofold["restarts"]
    found["loss"] = white.loss(clean)
    found["indicators"] = white.indicators(ledger, fallen=fallen, unbounded=unbounded)
    told("loss")
    if crafting is not None:
        found["eot"] = sampling.by_samples(
            victim, ledger, data=subset, crafting=crafting, patch_px=patch_px, steps=budget.steps,
            seed=seed,
        )  # fmt: skip
    told("eot")
    rows = np.arange(min(budget.planted_images, len(subset)))
    found["planted"] = masking.broken(
        model, victim, data=asking.part(subset, rows), clean=clean[rows], patches=patches,
        patch_px=patch_px, queries=budget.queries, steps=budget.steps, restarts=budget.restarts,
        seed=seed, batch=batch,
    )  # fmt: skip
    told("planted")
    return found


def _subset(
    victim: Victim, ledger: Ledger, *, data: Dataset, limit: int | None
) -> tuple[Dataset, Logits]:
    """The first images that engine and simulation get right, and the engine's logits of them."""
    from ..attacks.victim import logits_of

    clean = ledger(data.images)
    right = metrics.predicted(clean) == data.labels
    right &= metrics.predicted(logits_of(victim, data.images)) == data.labels
    rows = np.flatnonzero(right)[:limit]
    if not len(rows):
        raise BadInput(
            f"Engine and simulation are right together on none of the {len(data)} images.",
            "Check that --data is what the model was trained on, or give more --images.",
        )
    return asking.part(data, rows), clean[rows]
