"""Training: it learns, it is the same twice, every width has its turn, and NaN ends it."""
# ruff: noqa: E402

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from qadtr_edge import registry
from qadtr_edge import train as procedure
from qadtr_edge.defences import recipes
from qadtr_edge.defences.dbwt import DbwtOptions, widths_at
from qadtr_edge.defences.defence import Batch
from qadtr_edge.defences.plain import accuracy
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.train import TrainOptions, evaluate, train
from training import OPTIONS, data, fresh, lines


def fitted(folder: Path, options: TrainOptions = OPTIONS, net: QuantNet | None = None) -> QuantNet:
    net = net or fresh()
    defence, _ = recipes.build("plain", seed=options.seed)
    train(
        net,
        data("train"),
        calibration=data("calibration"),
        defence=defence,
        options=options,
        log=folder / "log.jsonl",
    )
    return net


def test_a_small_run_learns_at_every_width(tmp_path: Path) -> None:
    net = fitted(tmp_path)
    assert not net.training
    assert min(evaluate(net, data("test")).values()) > 0.8
    first, *_, last = lines(tmp_path)
    assert first["loss"] > 1.5 * last["loss"]


def test_the_log_has_a_line_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("of an earlier run\n")
    fitted(tmp_path)
    found = lines(tmp_path)
    assert [line["phase"] for line in found] == ["float"] * 3 + ["quantized"] * 3
    assert [line["step"] for line in found] == [3, 6, 9] * 2
    assert [line["images"] for line in found] == [48, 96, 144] * 2
    assert set(found[0]["calibration_accuracy"]) == {"32"}
    assert set(found[-1]["calibration_accuracy"]) == {"32", "4", "2"}
    assert all(0 <= line["seconds"] < 600 for line in found)


def test_measuring_is_no_part_of_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = [0.0]

    def taking(seconds: float, work: Callable[..., object]) -> Callable[..., object]:
        def done(*words: object, **named: object) -> object:
            clock[0] += seconds
            return work(*words, **named)

        return done

    monkeypatch.setattr(procedure.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(procedure, "_update", taking(2.0, procedure._update))
    monkeypatch.setattr(procedure, "_by_width", taking(50.0, procedure._by_width))
    fitted(tmp_path)
    assert {line["images_per_s"] for line in lines(tmp_path)} == {8.0}
    assert [line["seconds"] for line in lines(tmp_path)] == [6.0, 12.0, 18.0] * 2


def test_the_same_seed_trains_the_same_network(tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=1, float_epochs=1)
    one, other = fitted(tmp_path, options), fitted(tmp_path, options)
    torch.manual_seed(99)  # what the process drew before must not matter
    third = fitted(tmp_path, replace(options, seed=1))
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.layer(one.steps[1]).weight, third.layer(one.steps[1]).weight)


def test_all_widths_share_weights_and_train_scales_and_statistics_of_their_own(
    tmp_path: Path,
) -> None:
    calibrated = fitted(tmp_path, replace(OPTIONS, epochs=0))
    net = fitted(tmp_path, OPTIONS)
    for name, before in calibrated.scales.items():
        assert net.scales[name] != before, name
    norms = net.layers["second"].norms
    means = [norm.running_mean for norm in norms.values()]
    assert not torch.allclose(means[0], means[1])
    assert not torch.allclose(means[1], means[2])


def test_without_quantized_epochs_the_widths_are_calibrated(tmp_path: Path) -> None:
    net = fitted(tmp_path, replace(OPTIONS, epochs=0), fresh((32, 8)))
    assert evaluate(net, data("test"))[8] > 0.8


def test_a_network_without_the_float_width_starts_from_its_weights(tmp_path: Path) -> None:
    start = fitted(tmp_path / "float", replace(OPTIONS, epochs=0), fresh((32,)))
    net = fresh((8, 4))
    tensors = {
        name.replace("w32", width): value
        for name, value in start.state_dict().items()
        for width in ("w8", "w4")
    }
    net.load_state_dict(tensors, strict=False)
    fitted(tmp_path, replace(OPTIONS, epochs=0, float_epochs=0), net)
    assert evaluate(net, data("test"))[8] > 0.8


def test_float_epochs_need_the_float_width(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not 32"):
        fitted(tmp_path, OPTIONS, fresh((8, 4)))


def test_fewer_images_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    fitted(tmp_path, replace(OPTIONS, epochs=2, float_epochs=0, batch=500))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_loss_that_is_no_number_ends_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="stopped being a number at step") as caught:
        fitted(tmp_path, replace(OPTIONS, lr=1e30))
    assert "--lr" in caught.value.remedy


def test_an_unwritable_log_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Cannot write"):
        fitted(tmp_path / "file")


@pytest.mark.parametrize("name", registry.names("defence"))
def test_a_defence_gives_a_loss_that_teaches(name: str) -> None:
    net, toy = fresh(), data("train")
    defence, _ = recipes.build(name)
    labels = torch.from_numpy(toy.labels)
    pixels = torch.from_numpy(toy.images).repeat(1, 1, 2, 2)  # room for a rotated patch
    for step in range(6):
        net.zero_grad()
        batch = Batch(pixels, labels, step, steps=6, epoch=step // 3)
        made = defence.step(net, batch)
        assert net.training
        assert made.loss.dim() == 0
        assert math.isfinite(made.loss.item())
        assert all(math.isfinite(value) for value in made.told.values())
        assert made.shown.shape == pixels.shape
        made.loss.backward()
        defence.perturb(net, batch)
        assert net.layer(net.steps[1]).weight.grad.abs().sum() > 0


def test_every_width_has_one_turn_a_cycle_in_changing_order() -> None:
    def width(seed: int, step: int) -> int:
        (found,) = widths_at(DbwtOptions(), (32, 8, 4, 2), seed=seed, step=step, steps=200, epoch=0)
        return found

    turns = [tuple(width(5, 4 * cycle + i) for i in range(4)) for cycle in range(50)]
    assert all(set(turn) == {32, 8, 4, 2} for turn in turns)
    assert len(set(turns)) > 10
    firsts = Counter(turn[0] for turn in turns)
    assert min(firsts.values()) >= 4
    assert [width(5, step) for step in (9, 3, 9)] == [turns[2][1], turns[0][3], turns[2][1]]
    assert [width(6, step) for step in range(40)] != [w for t in turns[:10] for w in t]


def test_accuracy_is_a_share_and_leaves_the_mode_as_it_was() -> None:
    net, toy = fresh().train(), data("test")
    images, labels = torch.from_numpy(toy.images), torch.from_numpy(toy.labels)
    found = accuracy(net, images, labels=labels)
    assert net.training
    with torch.no_grad():
        right = net.eval()(images).argmax(1) == labels
    assert found == int(right.sum()) / len(labels)
    net.select(2)
    assert set(evaluate(net, toy)) == {32, 4, 2}
    assert net.bits == 2
