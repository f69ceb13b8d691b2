"""The units of work an ``attack`` stands for: which patches, where, beside which controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from .. import console, data, replay
from ..attacks import controls
from ..data.dataset import Dataset
from ..engines import is_stale
from ..errors import BadInput, UnknownName
from ..files import digest
from ..integer import graph_file
from ..patch import bank
from ..patch.placement import Policy, check_fit, policy
from ..patch.shape import RECTANGLE, mask_of
from ..runs import Run
from ..types import Json, Patch
from . import attack_names, options

if TYPE_CHECKING:
    from ..attacks.victim import Attack


@dataclass(frozen=True, eq=False)
class Plan:
    """The options of one command, checked, and the images they lead to."""

    run: Run
    names: tuple[str, ...]
    given: tuple[Patch, ...]
    patch_px: tuple[int, int]
    target: int | None
    placement: str | None
    victim: str
    steps: int | None
    seed: int
    batch: int
    threads: int
    test: Dataset
    craft: Dataset
    classes: int
    """How many the model under attack knows; the data may name fewer."""
    per_image: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    universal_searches: tuple[str, ...] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    """What attacks are constructed with beyond the above; each takes what it knows."""
    differential: bool = False
    """Whether a suite adds patches that leave the float model right."""
    certificate: bool = False
    """Whether the images are certified around each engine too."""

    def policy(self, default: str) -> Policy:
        """Where patches land: as the user said, else as the attack does. They must fit there."""
        rows, columns = self.test.images.shape[2:]
        how = policy(self.placement or default, image_px=min(rows, columns))
        check_fit(how, self.patch_px, image_px=(rows, columns))
        return how


def units(plan: Plan, bits: int) -> Iterator[replay.Unit]:
    """The patches to replay at a width: the given one, or one crafted for each named attack."""
    if plan.given:
        yield from (_given(plan, patch, bits=bits) for patch in plan.given)
        return
    for name in plan.names:
        yield crafted(plan, name, bits=bits)


def crafted(plan: Plan, name: str, *, bits: int) -> replay.Unit:
    """The patch of the attack ``name`` for all images, crafted now or before."""
    import torch

    from .. import craft

    torch.set_num_threads(plan.threads)
    given = {"placement": plan.placement, "steps": plan.steps, **plan.options}
    made = attack_names.built(
        "attack", name, options={"patch_px": plan.patch_px, "target": plan.target, **given}
    )
    attack = cast("Attack", made)
    how = plan.policy(attack.placement)
    prey = craft.prey(plan.run, plan.victim, bits=bits)
    with console.Progress(f"Crafting {name} on {prey.name}", attack.steps, unit="steps") as bar:
        patch = craft.craft(
            attack,
            prey,
            data=plan.craft,
            folder=plan.run.patches,
            seed=plan.seed,
            told=lambda count, note: bar.advance(count, note=note),
        )
    said = replay.Attacked(name, prey.knowledge, prey.name, attack.tier, attack.threat)
    return replay.Unit(said, patch, how, plan.seed)


def _given(plan: Plan, patch: Patch, *, bits: int) -> replay.Unit:
    """The patch of a file. What its maker knew of this engine follows from what it names."""
    origin = patch.origin
    known = origin.get("victim") in _digests(plan.run, bits)
    said = replay.Attacked(
        str(origin.get("attack", "file")),
        knowledge="simulation" if known else "surrogate",
        victim=str(origin.get("victim_name", "unknown")),
        tier="T1",
        threat="T-A",
    )
    target = patch.target if plan.target is None else plan.target
    if target is not None and target >= len(plan.test.class_names):
        raise BadInput(
            f"The patch pushes to class {target}; {plan.test.name} has "
            f"{len(plan.test.class_names)} classes.",
            "Say which one is meant with --target CLASS.",
        )
    parameters = origin.get("parameters")
    own = parameters.get("placement") if isinstance(parameters, dict) else None
    how = plan.policy(str(own or "random"))
    shown = replace(patch, target=target)
    kept = plan.run.patches / f"given-{bank.digest(patch)[: bank.KEY_DIGITS]}.npz"
    if not kept.is_file():  # whoever gets the run folder can replay what was replayed here
        bank.save(patch, kept)
    return replay.Unit(said, shown, how, plan.seed)


def _digests(run: Run, bits: int) -> tuple[str, ...]:
    """Digests of the networks that tell an attacker what the engine at this width computes."""
    found = []
    if run.graph(bits).is_file():
        found.append(graph_file.digest(graph_file.load(run.graph(bits))))
    if run.checkpoint.is_file():
        found.append(f"{digest(run.checkpoint)}@{bits}")
    return tuple(found)


def control_units(
    plan: Plan, attacked: list[replay.Unit], *, shuffled: bool = True
) -> Iterator[replay.Unit]:
    """The controls of each setting the attacks are replayed in, and each patch ``shuffled``.

    Placed patches have no control here: they were searched for, and no control had as many tries.
    """
    attacked = [unit for unit in attacked if isinstance(unit.patch, Patch)]
    if not attacked:
        blank = Patch(
            np.zeros((3, *plan.patch_px), np.uint8),
            mask_of(str(plan.options.get("shape", RECTANGLE)), plan.patch_px),
            plan.target,
        )
        attacked = [replay.Unit(NOTHING, blank, plan.policy("random"), plan.seed)]
    seen = set()
    for unit in attacked:
        assert isinstance(unit.patch, Patch)
        mask = unit.patch.mask
        setting = (mask.shape, mask.tobytes(), unit.policy, unit.seed, unit.patch.target)
        made = controls.controls(unit.patch, pool=plan.craft, seed=plan.seed)
        for name, patch in made.items():
            if name == "shuffled":
                if unit.attacked is NOTHING or not shuffled:
                    continue
            elif setting in seen:
                continue
            yield replay.Unit(replace(NOTHING, name=name), patch, unit.policy, unit.seed)
        seen.add(setting)


NOTHING = replay.Attacked("", knowledge="none", victim="none", tier="T0", threat="T-A")


@dataclass(frozen=True)
class Source:
    """Which data set a run's models are for, and the side of its images."""

    name: str
    image_px: int

    def load(self, split: str, *, root: Path | None, limit: int) -> Dataset:
        return data.load(self.name, split, root=root, limit=limit, image_size=self.image_px)


