"""Planted masking on a real integer engine: searches break it, a gradient attack is shown up."""
# ruff: noqa: E402

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from qadtr_edge.export.ort import MODEL, OrtEngine, build

from qadtr_edge import data, metrics, replay
from qadtr_edge.attacks import planted
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.label_search import LabelSearch
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.attacks.queries import Search
from qadtr_edge.craft import AtWidth
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.integer.lower import lower
from qadtr_edge.integer.twin import Twin
from qadtr_edge.models import checkpoint
from qadtr_edge.patch.placement import Policy
from qadtr_edge.results import Store
from qadtr_edge.types import Patch, PlacedPatches
from qadtr_edge.verdict import judge, masking
from qadtr_edge.verdict.ascending import White
from qadtr_edge.verdict.asking import part
from qadtr_edge.verdict.case import Case
from qadtr_edge.verdict.from_probes import planted as check_16

pytestmark = [pytest.mark.slow, pytest.mark.needs("ort", "torch")]

PATCH_PX = (6, 6)
IMAGES = 30
BUDGET = {"patch_px": PATCH_PX, "steps": 15, "restarts": 2, "seed": 0, "batch": 64}
NAMES = (
    "gradient killer", "hard round at the input", "8-bit softmax head", "16-level logit head",
    "label-only head",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """The packaged 8-bit classifier on onnxruntime, its twin, images both get right, a patch."""

    engine: OrtEngine
    twin: Twin
    images: Dataset
    clean: np.ndarray
    patch: Patch

    def masked(self, name: str) -> planted.Masked:
        found = planted.planted(self.engine, self.twin, clean=self.clean)
        return next(one for one in found if one.name == name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    torch.set_num_threads(1)
    net, _ = checkpoint.load_checkpoint("zoo:plain-resnet8-signs")
    graph = lower(net, bits=8)
    folder = tmp_path_factory.mktemp("engine")
    build(graph, folder, threads=1)
    test = data.load("signs", "test", root=None, limit=2 * IMAGES, image_size=32)
    craft = data.load("signs", "craft", root=None, limit=200, image_size=32)
    patch = Gap(patch_px=PATCH_PX, steps=15, placement="plain").craft(
        AtWidth(net, 32).eval(), craft, seed=0, told=lambda count, note: None
    )
    with OrtEngine(folder / MODEL, threads=1) as engine:
        right = np.flatnonzero(metrics.predicted(engine(test.images)) == test.labels)[:IMAGES]
        images = part(test, right)
        yield World(engine, Twin(graph), images, engine(images.images), patch)


def test_the_suite_breaks_what_a_gradient_attack_does_not(world: World) -> None:
    found = masking.broken(
        world.engine, world.twin, data=world.images, clean=world.clean, patches=(world.patch,),
        queries=500, **BUDGET,
    )  # fmt: skip
    assert [step["masking"] for step in found] == list(NAMES)
    for step in found:
        assert step["eligible"] >= IMAGES - 3, "masking is to cost hardly an image"
        assert step["unmasked"] >= 0.8 * step["eligible"]
        assert step["fooled"] >= 0.9 * step["unmasked"], step
        assert step["white_box"] <= 0.25 * step["unmasked"], step
    case = Case((), Store(Path("none"), Path("none")), probes={"planted": found})
    assert check_16(case).status == "pass"


def test_a_suite_that_cannot_break_them_is_said_to_be_broken(world: World) -> None:
    found = masking.broken(
        world.engine, world.twin, data=part(world.images, np.arange(10)), clean=world.clean[:10],
        patches=(), queries=10, **BUDGET,
    )  # fmt: skip
    assert found[-1]["fooled"] < found[-1]["unmasked"], "few queries by labels find little"
    case = Case((), Store(Path("none"), Path("none")), probes={"planted": found})
    assert check_16(case).status == "flag"


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_attack_is_flagged(world: World, name: str, tmp_path: Path) -> None:
    """By check 6, for what it misses, and by check 9, for the gradients it has not."""
    masked, images = world.masked(name), part(world.images, np.arange(12))
    subject = replay.Subject(masked.model, name, images)
    pgd = Pgd(patch_px=PATCH_PX, steps=5, restarts=2)
    search: Search = (
        PatchRs(patch_px=PATCH_PX, queries=300)
        if name != "label-only head"
        else LabelSearch(patch_px=PATCH_PX, queries=300)
    )
    white = pgd.search(masked.victim, images, seed=0, told=lambda count, note: None).best
    black = search.search(
        masked.model, images, clean=subject.clean, seed=0, batch=64, told=lambda count, note: None
    )
    store = Store(tmp_path / "results.jsonl", tmp_path / "labels")
    rows = [
        replayed(subject, world, store, patches=patches, said=said)
        for patches, said in (
            (white, replay.Attacked("pgd", "simulation", "twin-w8a8", "T3", "T-C")),
            (black, replay.Attacked(search.name, search.knowledge, "ort-w8a8", search.tier, "T-C")),
        )
    ]
    gradients = White(
        masked.victim, images, patch_px=PATCH_PX, steps=5, restarts=1, seed=0
    ).zero_gradients(None)
    found = judge(
        rows, store, suite=None, facts=world.engine.facts, probes={"zero_gradients": gradients}
    )
    assert found.checks[5].status == "flag", found.checks[5].figure
    assert found.checks[8].status == "flag", found.checks[8].figure
    assert gradients["straight_through"] == len(images)


def test_the_twin_itself_has_gradients(world: World) -> None:
    white = White(world.twin, world.images, patch_px=PATCH_PX, steps=5, restarts=1, seed=0)
    assert white.zero_gradients(None)["straight_through"] == 0


def replayed(
    subject: replay.Subject, world: World, store: Store, *, patches: PlacedPatches,
    said: replay.Attacked,
) -> object:  # fmt: skip
    unit = replay.Unit(said, patches, Policy("searched"), 0)
    row, outcomes = replay.replay(unit, world.engine.facts, subject=subject)
    store.append(row, outcomes)
    return row
