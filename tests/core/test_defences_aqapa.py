"""A-QAPA: it ascends, its pool stays warm, each switch does what it says, the network is spared."""
# ruff: noqa: E402

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import nets
from qadtr_edge import streams
from qadtr_edge.attacks.victim import state_digest
from qadtr_edge.defences import aqapa
from qadtr_edge.defences.aqapa import Aqapa, AqapaOptions
from qadtr_edge.defences.defence import CONSTANT
from qadtr_edge.defences.field import Field, gains_of
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet

OPTIONS = AqapaOptions(
    pool=6, entries=3, patch_px=5, targeted=0.0, reset=0.0, scope="universal", places=1
)  # fmt: skip
IMAGES = nets.pixels(12)


@pytest.fixture(scope="module")
def net() -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=(32, 8, 4, 2))


@pytest.fixture(scope="module")
def labels(net: QuantNet) -> Tensor:
    """What the network itself says, so that there is something to lose."""
    with torch.no_grad():
        return net.eval().select(32)(IMAGES.float()).argmax(dim=1)


def attacked(net: QuantNet, labels: Tensor, options: AqapaOptions = OPTIONS, *, bits: int = 8,
             step: int = 0, attack: Aqapa | None = None, seed: int = 0) -> Tensor:  # fmt: skip
    attack = attack or Aqapa(options, seed=seed)
    return attack.patch(net, IMAGES, labels=labels, bits=bits, step=step).shown


def loss(net: QuantNet, shown: Tensor, labels: Tensor, *, bits: int = 8) -> float:
    with torch.no_grad():
        return float(functional.cross_entropy(net.eval().select(bits)(shown), labels))


@pytest.mark.parametrize("scope", ["universal", "per_image"])
def test_the_ascent_raises_the_loss(net: QuantNet, labels: Tensor, scope: str) -> None:
    options = replace(OPTIONS, scope=scope, entries=1, bits="current", placement="fixed:5,5")
    noise = attacked(net, labels, replace(options, steps=0))
    found = attacked(net, labels, replace(options, steps=8))
    assert loss(net, found, labels) > 1.2 * loss(net, noise, labels)


def test_a_targeted_patch_pushes_to_its_class(net: QuantNet, labels: Tensor) -> None:
    options = replace(OPTIONS, targeted=1.0, pool=1, entries=1)
    attack = Aqapa(options, seed=3)
    before = attacked(net, labels, attack=Aqapa(replace(options, steps=0), seed=3))
    for step in range(8):
        shown = attacked(net, labels, attack=attack, step=step)
    (target,) = attack.targets.tolist()
    towards = torch.full_like(labels, target)
    assert loss(net, shown, towards) < loss(net, before, towards)


def test_only_patches_change_and_they_are_bytes(net: QuantNet, labels: Tensor) -> None:
    shown = attacked(net, labels, replace(OPTIONS, placement="plain"))
    assert shown.dtype == torch.float32
    assert torch.equal(shown, shown.round().clamp(0, 255))
    for image in (shown != IMAGES).any(dim=1):
        rows, columns = image.nonzero().T
        assert rows.max() - rows.min() < 5
        assert columns.max() - columns.min() < 5


@pytest.mark.parametrize("mode", [True, False])
def test_the_network_is_left_as_it_was(net: QuantNet, labels: Tensor, mode: bool) -> None:
    net.train(mode).select(4)
    before = state_digest(net)
    attacked(net, labels)
    assert state_digest(net) == before
    assert net.bits == 4
    assert all(module.training == mode for module in net.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())


def test_seed_and_step_decide_the_bytes(net: QuantNet, labels: Tensor) -> None:
    torch.manual_seed(1)
    one = attacked(net, labels)
    torch.manual_seed(2)
    assert torch.equal(attacked(net, labels), one)
    assert not torch.equal(attacked(net, labels, seed=1), one)
    assert not torch.equal(attacked(net, labels, step=1), one)


def test_the_pool_stays_warm(net: QuantNet, labels: Tensor) -> None:
    attack = Aqapa(replace(OPTIONS, steps=0), seed=0)
    attacked(net, labels, attack=attack)
    noise = attack.pool.clone()
    warm = Aqapa(replace(OPTIONS, steps=1, pool=1, entries=1), seed=0)
    gains = [warm.patch(net, IMAGES, labels=labels, bits=8, step=s).gain[8] for s in range(12)]
    assert np.mean(gains[-4:]) > np.mean(gains[:4])
    attack = Aqapa(OPTIONS, seed=0)
    attacked(net, labels, attack=attack)
    moved = (attack.pool != noise).flatten(1).any(dim=1)
    assert moved.sum() == OPTIONS.entries  # those drawn, and no others
    longest = OPTIONS.steps * OPTIONS.step_size
    assert (attack.pool - noise).abs().max() <= longest + 1e-6


