"""Which widths a training comes to: all that it says, no more, and width 32 alone as well."""
# ruff: noqa: E402

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from qadtr_edge import registry, train_state
from qadtr_edge import train as procedure
from qadtr_edge.defences import recipes
from qadtr_edge.defences.defence import Batch, Stateless, Step, attacking
from qadtr_edge.defences.gir import input_gradient
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.train import Trained, TrainOptions, train
from qadtr_edge.train_log import note
from qadtr_edge.train_phases import phases_of
from qadtr_edge.train_widths import Watched
from qadtr_edge.types import QuantSpec
from training import OPTIONS, data, fresh, lines

ALONE = tuple(name for name in registry.names("defence") if name != "triqdef")
SMALL = {
    "qadtr": ("a_qapa.patch_px=3",), "pbat": ("attack.patch_px=3",),
    "pbat-fp": ("attack.patch_px=3",), "dwq-patch": ("attack.patch_px=3",),
    "triqdef": ("patches.patch_px=3", "patches.ascents=5"),
}  # fmt: skip


def fitted(
    folder: Path, options: TrainOptions, *, recipe: str = "plain", settings: tuple[str, ...] = (),
    net: QuantNet | None = None,
) -> tuple[QuantNet, Trained]:  # fmt: skip
    net = net or fresh()
    defence, _ = recipes.build(recipe, settings=(*SMALL.get(recipe, ()), *settings))
    done = train(
        net, data("train"), calibration=data("calibration"), defence=defence, options=options,
        log=folder / "log.jsonl", state=folder / "state.safetensors",
    )  # fmt: skip
    return net, done


@pytest.mark.parametrize(
    ("order", "epochs", "came_to"),
    [("epoch", 2, (32, 4)), ("cosine", 1, (4, 2)), ("joint", 1, (32, 4, 2)), ("cycle", 0, ())],
)
def test_the_widths_are_those_of_the_steps(
    tmp_path: Path, order: str, epochs: float, came_to: tuple[int, ...]
) -> None:
    options = replace(OPTIONS, epochs=epochs, float_epochs=0)
    _, done = fitted(tmp_path, options, settings=(f"dbwt.order={order}",))
    assert done.widths == came_to
    _, done = fitted(tmp_path / "float", replace(options, epochs=0, float_epochs=1))
    assert done.widths == (32,)


def test_they_are_remembered_over_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = replace(OPTIONS, epochs=3, float_epochs=0)
    original: Callable[..., Step] = procedure._update
    with monkeypatch.context() as patched:

        def until_the_last_epoch(*words: object, **named: object) -> Step:
            batch = words[2]
            assert isinstance(batch, Batch)
            if batch.epoch == 2:
                raise KeyboardInterrupt
            return original(*words, **named)

        patched.setattr(procedure, "_update", until_the_last_epoch)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path, options, settings=("dbwt.order=epoch",))
    _, done = fitted(tmp_path, options, settings=("dbwt.order=epoch",))
    assert done.widths == (32, 4, 2)


class Elsewhere(Stateless):
    """Trains width 4, and looks at 32 and 2 without training them."""

    name = "elsewhere"

    def step(self, net: QuantNet, batch: Batch) -> Step:
        with attacking(net, "train"):
            net.select(2)(batch.images)
        with torch.no_grad():
            net.train().select(32)(batch.images)
        input_gradient(net.eval().select(2), batch.images.float(), labels=batch.labels)
        loss = functional.cross_entropy(net.train().select(4)(batch.images), batch.labels)
        return Step(loss, batch.images, {})


def test_attacks_teachers_and_gradients_train_no_width() -> None:
    toy, watched = data("train", 8), Watched(Elsewhere())
    batch = Batch(torch.from_numpy(toy.images), torch.from_numpy(toy.labels), 0, 1, epoch=0)
    net = fresh()
    watched.step(net, batch)
    assert watched.widths == {4}
    net.train().select(32)(batch.images)
    assert watched.widths == {4}, "what follows the step is not its own"
    again = Watched(Elsewhere())
    again.restore(watched.state())
    assert again.widths == {4}


