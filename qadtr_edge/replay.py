"""Replay: show pasted bytes to an engine and count.

It does not know how the engine was built, how the patch was made, or what a simulation is: the
simulation is one more callable from uint8 images to logits, shown the same bytes. What identifies a
unit of work is known before it runs, so finished units are recognised without being redone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import answered, results
from .data.dataset import Dataset
from .errors import BadInput
from .patch import bank, placed
from .patch.paste import paste
from .patch.placement import Policy, place
from .patch.places import taken
from .results import Outcomes
from .types import (
    Counts,
    EngineFacts,
    Json,
    Labels,
    Patch,
    PatchPerImage,
    Pixels,
    PlacedPatches,
    Placements,
    Result,
)

BATCH = 64
HARMLESS = ("platform", "cores")
"""Facts of a device that say nothing about its arithmetic."""

Logits = answered.Logits
Model = Callable[[Pixels], Logits]
"""Anything that maps images ``(N, 3, H, W) uint8`` to logits ``(N, K) float32``."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test on the images of a data set.

    ``digest`` stands for everything that can change its answers. ``classes``: K, where it is known.
    """

    model: Model
    digest: str
    data: Dataset
    batch: int = BATCH
    classes: int | None = None

    @cached_property
    def clean(self) -> Logits:
        """Logits ``(N, K)`` of the images without a patch: asked for once, shared by all units."""
        starts = range(0, len(self.data), self.batch)
        images = self.data.images
        parts = [self.model(images[at : at + self.batch]) for at in starts]
        return answered.checked(np.concatenate(parts), classes=self.classes)


@dataclass(frozen=True)
class Attacked:
    """What the row of a unit says of its attack beyond what the patch itself holds.

    ``tier`` to ``knowledge`` and ``kappa`` as in ``Result``; ``victim``: what it was made on.
    """

    name: str
    knowledge: str
    victim: str
    tier: str
    threat: str
    kappa: float | None = None


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit of work for a subject: this patch, placed by this policy under this seed.

    Placed patches bring their places along; the policy then only names how they were chosen.
    ``places``: what the policy gives on these images, where it was computed before, on another
    machine; then they are not computed again.
    """

    attacked: Attacked
    patch: Patch | PatchPerImage | PlacedPatches
    policy: Policy
    seed: int
    places: Placements | None = None


def identity(
    unit: Unit,
    subject: Subject,
    *,
    simulation: Subject | None = None,
    float_model: Subject | None = None,
) -> str:
    """The key of the unit on this subject: known before the work is done."""
    later: dict[str, Json] = {
        "kappa": unit.attacked.kappa,
        "float": float_model.digest if float_model else None,
    }
    return results.key(
        {
            **{name: value for name, value in later.items() if value is not None},
            "engine": subject.digest,
            "attack": unit.attacked.name,
            "victim": unit.attacked.victim,
            "knowledge": unit.attacked.knowledge,
            "patch": bank.digest(unit.patch),
            "target": unit.patch.target,
            "policy": repr(unit.policy),
            "seed": unit.seed,
            "data": data_digest(subject.data),
            "simulation": simulation.digest if simulation else None,
        }
    )


def replay(
    unit: Unit,
    facts: EngineFacts,
    *,
    subject: Subject,
    simulation: Subject | None = None,
    float_model: Subject | None = None,
) -> tuple[Result, Outcomes]:
    """The row of one unit on the engine of ``facts``, and the labels behind it.

    ``subject`` is that engine; ``float_model`` what it was quantized from, which a differential
    patch is to leave right. Counts depend neither on its batch size nor on the order of the images.
    Raises ``BadInput`` when no image is eligible.
    """
    data, target = subject.data, unit.patch.target
    beside = {"": subject, "sim_": simulation, "float_": float_model}
    models = {side: model for side, model in beside.items() if model is not None}
    patched = _patched(unit, models, batch=subject.batch)
    answers = {
        f"{side}{when}": answered.answers(logits, data.labels, target=target)
        for side, model in models.items()
        for when, logits in (("clean", model.clean), ("patched", patched[side]))
    }
    outcomes = Outcomes(ids=data.ids, truth=data.labels, **answers)
    counts = results.count(outcomes, target=target)
    if not counts.eligible:
        raise BadInput(
            f"The {facts.engine} engine at {facts.bits} bits is right on none of the {counts.n} "
            "images this attack could win, so there is nothing to count.",
            "Check that --data is what the model was trained on, or give more --images.",
        )
    key = identity(unit, subject, simulation=simulation, float_model=float_model)
    found = row(unit, facts, key=key, counts=counts, against=(subject, simulation))
    return replace(found, queries_median=answered.queries_median(unit.patch, outcomes)), outcomes


