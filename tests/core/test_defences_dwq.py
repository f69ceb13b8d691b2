"""Double-Win Quant: PGD within its ball at the drawn width, or patches that do not move."""
# ruff: noqa: E402

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.nn import functional

import nets
from qadtr_edge.attacks.victim import state_digest
from qadtr_edge.defences.defence import Batch, Step
from qadtr_edge.defences.dwq import (
    DwqPatchOptions,
    DwqPixelOptions,
    PixelAttackOptions,
    perturbed_images,
)
from qadtr_edge.defences.recipes import build
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet

IMAGES, LABELS = nets.pixels(12), torch.arange(12) % 6


@pytest.fixture
def net() -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=(32, 8, 4)).train()


def attacked(net: QuantNet, options: PixelAttackOptions | None = None, *, bits: int = 8,
             seed: int = 0) -> Tensor:  # fmt: skip
    options = options or PixelAttackOptions()
    return perturbed_images(
        net.select(bits), IMAGES, labels=LABELS, options=options, seed=seed
    )  # fmt: skip


def stepped(net: QuantNet, *settings: str, recipe: str = "dwq-pixel", step: int = 0) -> Step:
    defence, _ = build(recipe, settings=settings)
    return defence.step(net, Batch(IMAGES, LABELS, step, 100, epoch=0))


def test_no_pixel_leaves_the_ball_or_the_range(net: QuantNet) -> None:
    shown = attacked(net)
    assert torch.equal(shown, shown.round().clamp(0, 255))
    moved = (shown - IMAGES).abs()
    assert moved.max() == 8
    assert (moved == 8).float().mean() > 0.2  # PGD ends on the border of its ball
    odd = attacked(net, PixelAttackOptions(eps=2.5 / 255, step_size=0.7 / 255))
    assert torch.equal(odd, odd.round())
    assert (odd - IMAGES).abs().max() == 2


def test_it_raises_the_loss(net: QuantNet) -> None:
    def loss(shown: Tensor) -> float:
        with torch.no_grad():
            return functional.cross_entropy(net.eval().select(8)(shown), LABELS).item()

    start = attacked(net, PixelAttackOptions(steps=0, bn="eval"))
    assert loss(attacked(net, PixelAttackOptions(bn="eval"))) > loss(start) + 0.05
    assert loss(start) == pytest.approx(loss(IMAGES.float()), rel=0.2)


def test_the_start_is_random_in_the_ball(net: QuantNet) -> None:
    start = attacked(net, PixelAttackOptions(steps=0)) - IMAGES
    inner = start[(IMAGES > 8) & (IMAGES < 247)]
    counts = Counter(inner.int().tolist())
    assert set(counts) == set(range(-8, 9))
    assert min(counts.values()) > 0.8 * len(inner) / 17
    assert torch.equal(attacked(net, PixelAttackOptions(eps=0.0)), IMAGES.float())


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_the_network_is_left_as_it_was(net: QuantNet, bn: str) -> None:
    before = state_digest(net)
    attacked(net, PixelAttackOptions(steps=2, bn=bn), bits=4)
    assert state_digest(net) == before
    assert net.bits == 4
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())


def test_batch_statistics_are_the_default_and_another_attack(net: QuantNet) -> None:
    assert PixelAttackOptions().bn == "train"
    modes = []
    net.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    usual = attacked(net)
    assert modes == [True] * 7
    assert torch.equal(usual, attacked(net, PixelAttackOptions(bn="train")))
    assert not torch.equal(usual, attacked(net, PixelAttackOptions(bn="eval")))


def test_seed_and_step_decide_the_bytes(net: QuantNet) -> None:
    torch.manual_seed(1)
    one = attacked(net)
    torch.manual_seed(2)
    assert torch.equal(attacked(net), one)
    assert not torch.equal(attacked(net, seed=1), one)


def test_the_processes_of_a_group_start_elsewhere(net: QuantNet) -> None:
    options = PixelAttackOptions(steps=0)
    halves = [
        perturbed_images(
            net, IMAGES[rows], labels=LABELS[rows], options=options, seed=0, part=part
        )
        for part, rows in enumerate((slice(6), slice(6, 12)))
    ]  # fmt: skip
    assert torch.equal(torch.cat(halves), attacked(net, options))
    for recipe in ("dwq-pixel", "dwq-patch"):
        defence, _ = build(recipe, settings=("attack.steps=0",))
        first, second = (
            defence.step(net, Batch(IMAGES, LABELS, 0, 100, epoch=0, part=part)).shown
            for part in (0, 1)
        )
        assert not torch.equal(first, second)


def test_the_whole_batch_is_attacked_and_never_patched(net: QuantNet) -> None:
    made = stepped(net)
    assert ((made.shown - IMAGES) != 0).float().flatten(1).mean(dim=1).min() > 0.5
    (name,) = made.told
    assert name.startswith("perturbed_w")
    bits = int(name.removeprefix("perturbed_w"))
    wanted = functional.cross_entropy(net.select(bits)(made.shown), LABELS)
    assert torch.allclose(made.loss, wanted)
    half = (stepped(net, "share=0.5").shown != IMAGES).flatten(1).any(dim=1)
    assert half.tolist() == [False] * 6 + [True] * 6


@pytest.mark.parametrize("recipe", ["dwq-pixel", "dwq-patch"])
def test_the_width_is_drawn_at_random_and_attacked_at(net: QuantNet, recipe: str) -> None:
    seen: list[int] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(module.bits))
    turns = []
    for step in range(12):
        seen.clear()
        stepped(net, "attack.steps=1", recipe=recipe, step=step)
        assert len(set(seen)) == 1
        turns.append(seen[0])
    assert set(turns) == {32, 8, 4}
    assert any(len(set(turns[at : at + 3])) < 3 for at in range(0, 12, 3))  # no cycle


def test_patches_take_seven_steps_and_stay_in_place(net: QuantNet) -> None:
    options = DwqPatchOptions()
    assert (options.attack.steps, options.attack.moves, options.share) == (7, "none", 0.5)
    assert options.dbwt.order == DwqPixelOptions().dbwt.order == "random"
    passes = Counter[bool]()
    net.register_forward_pre_hook(lambda module, inputs: passes.update([module.training]))
    made = stepped(net, recipe="dwq-patch")
    assert passes == {False: 8, True: 1}  # seven steps, a last look, and the update's own
    changed = (made.shown != IMAGES).any(dim=1)
    assert changed.flatten(1).sum(dim=1).tolist()[:6] == [0] * 6
    assert all(30 < count <= 36 for count in changed.flatten(1).sum(dim=1).tolist()[6:])


@pytest.mark.parametrize("wrong", ["attack.eps=2", "attack.bn=off", "attack.moves=none", "stps=1"])
def test_wrong_options_are_refused(wrong: str) -> None:
    with pytest.raises(BadInput):
        build("dwq-pixel", settings=(wrong,))
