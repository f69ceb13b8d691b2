"""One network of the paper table, judged: what is crafted on what, and shown to which engine.

Patches stand unrotated at random places, where they are strongest. Everything found is kept in the
run's own folder, so a table that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from paper_scales import Entry, Scale
from torch import Tensor, nn

from qadtr_edge import craft, replay, search
from qadtr_edge.attacks import controls
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.sweep import Sweep
from qadtr_edge.attacks.victim import Victim, logits_of
from qadtr_edge.console import Progress
from qadtr_edge.data import Dataset, load
from qadtr_edge.engines import open_engine
from qadtr_edge.patch.placement import Policy, policy
from qadtr_edge.results import Store
from qadtr_edge.runs import Run
from qadtr_edge.types import FLOAT_BITS, Patch

PLACEMENT = "plain"
TRIES = "tries"
"""The control of the search: as many of its random starts, at random places, none improved."""

CONTROL = replay.Attacked("", knowledge="none", victim="none", tier="T0", threat="T-A")


class Half(nn.Module):
    """A victim whose gradients are computed in bfloat16, in less time, and its answers in float32.

    A patch is judged by what it does; only its making is approximate.
    """

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(N, K)`` of ``pixels (N, 3, H, W)``."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=pixels.requires_grad):
            return self.victim(pixels).float()


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A network that patches are crafted on: ``run`` at ``bits``; ``name`` as rows speak of it."""

    name: str
    run: Run
    bits: int


@dataclass(frozen=True, eq=False)
class Table:
    """The images of a scale and where its runs lie."""

    scale: Scale
    root: Path
    craft: Dataset
    test: Dataset

    @staticmethod
    def load(scale: Scale, root: Path) -> Table:
        return Table(
            scale,
            root,
            load(scale.data, "craft", limit=scale.craft_images),
            load(scale.data, "test", limit=scale.images),
        )

    def run(self, name: str) -> Run:
        return Run(self.root / name.replace(" ", "_"))


def surrogates(table: Table, entry: Entry, own: Run) -> list[Surrogate]:
    """Float undefended, undefended at the widest and narrowest width, and the network itself."""
    widths = [bits for bits in table.scale.widths if bits != FLOAT_BITS]
    ends = dict.fromkeys((widths[0], widths[-1]))
    found = [Surrogate("undefended fp32", table.run("undefended"), FLOAT_BITS)]
    if entry.recipe == "none":
        return found
    if entry.name != "plain":
        found += [Surrogate(f"undefended w{b}", table.run("plain"), b) for b in ends]
    if entry.deep:
        found += [Surrogate(f"own w{b}", own, b) for b in ends]
    return found


def patches(table: Table, surrogate: Surrogate) -> Iterator[Patch]:
    """Universal untargeted patches of every size, and on the float network of every shape."""
    scale = table.scale
    kinds = [((side, side), "rectangle") for side in scale.sizes]
    if surrogate.bits == FLOAT_BITS:
        for text in scale.shapes:
            name, _, size = text.rpartition(":")
            rows, _, columns = size.partition("x")
            kinds.append(((int(rows), int(columns or rows)), name or "rectangle"))
    elif surrogate.bits != max(b for b in scale.widths if b != FLOAT_BITS):
        kinds = kinds[1:2]  # from the narrowest width one unseen size
    prey = craft.prey(surrogate.run, "simulation", bits=surrogate.bits)
    prey = replace(
        prey, name=surrogate.name, victim=Half(prey.victim), digest=f"{prey.digest}/bfloat16"
    )
    label = f"Crafting on {surrogate.name} ({surrogate.run.name})"
    with Progress(label, len(kinds) * scale.patch_seeds * scale.steps, unit="steps") as bar:
        for patch_px, shape in kinds:
            for seed in range(scale.patch_seeds):
                attack = Gap(patch_px=patch_px, shape=shape, steps=scale.steps, placement=PLACEMENT)  # type: ignore[arg-type]
                yield craft.craft(
                    attack, prey, data=table.craft, folder=surrogate.run.patches, seed=seed,
                    told=lambda count, note: bar.advance(count, note=note),
                )  # fmt: skip


