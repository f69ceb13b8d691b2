"""PBAT: half of a batch attacked inside the network of the step, which is otherwise left alone."""
# ruff: noqa: E402

from __future__ import annotations

import copy
from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch.nn import functional

import nets
from qadtr_edge.attacks.victim import state_digest
from qadtr_edge.defences.defence import Batch, Step
from qadtr_edge.defences.mixed import mixed_loss
from qadtr_edge.defences.pbat import PatchAttackOptions, Pbat, PbatFp, patched_images
from qadtr_edge.defences.recipes import build
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet

IMAGES, LABELS = nets.pixels(12), torch.arange(12) % 6
SMALL = PatchAttackOptions(steps=4, patch_px=4)


@pytest.fixture
def net() -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=(32, 8, 4)).train()


def stepped(net: QuantNet, *settings: str, recipe: str = "pbat", step: int = 0,
            kind: str = "quantized", seed: int = 0) -> Step:  # fmt: skip
    small = ("attack.steps=2", "attack.patch_px=4")
    defence, _ = build(recipe, settings=(*small, *settings), seed=seed)
    return defence.step(net, Batch(IMAGES, LABELS, step, 30, epoch=0, kind=kind))


def widths_of(made: Step, part: str) -> set[int]:
    return {int(name.split("_w")[1]) for name in made.told if name.startswith(part)}


def attacked(net: QuantNet, options: PatchAttackOptions = SMALL, *, bits: int = 8,
             seed: int = 0) -> Tensor:  # fmt: skip
    net.select(bits)
    return patched_images(net, IMAGES, labels=LABELS, options=options, seed=seed)


def loss(net: QuantNet, shown: Tensor, *, bits: int = 8) -> float:
    with torch.no_grad():
        return functional.cross_entropy(net.eval().select(bits)(shown), LABELS).item()


@pytest.mark.parametrize("moves", ["random", "full", "none"])
def test_the_attack_raises_the_loss_and_changes_one_square_of_bytes(
    net: QuantNet, moves: str
) -> None:
    first = attacked(net, PatchAttackOptions(steps=0, patch_px=4, moves=moves))
    shown = attacked(net, PatchAttackOptions(steps=8, patch_px=4, moves=moves))
    assert loss(net, shown) > loss(net, first)
    assert torch.equal(shown, shown.round().clamp(0, 255))
    for image in (shown != IMAGES).any(dim=1):
        rows, columns = image.nonzero().T
        assert rows.max() - rows.min() < 4
        assert columns.max() - columns.min() < 4


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_the_network_is_left_as_it_was(net: QuantNet, bn: str) -> None:
    before = state_digest(net)
    attacked(net, PatchAttackOptions(steps=2, patch_px=4, bn=bn), bits=4)
    assert state_digest(net) == before
    assert net.bits == 4
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())


def test_batch_statistics_make_another_attack_than_running_ones(net: QuantNet) -> None:
    running, batch = (
        attacked(net, PatchAttackOptions(steps=3, patch_px=4, bn=bn)) for bn in ("eval", "train")
    )
    assert not torch.equal(running, batch)


def test_seed_and_step_decide_the_bytes(net: QuantNet) -> None:
    torch.manual_seed(1)
    one = stepped(copy.deepcopy(net)).shown
    torch.manual_seed(2)
    assert torch.equal(stepped(copy.deepcopy(net)).shown, one)
    assert not torch.equal(stepped(copy.deepcopy(net), seed=1).shown, one)
    assert not torch.equal(stepped(copy.deepcopy(net), step=3).shown, one)


def test_the_processes_of_a_group_start_elsewhere(net: QuantNet) -> None:
    halves = [
        patched_images(net.select(8), IMAGES[rows], labels=LABELS[rows], options=SMALL, seed=0,
                       part=part)
        for part, rows in enumerate((slice(6), slice(6, 12)))
    ]  # fmt: skip
    assert torch.equal(torch.cat(halves), attacked(net))
    defence, _ = build("pbat", settings=("attack.steps=0",))
    first, second = (
        defence.step(net, Batch(IMAGES, LABELS, 0, 30, epoch=0, part=part)).shown for part in (0, 1)
    )
    assert not torch.equal(first, second)