def test_a_reset_starts_again_from_noise(net: QuantNet, labels: Tensor) -> None:
    attack = Aqapa(replace(OPTIONS, steps=0, reset=1.0, pool=3), seed=0)
    attacked(net, labels, attack=attack)
    first = attack.pool.clone()
    attacked(net, labels, attack=attack, step=1)
    assert (attack.pool != first).flatten(1).any(dim=1).all()
    kept = Aqapa(replace(OPTIONS, steps=0, pool=3), seed=0)
    attacked(net, labels, attack=kept)
    first = kept.pool.clone()
    attacked(net, labels, attack=kept, step=1)
    assert torch.equal(kept.pool, first)


def test_without_a_pool_every_call_starts_fresh(net: QuantNet, labels: Tensor) -> None:
    options = replace(OPTIONS, pool=0)
    attack = Aqapa(options, seed=0)
    attacked(net, labels, attack=attack)
    later = attacked(net, labels, attack=attack, step=5)
    assert torch.equal(later, attacked(net, labels, options, step=5))  # no memory of step 0


def test_no_image_is_pushed_to_its_own_class(
    net: QuantNet, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watching(logits: Tensor, truth: Tensor, *, targets: Tensor) -> Tensor:
        assert (targets != truth).all()
        seen.append(targets)
        return gains_of(logits, truth, targets=targets)

    monkeypatch.setattr(aqapa, "gains_of", watching)
    attack = Aqapa(replace(OPTIONS, targeted=0.5, entries=6), seed=0)
    mixed = torch.arange(len(IMAGES)) % 6
    attack.patch(net, IMAGES, labels=mixed, bits=8, step=0)
    assert (attack.targets >= 0).sum() == 3
    all_targets = torch.cat(seen)
    assert (all_targets >= 0).any()
    assert (all_targets == -1).any()


def test_the_frozen_victim_does_not_learn(labels: Tensor) -> None:
    net = nets.ready(nets.small_resnet(), widths=(32, 8))
    options = replace(OPTIONS, bits="frozen")
    apart, together = Aqapa(options, seed=0), Aqapa(options, seed=0)
    for attack in (apart, together):
        attacked(net, labels, attack=attack)
    unchanged = attacked(net, labels, attack=apart, step=1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1)
    assert torch.equal(attacked(net, labels, attack=together, step=1), unchanged)


def widths_attacked(net: QuantNet, labels: Tensor, options: AqapaOptions, bits: int) -> set[int]:
    seen = set()
    hook = net.register_forward_pre_hook(lambda module, inputs: seen.add(module.bits))
    for step in range(8):
        attacked(net, labels, replace(options, steps=1, places=2), bits=bits, step=step)
    hook.remove()
    return seen


def test_every_choice_of_widths_attacks_those(net: QuantNet, labels: Tensor) -> None:
    def seen(kind: str) -> set[int]:
        return widths_attacked(net, labels, replace(OPTIONS, bits=kind), 4)

    assert seen("current") == {4}
    assert seen("fp32") == {32}
    assert seen("all") == {32, 8, 4, 2}
    assert seen("pair") == {32, 8, 4, 2}  # 4 and, in turn, each of the others
    attack = Aqapa(OPTIONS, seed=0)
    found = [attack.patch(net, IMAGES, labels=labels, bits=4, step=s).gain for s in range(6)]
    assert all(len(gain) == 2 and 4 in gain for gain in found)


def test_adaptive_weights_ascend_where_a_patch_wins_least(net: QuantNet, labels: Tensor) -> None:
    pair = nets.ready(nets.small_resnet(), widths=(32, 2))
    options = replace(OPTIONS, temperature=1e-3, pool=3)
    at_two = attacked(pair, labels, replace(options, bits="current"), bits=2)
    at_float = attacked(pair, labels, replace(options, bits="current"), bits=32)
    for gains, wanted in (((5.0, 0.0), at_two), ((0.0, 5.0), at_float)):
        attack = Aqapa(options, seed=0)
        attacked(pair, labels, attack=attack, bits=32, step=99)
        attack.pool, fresh = None, attack.gains
        attack._begin(pair, IMAGES)  # the pool as at first, the gains as they are set here
        fresh[:] = torch.tensor(gains)
        attack.gains = fresh
        assert torch.equal(attacked(pair, labels, attack=attack, bits=32), wanted)
    uniform = attacked(pair, labels, replace(options, bit_weights="uniform"), bits=32)
    assert not torch.equal(uniform, at_two)
    assert not torch.equal(uniform, at_float)


def test_running_gains_follow_what_was_won(net: QuantNet, labels: Tensor) -> None:
    attack = Aqapa(replace(OPTIONS, pool=1, entries=1, bits="current"), seed=0)
    first = attack.patch(net, IMAGES, labels=labels, bits=4, step=0).gain[4]
    assert attack.gains[0].tolist() == pytest.approx([0.0, 0.0, 0.1 * first, 0.0])
    second = attack.patch(net, IMAGES, labels=labels, bits=4, step=1).gain[4]
    assert float(attack.gains[0, 2]) == pytest.approx(0.09 * first + 0.1 * second)
    attack.options = replace(attack.options, reset=1.0)  # another patch, which has won nothing yet
    third = attack.patch(net, IMAGES, labels=labels, bits=8, step=2).gain[8]
    assert attack.gains[0].tolist() == pytest.approx([0.0, 0.1 * third, 0.0, 0.0])


def test_a_running_gain_is_of_the_images_pushed_to_the_target(net: QuantNet) -> None:
    options = replace(OPTIONS, pool=1, entries=1, targeted=1.0, steps=1, bits="current")
    attack, alone = (Aqapa(options, seed=0) for _ in range(2))
    labels = torch.arange(12) % 6
    attack.patch(net, IMAGES, labels=labels, bits=4, step=0)
    (target,) = attack.targets.tolist()
    others = labels != target
    assert not others.all()
    field = Field(net.eval(), IMAGES.float(), side=5, placement=options.placement,
                  seed=streams.key(0, "a-qapa places", 0))  # fmt: skip
    alone._begin(net, IMAGES)
    shown = field.paste(alone.pool, np.zeros(12, np.int64), places=field.places(1))
    with torch.no_grad():
        logits = net.select(4)(shown)[others]
    towards = torch.full((len(logits),), target)
    wanted = -0.1 * functional.cross_entropy(logits, towards)
    assert float(attack.gains[0, 2]) == pytest.approx(float(wanted), rel=1e-5)
    attack.gains.zero_()
    attack.patch(net, IMAGES, labels=torch.full((12,), target), bits=4, step=1)
    assert not attack.gains.any()  # none of them says how well it pushes there


@pytest.mark.parametrize("scope", ["universal", "per_image"])
def test_the_processes_of_a_group_try_other_places(net: QuantNet, labels: Tensor, scope: str
                                                   ) -> None:  # fmt: skip
    """Two of them paste on the halves of a batch what one pastes on the whole."""
    options = replace(OPTIONS, steps=0, scope=scope)
    whole = Aqapa(options, seed=0).patch(net, IMAGES, labels=labels, bits=8, step=0).shown
    halves = [
        Aqapa(options, seed=0).patch(
            net, IMAGES[rows], labels=labels[rows], bits=8, step=0, part=part
        ).shown
        for part, rows in enumerate((slice(6), slice(6, 12)))
    ]  # fmt: skip
    assert torch.equal(torch.cat(halves), whole)
    again = Aqapa(options, seed=0).patch(net, IMAGES[6:], labels=labels[6:], bits=8, step=0).shown
    assert not torch.equal(again, halves[1])


def test_what_is_given_back_from_a_gpu_goes_where_it_was_made() -> None:
    """The pool lies with the images; targets and gains on the CPU, wherever they come from."""
    attack = Aqapa(replace(OPTIONS, bits="frozen"), seed=0)
    with FakeTensorMode():  # shapes and devices alone: needs no GPU
        there = {"pool": (6, 3, 5, 5), "targets": (6,), "gains": (6, 2), "frozen.weight": (4,)}
        attack.restore({name: torch.empty(size, device="cuda") for name, size in there.items()})
        assert attack.pool.device.type == "cuda"
        assert attack.targets.device.type == attack.gains.device.type == "cpu"


def test_the_frozen_network_stays_when_the_rest_is_exchanged(labels: Tensor) -> None:
    net = nets.ready(nets.small_resnet(), widths=(32, 8))
    attack = Aqapa(replace(OPTIONS, bits="frozen"), seed=0)
    attacked(net, labels, attack=attack)
    frozen, state = attack._frozen, attack.state()
    assert any(name.startswith(CONSTANT) for name in state)
    attack.restore(
        {name: value for name, value in state.items() if name in ("pool", "targets", "gains")}
    )
    assert attack._frozen is frozen
    assert attack.state().keys() == state.keys()


def test_each_image_has_a_patch_of_its_own_when_asked(net: QuantNet, labels: Tensor) -> None:
    def distinct(scope: str) -> int:
        options = replace(OPTIONS, scope=scope, pool=1, entries=1, placement="fixed:3,4")
        shown = attacked(net, labels, options)
        return len(np.unique(shown[:, :, 3:8, 4:9].flatten(1).numpy(), axis=0))

    assert distinct("universal") == 1
    assert distinct("per_image") == len(IMAGES)
    attack = Aqapa(replace(OPTIONS, scope="per_image", steps=0), seed=0)
    attacked(net, labels, attack=attack)
    noise = attack.pool.clone()
    attack = Aqapa(replace(OPTIONS, scope="per_image"), seed=0)
    attacked(net, labels, attack=attack)
    assert not torch.equal(attack.pool, noise)  # the pool learns from them all the same


def test_of_several_places_the_worst_is_shown(net: QuantNet, labels: Tensor) -> None:
    pixels = IMAGES.float()
    field = Field(net.eval(), pixels, side=5, placement="random", seed=7)
    patches = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    which, untargeted = np.arange(len(pixels)) % 2, torch.full_like(labels, -1)
    draws = range(3, 9)
    worst = field.worst(
        patches, which, draws=draws, labels=labels, targets=untargeted, bits=4
    )  # fmt: skip

    def won(places: object) -> Tensor:
        with torch.no_grad():
            shown = field.paste(patches, which, places=places)
            return gains_of(net.select(4)(shown), labels, targets=untargeted)

    each = torch.stack([won(field.places(draw)) for draw in draws])
    assert torch.allclose(won(worst), each.amax(dim=0), atol=1e-5)
    assert len(set(each.argmax(dim=0).tolist())) > 2
    many, one = (attacked(net, labels, replace(OPTIONS, places=n, bits="current")) for n in (8, 1))
    assert loss(net, many, labels) > loss(net, one, labels)


@pytest.mark.parametrize("kind", ["pair", "frozen"])
def test_what_is_restored_goes_on_as_it_would_have(labels: Tensor, kind: str) -> None:
    net = nets.ready(nets.small_resnet(), widths=(32, 8, 4))
    options = replace(OPTIONS, bits=kind, reset=0.3)
    attack = Aqapa(options, seed=0)
    for step in range(3):
        attacked(net, labels, attack=attack, step=step)
    state = attack.state()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(1.1)
    again = Aqapa(options, seed=0)
    again.restore(state)
    assert {name: value.shape for name, value in again.state().items()} == {
        name: value.shape for name, value in state.items()
    }
    wanted = attacked(net, labels, attack=attack, step=3)  # moves its pool, not the saved one
    assert torch.equal(attacked(net, labels, attack=again, step=3), wanted)
    for name, value in attack.state().items():
        assert torch.equal(again.state()[name], value), name
    late = Aqapa(options, seed=0)
    late.restore(state)
    assert torch.equal(attacked(net, labels, attack=late, step=3), wanted)


def test_before_the_first_step_there_is_nothing_to_remember() -> None:
    assert Aqapa(OPTIONS, seed=0).state() == {}


@pytest.mark.parametrize("kind", ["fp32", "frozen"])
def test_an_attack_on_float_needs_the_float_width(labels: Tensor, kind: str) -> None:
    net = nets.ready(nets.small_resnet(), widths=(8, 4))
    with pytest.raises(BadInput, match="attacks width 32"):
        attacked(net, labels, replace(OPTIONS, bits=kind))


def test_a_patch_that_does_not_fit_is_refused(net: QuantNet, labels: Tensor) -> None:
    with pytest.raises(BadInput, match="does not fit"):
        attacked(net, labels, replace(OPTIONS, patch_px=15))