def _patched(unit: Unit, models: Mapping[str, Subject], *, batch: int) -> dict[str, Logits]:
    """What each model answers to the images with the patch on them, ``(N, K)`` each.

    A model that pastes by itself does so when nobody is shown the same bytes beside it. The others
    need the host's paste, so that nothing is saved then, and all are handed the bytes it made.
    """
    data = models[""].data
    places = places_of(unit, data)
    engine = models[""].model
    if len(models) == 1 and isinstance(engine, answered.Pasting):
        found = engine.pasted(
            data.images, lambda part: _pixels(unit.patch, data.ids[part]), mask=unit.patch.mask,
            placements=places,
        )  # fmt: skip
        if found is not None:
            return {"": found}
    patched = {side: np.empty_like(model.clean) for side, model in models.items()}
    for start in range(0, len(data), batch):
        part = slice(start, start + batch)
        shown = pasted(unit, data, places=places, part=part)
        for side, model in models.items():
            patched[side][part] = model.model(shown)
    return patched


def places_of(unit: Unit, data: Dataset) -> Placements:
    """Where the patch lands on each image."""
    if unit.places is not None:
        return unit.places
    if isinstance(unit.patch, PlacedPatches):
        return placed.places_of(unit.patch, data.ids)
    rows, columns = unit.patch.mask.shape
    height, width = data.images.shape[2:]
    return place(
        unit.policy,
        data.ids,
        seed=unit.seed,
        patch_px=(rows, columns),
        image_px=(height, width),
    )


def pasted(unit: Unit, data: Dataset, *, places: Placements, part: slice) -> Pixels:
    """The images of ``part`` with the patch on them: the bytes every model is shown."""
    pixels = _pixels(unit.patch, data.ids[part])
    at = taken(places, part)
    return paste(data.images[part], pixels, mask=unit.patch.mask, placements=at)


def _pixels(patch: Patch | PatchPerImage | PlacedPatches, ids: Labels) -> Pixels:
    """What is pasted on these images: ``(3, h, w)``, one patch for all, or ``(N, 3, h, w)``."""
    if isinstance(patch, Patch):
        return patch.pixels
    if isinstance(patch, PlacedPatches):
        return placed.pixels_of(patch, ids)
    return patch.pixels_of(ids)


def row(
    unit: Unit,
    facts: EngineFacts,
    *,
    key: str,
    counts: Counts,
    against: tuple[Subject, Subject | None],
) -> Result:
    """The row of a unit: what it counted beside what was run."""
    subject, simulation = against
    seed = unit.patch.origin.get("seed")
    height, width = unit.patch.mask.shape
    return Result(
        key=key,
        engine=facts.engine,
        bits=facts.bits,
        precision=facts.precision,
        attack=unit.attacked.name,
        knowledge=unit.attacked.knowledge,
        victim=unit.attacked.victim,
        goal="untargeted" if unit.patch.target is None else "targeted",
        target=unit.patch.target,
        tier=unit.attacked.tier,
        threat=unit.attacked.threat,
        patch_size_px=max(height, width),
        patch_rows_px=height,
        patch_columns_px=width,
        mask_digest=mask_digest(unit.patch.mask),
        patch_seed=seed if isinstance(seed, int) else None,
        placement=unit.policy.name,
        seed=unit.seed,
        counts=counts,
        queries_median=None,
        engine_digest=facts.digest,
        patch_digest=bank.digest(unit.patch),
        data_digest=data_digest(subject.data),
        simulation_digest=simulation.digest if simulation else None,
        kappa=unit.attacked.kappa,
    )


def engine_digest(facts: EngineFacts) -> str:
    """Stands for everything that can change an engine's answers: file, runtime, device, options.

    The order of a sum, and so the number of threads, matters to floats and not to integers.
    """
    exact = facts.precision == "integer"
    options = {
        name: value
        for name, value in facts.options.items()
        if not (exact and ("threads" in name or "spinning" in name))
    }
    device = {name: value for name, value in facts.device.items() if name not in HARMLESS}
    return results.key(
        {
            "file": facts.digest,
            "runtime": facts.runtime,
            "device": device,
            "options": options,
        }
    )


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Stands for the shape of a patch and for which of its pixels are pasted."""
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


def data_digest(data: Dataset) -> str:
    """Stands for images, labels and ids."""
    ids = np.ascontiguousarray(data.ids, dtype="<i8").tobytes()
    return hashlib.sha256(data.digest.encode() + ids).hexdigest()