def test_the_last_half_is_patched_and_both_halves_count_the_same(net: QuantNet) -> None:
    made = stepped(net)
    changed = (made.shown != IMAGES).flatten(1).any(dim=1)
    assert changed.tolist() == [False] * 6 + [True] * 6
    (bits,) = widths_of(made, "clean")
    assert widths_of(made, "patched") == {bits}
    assert torch.allclose(made.loss, mixed_loss(net.select(bits)(made.shown), LABELS, patched=6))
    assert (stepped(net, "share=1").shown != IMAGES).flatten(1).any(dim=1).all()
    assert torch.equal(stepped(net, "share=0").shown, IMAGES.float())


def test_it_is_attacked_at_the_width_it_is_trained_at(net: QuantNet) -> None:
    seen: list[tuple[bool, int]] = []
    net.register_forward_pre_hook(
        lambda module, inputs: seen.append((module.training, module.bits))
    )
    counts: Counter[int] = Counter()
    for step in range(6):
        seen.clear()
        stepped(net, step=step)
        assert len({bits for _, bits in seen}) == 1
        assert [is_training for is_training, _ in seen] == [False] * 5 + [True]
        counts[seen[0][1]] += 1
    assert counts == {32: 2, 8: 2, 4: 2}  # every width once a cycle


def test_all_widths_together_are_each_attacked(net: QuantNet) -> None:
    seen: Counter[tuple[bool, int]] = Counter()
    net.register_forward_pre_hook(
        lambda module, inputs: seen.update([(module.training, module.bits)])
    )
    made = stepped(net, "dbwt.order=joint")
    assert widths_of(made, "patched") == {32, 8, 4}
    assert seen == {(mode, bits): 1 if mode else 5 for mode in (True, False) for bits in (32, 8, 4)}


def test_options_change_the_attack(net: QuantNet) -> None:
    usual = stepped(copy.deepcopy(net), "attack.steps=4").shown
    for other in (
        "attack.moves=none", "attack.moves=full", "attack.stride=1", "attack.step_size=0.3",
        "attack.attempts=3", "attack.avoid_px=8",
    ):  # fmt: skip
        assert not torch.equal(stepped(copy.deepcopy(net), "attack.steps=4", other).shown, usual), (
            other
        )
    changed = (stepped(net, "attack.avoid_px=6").shown != IMAGES).any(dim=1)
    assert not changed[:, 5:11, 5:11].any()


@pytest.mark.parametrize(
    "wrong", ["attack.steps=-1", "attack.moves=up", "attack.step=3", "share=2", "attack.steps=1.5"]
)
def test_wrong_options_are_refused(wrong: str) -> None:
    with pytest.raises(BadInput):
        build("pbat", settings=(wrong,))


def test_a_patch_that_does_not_fit_is_refused(net: QuantNet) -> None:
    with pytest.raises(BadInput, match="larger than"):
        stepped(net, "attack.patch_px=17")


def test_float_first_is_patched_and_then_quantized_without_patches(net: QuantNet) -> None:
    assert PbatFp.float_share == 0.9
    assert Pbat.float_share == 0.0
    early = [stepped(net, recipe="pbat-fp", step=step, kind="float") for step in range(3)]
    assert all(widths_of(made, "patched") == {32} for made in early)
    late = [stepped(net, recipe="pbat-fp", step=step) for step in range(4)]
    assert all(torch.equal(made.shown, IMAGES.float()) for made in late)
    assert Counter(bits for made in late for bits in widths_of(made, "clean")) == {8: 2, 4: 2}


def test_float_first_needs_the_float_width() -> None:
    net = nets.ready(nets.small_resnet(), widths=(8, 4))
    with pytest.raises(BadInput, match="begins with training at width 32"):
        stepped(net, recipe="pbat-fp", kind="float")
    assert stepped(net, recipe="pbat").loss.isfinite()
