"""Crafting keeps each patch under the digest of its recipe, and knows what it aims at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from qadtr_edge import craft, runs  # noqa: E402
from qadtr_edge.attacks.gap import Gap  # noqa: E402
from qadtr_edge.attacks.victim import logits_of  # noqa: E402
from qadtr_edge.errors import BadInput  # noqa: E402
from qadtr_edge.files import digest  # noqa: E402
from qadtr_edge.integer import graph_file, judge  # noqa: E402
from qadtr_edge.integer.lower import lower  # noqa: E402
from qadtr_edge.models import checkpoint  # noqa: E402
from qadtr_edge.models.calibrate import calibrate  # noqa: E402
from qadtr_edge.models.prepare import prepare  # noqa: E402
from qadtr_edge.patch import bank  # noqa: E402
from qadtr_edge.types import Patch, QuantSpec  # noqa: E402
from toy import Quadrants, pictures, reordered  # noqa: E402

DATA = pictures(80, split="craft")


def quadrants(pixels: Tensor) -> Tensor:
    """The toy engine as a victim."""
    half = pixels.shape[2] // 2
    return pixels.reshape(len(pixels), 3, 2, half, 2, half).mean(dim=(1, 3, 5)).reshape(-1, 4)


PREY = craft.Prey(quadrants, "toy", "simulation", digest="q")


def crafted(folder: Path, *, prey: craft.Prey = PREY, seed: int = 0, steps: int = 3) -> Patch:
    told: list[int] = []
    attack = Gap(patch_px=(4, 4), steps=steps, batch=8)
    return craft.craft(
        attack, prey, data=DATA, folder=folder, seed=seed, told=lambda count, note: told.append(1)
    )


def test_the_same_recipe_is_crafted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = crafted(tmp_path)
    (path,) = tmp_path.glob("*.npz")
    assert path.with_suffix(".png").is_file()
    monkeypatch.setattr(Gap, "craft", None)
    assert bank.digest(crafted(tmp_path)) == bank.digest(first)


def test_whatever_determines_a_patch_is_in_its_key(tmp_path: Path) -> None:
    crafted(tmp_path)
    crafted(tmp_path, seed=1)
    crafted(tmp_path, steps=4)
    crafted(tmp_path, prey=replace(PREY, digest="other"))
    crafted(tmp_path, prey=replace(PREY, name="renamed"))
    attack, few = Gap(patch_px=(4, 4), steps=3, batch=8), reordered(DATA, np.arange(60))
    craft.craft(attack, PREY, data=few, folder=tmp_path, seed=0, told=lambda count, note: None)
    assert len(list(tmp_path.glob("*.npz"))) == 5


def test_the_origin_says_where_it_comes_from(tmp_path: Path) -> None:
    origin = crafted(tmp_path, seed=3).origin
    assert origin["attack"] == "gap"
    assert origin["seed"] == 3
    assert origin["victim"] == "q"
    assert origin["victim_name"] == "toy"
    assert origin["knowledge"] == "simulation"
    assert origin["data"] == DATA.digest
    assert isinstance(origin["parameters"], dict)
    assert origin["parameters"]["steps"] == 3


def test_a_damaged_patch_in_the_bank_is_said_to_be(tmp_path: Path) -> None:
    crafted(tmp_path)
    next(tmp_path.glob("*.npz")).write_bytes(b"half a zip")
    with pytest.raises(BadInput, match="damaged"):
        crafted(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run whose untrained ResNet-8 was lowered at 4 bits."""
    torch.manual_seed(0)
    made = runs.new_run(tmp_path_factory.mktemp("craft"))
    images = torch.from_numpy(pictures(32, split="craft", side=32).images)
    module = checkpoint.build_model("resnet8", classes=4)
    module.train()(images)
    net = prepare(module, QuantSpec(), widths=(32, 4, 2), classes=4, image_px=32).eval()
    calibrate(net, images, method="minmax", seed=0)
    facts = checkpoint.CheckpointFacts("resnet8", "signs", 4, 32, (32, 4, 2), net.spec)
    checkpoint.save(net, made.checkpoint, facts=facts)
    graph_file.save(lower(net, bits=4), made.graph(4))
    return made


def test_the_twin_is_the_deployed_integers(run: runs.Run) -> None:
    images = pictures(8, split="test", side=32).images
    prey = craft.prey(run, "twin", bits=4)
    assert np.array_equal(
        logits_of(prey.victim, images), judge.run(graph_file.load(run.graph(4)), images)
    )
    assert (prey.name, prey.knowledge) == ("twin-w4a4", "simulation")
    assert prey.digest == graph_file.digest(graph_file.load(run.graph(4)))


@pytest.mark.parametrize(
    ("kind", "bits", "name", "knowledge", "width"),
    [
        ("simulation", 4, "simulation-w4a4", "simulation", 4),
        ("float", 4, "fp32", "surrogate", 32),
        ("twin", 32, "fp32", "simulation", 32),
    ],
)
def test_a_victim_keeps_its_width(
    run: runs.Run, kind: str, bits: int, name: str, knowledge: str, width: int
) -> None:
    images = pictures(8, split="test", side=32).images
    prey = craft.prey(run, kind, bits=bits)
    assert (prey.name, prey.knowledge) == (name, knowledge)
    assert prey.digest == f"{digest(run.checkpoint)}@{width}"
    net, _ = checkpoint.load(run.checkpoint)
    wanted = logits_of(net.select(width), images)
    assert isinstance(prey.victim, craft.AtWidth)
    prey.victim.net.select(2)
    assert np.array_equal(logits_of(prey.victim, images), wanted)


def test_a_width_without_a_graph_names_the_command(run: runs.Run) -> None:
    with pytest.raises(BadInput) as error:
        craft.prey(run, "twin", bits=2)
    assert "qadtr-edge export" in error.value.remedy


def test_the_toy_victim_is_the_toy_engine() -> None:
    assert np.allclose(logits_of(quadrants, DATA.images), Quadrants()(DATA.images), atol=1e-3)