def source(run: Run, name: str | None) -> Source:
    """The data set called ``name``, or the one the run's checkpoint was made for."""
    for path in sorted(run.graphs.glob("w*a*.npz")):
        graph = graph_file.load(path)
        known = name or graph.source.get("data")
        if known:
            return Source(known, image_px=graph.tensors[graph.input].shape[1])
        if not run.checkpoint.is_file():
            raise BadInput(
                "The integer graph does not say which data set its model is for.",
                "Give --data NAME.",
            )
    from ..models import checkpoint

    facts = checkpoint.read_facts(run.checkpoint)
    return Source(name or facts.data, image_px=facts.image_px)


def classes_of(run: Run, test: Dataset) -> int:
    """How many classes the run's model knows.

    Raises ``BadInput`` when they are not those of ``test``: other names, or another number. An
    ``.npz`` without names numbers its classes up to the highest label it holds, which may be less.
    """
    known, names = _known_classes(run)
    own = test.class_names
    unnamed = own == tuple(map(str, range(len(own))))
    if (len(own) > known) if unnamed else (len(own) != known):
        raise BadInput(
            f"{test.name} has {len(own)} classes and the model of {run.folder} knows {known}.",
            "Give --data with the data the model was made for, or leave --data out.",
        )
    if names and not unnamed and own != names:
        at = next(at for at in range(known) if own[at] != names[at])
        raise BadInput(
            f"Class {at} of {test.name} is {own[at]!r}, and {names[at]!r} to the model of "
            f"{run.folder}.",
            "Give --data with the data the model was made for, or leave --data out.",
        )
    return known


def require_fresh(run: Run, bits: int) -> None:
    """Raises ``BadInput`` when the run's checkpoint changed after it was exported at this width.

    The simulation would be another network than the engine. The float model keeps no graph.
    """
    path = run.graph(bits)
    if path.is_file() and is_stale(run, graph_file.load(path)):
        raise BadInput(
            f"The engines of {run.folder} at {bits} bits were exported from another checkpoint.",
            f"Export again: qadtr-edge export --run {run.folder} --bits {bits}.",
        )


def _known_classes(run: Run) -> tuple[int, tuple[str, ...]]:
    """How many classes the run's model has, and their names where they are known.

    The names need the checkpoint and what reads it, which a device has not.
    """
    paths = sorted(run.graphs.glob("w*a*.npz"))
    counted = graph_file.load(paths[0]).classes if paths else None
    try:
        from ..models import checkpoint
    except ModuleNotFoundError as error:
        if counted is None or error.name != "torch":
            raise
        return counted, ()
    if counted is not None and not run.checkpoint.is_file():
        return counted, ()
    facts = checkpoint.read_facts(run.checkpoint)
    if counted is not None and counted != facts.classes:
        return counted, ()
    return facts.classes, facts.class_names


def class_of(text: str, names: tuple[str, ...]) -> int:
    """The number of the class called ``text``, or ``text`` itself when it is a number."""
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise UnknownName("class", text, names)


def victim(text: str) -> str:
    """``text`` itself; raises ``UnknownName`` when nothing is crafted on that."""
    if text not in options.VICTIMS:
        raise UnknownName("victim", text, options.VICTIMS)
    return text