def judge(table: Table, entry: Entry, own: Run) -> None:
    """Every unit of one network, into its own ``results.jsonl``."""
    store = Store(own.results, own.labels)
    made = [
        (surrogate, patch)
        for surrogate in surrogates(table, entry, own)
        for patch in patches(table, surrogate)
    ]
    for bits in own.widths("ort"):
        prey = craft.prey(own, "simulation", bits=bits)
        simulation = replay.Subject(
            lambda images, victim=prey.victim: logits_of(victim, images), prey.digest, table.test
        )
        with open_engine(own, "ort", bits=bits) as engine:
            subject = replay.Subject(engine, replay.engine_digest(engine.facts), table.test)
            units = list(_units(table, entry, made, subject=subject, own=own, bits=bits))
            with Progress(f"Replaying {own.name} w{bits}", len(units), unit="units") as bar:
                for unit, beside in units:
                    against = simulation if beside and bits != FLOAT_BITS else None
                    key = replay.identity(unit, subject, simulation=against)
                    if store.finished(key) is None:
                        row, outcomes = replay.replay(
                            unit, engine.facts, subject=subject, simulation=against
                        )
                        store.append(row, outcomes)
                    bar.advance()


def _units(
    table: Table,
    entry: Entry,
    made: list[tuple[Surrogate, Patch]],
    *,
    subject: replay.Subject,
    own: Run,
    bits: int,
) -> Iterator[tuple[replay.Unit, bool]]:
    """What an engine is shown, and whether the simulation is shown it too."""
    how = policy(PLACEMENT, image_px=min(table.test.images.shape[2:]))
    seen: set[bytes] = set()
    for surrogate, patch in made:
        own_width = surrogate.run.folder == own.folder and surrogate.bits == bits
        said = replay.Attacked(
            "gap", "simulation" if own_width else "surrogate", surrogate.name, "T1", "T-A"
        )
        yield replay.Unit(said, patch, how, 0), entry.deep
        setting = repr(patch.mask.shape).encode() + patch.mask.tobytes()
        if setting not in seen:
            seen.add(setting)
            for name, control in controls.controls(
                patch, pool=table.craft, seed=0, shuffles=False
            ).items():
                yield replay.Unit(replace(CONTROL, name=name), control, how, 0), False
    if bits == FLOAT_BITS:
        return  # the float engine is no claim of the paper's, and takes its time
    for side in table.scale.swept_px if entry.deep else table.scale.swept_px[:1]:
        yield from _swept(table.scale, made, subject=subject, own=own, side=side)
    if entry.deep or bits == max(width for width in own.widths("ort") if width != FLOAT_BITS):
        side, count = table.scale.sizes[0], table.scale.queries
        walk = PatchRs(patch_px=(side, side), queries=count)
        yield _searched(walk, f"ort w{bits}", subject=subject, own=own), entry.deep
        tries = PatchRs(patch_px=(side, side), queries=count, restarts=count)
        unit = _searched(tries, "none", subject=subject, own=own)
        said = replace(CONTROL, name=TRIES, threat=PatchRs.threat)
        yield replay.Unit(said, unit.patch, unit.policy, unit.seed), False


def _swept(
    scale: Scale,
    made: list[tuple[Surrogate, Patch]],
    *,
    subject: replay.Subject,
    own: Run,
    side: int,
) -> Iterator[tuple[replay.Unit, bool]]:
    """The float network's first patch of this side at every place, the network's own, and noise."""
    first: dict[str, Patch] = {}
    for surrogate, patch in made:
        if patch.mask.shape == (side, side) and patch.mask.all():
            first.setdefault(surrogate.name, patch)
    own_first = next((name for name in first if name.startswith("own ")), None)
    for name in filter(None, (next(iter(first)), own_first)):
        swept = Sweep(first[name], stride=scale.stride, stop_when_fooled=True)
        yield _searched(swept, f"gap on {name}", subject=subject, own=own), False
    noise = controls.noise(next(iter(first.values())), seed=0)
    swept = Sweep(noise, stride=scale.stride, stop_when_fooled=True)
    unit = _searched(swept, "none", subject=subject, own=own)
    said = replace(CONTROL, name="noise", threat=Sweep.threat)
    yield replay.Unit(said, unit.patch, unit.policy, unit.seed), False


def _searched(
    attack: Sweep | PatchRs, victim: str, *, subject: replay.Subject, own: Run
) -> replay.Unit:
    height, width = subject.data.images.shape[2:]
    total = len(subject.data) * attack.budget((height, width))
    with Progress(f"{attack.name} on {own.name} ({victim})", total, unit="queries") as bar:
        found = search.search(
            attack, subject, folder=own.patches, seed=0,
            told=lambda count, note: bar.advance(count, note=note),
        )  # fmt: skip
    said = replay.Attacked(attack.name, attack.knowledge, victim, attack.tier, attack.threat)
    return replay.Unit(said, found, Policy(attack.placement), 0)