@pytest.mark.parametrize("recipe", ALONE)
def test_width_32_alone_is_trained_by_the_defence(tmp_path: Path, recipe: str) -> None:
    options = replace(OPTIONS, epochs=1, float_epochs=0)
    net, done = fitted(tmp_path, options, recipe=recipe, net=fresh((32,)))
    (line,) = lines(tmp_path)
    assert (line["phase"], line["step"]) == ("defended float", 3)
    shown = {"dwq-pixel": "perturbed_w32", "plain": "clean_w32", "plain-cycle": "clean_w32"}
    assert shown.get(recipe, "patched_w32") in line, "the attack was made"
    assert done.widths == (32,)
    first = "layers.first.weight"
    assert not torch.equal(net.state_dict()[first], fresh((32,)).state_dict()[first])


@pytest.mark.parametrize("recipe", registry.names("defence"))
def test_every_recipe_tells_accuracies_by_width_beside_the_bar(recipe: str) -> None:
    """Of the clean images, and of those it attacked if it attacks any."""
    net, toy = fresh(), data("train")
    labels = torch.from_numpy(toy.labels)
    defence, _ = recipes.build(recipe, settings=SMALL.get(recipe, ()))
    pixels = torch.from_numpy(toy.images)
    made = defence.step(net, Batch(pixels, labels, 0, 6, epoch=0, kind="float"))
    spoken = note(made.told, images_per_s=1.0)
    wanted = {"plain": "clean", "plain-cycle": "clean", "dwq-pixel": "perturbed"}
    found = re.findall(r"(\w+) w\d+ \d+ ", spoken)
    assert wanted.get(recipe, "patched") in found, spoken
    assert ("clean" in found) is (recipe != "dwq-pixel"), "that attacks every image"


def test_what_is_about_several_widths_refuses_32_alone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="makes widths disagree, and --bits 32 is one alone"):
        fitted(tmp_path, replace(OPTIONS, epochs=1), recipe="triqdef", net=fresh((32,)))


def test_the_float_statistics_are_those_of_the_last_weights(tmp_path: Path) -> None:
    """Width 32 has no turn under ``cosine``, but its weights move with those of the others."""
    options = replace(OPTIONS, epochs=2, float_epochs=1)
    net, _ = fitted(tmp_path, options, settings=("dbwt.order=cosine",))
    norm = net.layers["first"].norms["w32"]
    state = tmp_path / "state.safetensors"
    images = train_state.parsed(state.read_bytes(), path=state).shown
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        net.eval().select(32)(images)
    handle.remove()
    assert len(images) == 3 * 3 * 16
    assert torch.allclose(norm.running_mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-4)


def test_without_a_step_the_float_statistics_stay(tmp_path: Path) -> None:
    start = fresh()
    start.layers["first"].norms["w32"].running_mean.fill_(0.5)
    net, _ = fitted(tmp_path, replace(OPTIONS, epochs=0, float_epochs=0), net=start)
    assert (net.layers["first"].norms["w32"].running_mean == 0.5).all()
    assert (net.layers["first"].norms["w4"].running_mean != 0.5).all()


@pytest.mark.parametrize(
    ("options", "scales", "rates"),
    [
        (TrainOptions(lr=0.1, float_epochs=1), "tied", (0.1, 0.02)),
        (TrainOptions(lr=0.1, float_epochs=1), "strict", (0.1, 0.002)),
        (TrainOptions(lr=0.1), "tied", (0.1, 0.1)),
        (TrainOptions(lr=0.02, later_lr=0.02, float_epochs=1), "tied", (0.02, 0.02)),
    ],
)
def test_the_peak_rates_of_the_phases(
    options: TrainOptions, scales: str, rates: tuple[float, float]
) -> None:
    net = fresh()
    net.spec = QuantSpec(scales=scales)  # type: ignore[arg-type]
    defence, _ = recipes.build("plain")
    first, _, last = phases_of(net, defence, options=options, per_epoch=50)
    assert (first.lr, last.lr) == pytest.approx(rates)
    made = [last.rate(step) for step in range(last.steps)]
    assert max(made) == pytest.approx(rates[1])
    assert made[0] < made[-1] + max(made) / 10 < max(made)
