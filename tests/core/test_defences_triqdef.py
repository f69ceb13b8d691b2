"""TriQDef: each part does what it says, can be left out, and a run can be taken up again."""
# ruff: noqa: E402

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.nn import functional

import nets
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.defences import disagreement, edges
from qadtr_edge.defences.bact import active_at, copy_norms
from qadtr_edge.defences.defence import Batch
from qadtr_edge.defences.disagreement import FdpOptions, GpdpOptions
from qadtr_edge.defences.recipes import build
from qadtr_edge.defences.triqdef import Triqdef
from qadtr_edge.errors import BadInput
from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.mobilenet import MobileNetV2
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.resnet import ResNet
from qadtr_edge.models.vgg import VGG
from qadtr_edge.train import TrainOptions, train

WIDTHS = (2, 32, 5, 8, 4)
SMALL = ("patches.patch_px=4", "patches.ascents=5", "patches.pool=4", "gpdp.images=4")
OFF = ("fdp.weight=0", "gpdp.weight=0", "curriculum=off")


def made(*settings: str, seed: int = 0) -> Triqdef:
    defence, _ = build("triqdef", settings=(*SMALL, *settings), seed=seed)
    assert isinstance(defence, Triqdef)
    return defence


def fresh(widths: tuple[int, ...] = WIDTHS) -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=widths)


def batch(step: int = 0, *, steps: int = 20, count: int = 12) -> Batch:
    images = nets.pixels(count, seed=step)
    labels = torch.arange(count) % 6
    return Batch(images, labels, step, steps, epoch=0)


def state_of(net: QuantNet, bits: int) -> dict[str, Tensor]:
    """The scales and batch norms of one width."""
    return {
        name: value.clone()
        for name, value in net.state_dict().items()
        if name.endswith((f"@{bits}", f"scales.w{bits}")) or f"norms.w{bits}." in name
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- the curriculum


def test_widths_join_at_their_shares_widest_first() -> None:
    shares = (0.3, 0.45, 0.6)
    found = [active_at(WIDTHS, shares, step=step, steps=20) for step in range(20)]
    assert found[:6] == [(32, 8)] * 6
    assert found[6:9] == [(32, 8, 5)] * 3
    assert found[9:12] == [(32, 8, 5, 4)] * 3
    assert found[12:] == [(32, 8, 5, 4, 2)] * 8


@pytest.mark.parametrize(
    ("widths", "shares", "at_start", "in_the_middle"),
    [
        ((8, 4), (0.3, 0.45, 0.6), (8, 4), (8, 4)),
        ((4,), (0.3,), (4,), (4,)),
        ((2, 32, 8, 4), (0.3, 0.45, 0.6), (32, 8), (32, 8, 4, 2)),
        ((2, 3, 4, 32, 8), (0.5,), (32, 8), (32, 8, 4, 3, 2)),
        ((2, 4, 8), (), (8, 4, 2), (8, 4, 2)),
    ],
)
def test_any_number_of_widths_and_shares(
    widths: tuple[int, ...], shares: tuple[float, ...], at_start: tuple[int, ...],
    in_the_middle: tuple[int, ...],
) -> None:  # fmt: skip
    assert active_at(widths, shares, step=0, steps=100) == at_start
    assert active_at(widths, shares, step=50, steps=100) == in_the_middle


def test_a_width_that_joins_is_calibrated_alone_and_takes_over_the_norms_of_the_next() -> None:
    net, curriculum = fresh(), made().curriculum
    for scale in net.scales.values():
        scale.data.mul_(0.8)  # as if learned
    net.layers["conv1"].norms["w8"].running_mean.data.fill_(0.25)
    assert curriculum.widths(net, batch(5)) == (32, 8)
    before = {bits: state_of(net, bits) for bits in WIDTHS}
    assert curriculum.widths(net, batch(6)) == (32, 8, 5)
    for bits in (32, 8):
        assert equal(state_of(net, bits), before[bits]), bits
    after = state_of(net, 5)
    for name, value in after.items():
        if "norms" in name:
            assert torch.equal(value, net.state_dict()[name.replace("w5", "w8")]), name
        elif "@" in name:
            assert not torch.equal(value, before[5][name]), name
    assert (net.layers["conv1"].norms["w5"].running_mean == 0.25).all()


def test_it_is_calibrated_on_the_last_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, tuple[int, ...]]] = []

    def note(net: QuantNet, images: Tensor, *, widths: tuple[int, ...]) -> None:
        seen.append((images, widths))

    monkeypatch.setattr("qadtr_edge.defences.bact.calibrate", note)
    net, curriculum = fresh(), made("calibration_images=20").curriculum
    for step in range(20):
        curriculum.widths(net, batch(step))
    assert [widths for _, widths in seen] == [(5,), (4,), (2,)]
    expected = torch.cat([batch(5).images, batch(6).images])[-20:]
    assert torch.equal(seen[0][0], expected)
    assert set(curriculum.state()) == {"joined"}, "no images are kept once all have joined"


def test_without_curriculum_all_train_from_the_start_as_calibrated() -> None:
    net, defence = fresh(), made("curriculum=off")
    before = {bits: state_of(net, bits) for bits in WIDTHS}
    assert defence.curriculum.widths(net, batch()) == (32, 8, 5, 4, 2)
    assert all(equal(state_of(net, bits), before[bits]) for bits in WIDTHS)


def test_calibrating_one_width_sets_what_calibrating_all_does_and_leaves_the_others() -> None:
    net, whole = fresh(), fresh()
    images = nets.pixels(16, seed=5)
    before = {bits: state_of(net, bits) for bits in WIDTHS}
    calibrate(net, images, widths=(4,))
    calibrate(whole, images)
    assert equal(state_of(net, 4), state_of(whole, 4))
    assert not equal(state_of(net, 4), before[4])
    assert all(equal(state_of(net, bits), before[bits]) for bits in WIDTHS if bits != 4)


def test_norms_are_copied_by_value() -> None:
    net = fresh((8, 2))
    copy_norms(net, 8, to=2)
    net.layers["conv1"].norms["w8"].weight.data.add_(1)
    assert not torch.equal(*(net.layers["conv1"].norms[key].weight for key in ("w8", "w2")))


# --- the penalties


def test_stages_end_before_the_resolution_drops() -> None:
    def ends(model: nn.Module, size: int = 32) -> tuple[str, ...]:
        net = nets.ready(model, widths=(32,), size=size)
        with torch.no_grad():
            return disagreement.stage_ends(net, net.run(nets.pixels(1, size=size)), stages=3)

    assert ends(ResNet(20)) == ("add_2", "add_5", "add_8")
    assert ends(VGG(11)) == ("features.0", "features.4", "features.11")
    assert ends(MobileNetV2()) == (
        "features.4.conv.0.0", "features.7.conv.0.0", "features.14.conv.0.0",
    )  # fmt: skip
    assert len(ends(nets.mixed(), 16)) >= 2
    assert ends(ResNet(8), 8) == ("add", "add_1"), "2 x 2 is too small"


def test_fdp_adds_stages_and_can_be_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = (
        torch.rand((2, 2, side, side), generator=chance, dtype=torch.float64) for side in (8, 4)
    )
    options = FdpOptions()
    both = disagreement.fdp([(first[0], second[0]), (first[1], second[1])], options)
    parts = [disagreement.fdp([(stage[0],), (stage[1],)], options) for stage in (first, second)]
    assert both.item() == pytest.approx(sum(parts).item())
    stack = torch.stack([first[0], first[1]], dim=1)
    held = edges.threshold(edges.magnitude(edges.sobel(stack / stack.amax((-2, -1), keepdim=True))))
    monkeypatch.setattr(edges, "threshold", lambda _: held)
    monkeypatch.setattr(edges, "STEEPNESS", 5.0)
    inputs = tuple(each.clone().requires_grad_() for each in first)
    assert torch.autograd.gradcheck(lambda a, b: disagreement.fdp([(a,), (b,)], options), inputs)


class Smooth(nn.Module):
    """A network whose widths differ by a gain, smooth enough for finite differences."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.bits = weight, 8

    def select(self, bits: int) -> Smooth:
        self.bits = bits
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = functional.softplus(functional.conv2d(x / 64, self.weight, padding=1) * self.bits)
        return torch.tanh(y * self.bits).mean(dim=2).flatten(1)


def test_gpdp_is_differentiated_through_the_input_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = torch.Generator().manual_seed(1)
    weight = torch.randn((2, 3, 3, 3), generator=chance, dtype=torch.float64).requires_grad_()
    images = 255 * torch.rand((2, 3, 4, 4), generator=chance, dtype=torch.float64)
    seen: list[Tensor] = []
    monkeypatch.setattr(edges, "STEEPNESS", 5.0)
    threshold = edges.threshold

    def held(values: Tensor) -> Tensor:
        seen.append(threshold(values))
        return seen[0]

    monkeypatch.setattr(edges, "threshold", held)

    def penalty(weight: Tensor) -> Tensor:
        return disagreement.gpdp(
            Smooth(weight), images, labels=torch.tensor([0, 5]), widths=(1, 2),
            options=GpdpOptions(),
        )  # fmt: skip

    monkeypatch.setattr(edges, "SMALLEST", 1e-14)  # gradients of pixels are small
    assert torch.autograd.gradcheck(penalty, (weight,), eps=1e-5, rtol=1e-2)


@pytest.mark.parametrize("widths", [(32, 8), (8, 2)])
def test_gpdp_reaches_the_weights_of_quantized_widths(widths: tuple[int, int]) -> None:
    net, shown = fresh().train().select(4), batch()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    penalty = disagreement.gpdp(
        net, shown.images.float(), labels=shown.labels, widths=widths, options=GpdpOptions()
    )
    assert net.training
    assert net.bits == 4
    assert equal(before, net.state_dict())
    penalty.backward()
    for name, layer in net.layers.items():
        assert torch.isfinite(layer.weight.grad).all(), name
        assert layer.weight.grad.abs().sum() > 0, name
    reached = {int(name.split("@")[1]) for name, scale in net.scales.items() if scale.grad}
    assert reached == set(widths) - {32}


def test_gpdp_can_be_lowered() -> None:
    net, shown = fresh((32, 8)), batch()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9)
    found = []
    for _ in range(20):
        penalty = disagreement.gpdp(
            net, shown.images.float(), labels=shown.labels, widths=(32, 8), options=GpdpOptions()
        )
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
        found.append(penalty.item())
    assert sum(found[-5:]) < sum(found[:5])


# --- the step


def test_the_loss_is_the_formula_of_its_parts() -> None:
    net = fresh((32, 8))
    plain, with_fdp, full = (
        made(*settings).step(copy.deepcopy(net), batch())
        for settings in (OFF, ("gpdp.weight=0",), ())
    )
    assert plain.told.keys() == {"active_widths"}
    assert with_fdp.loss.item() == pytest.approx(
        plain.loss.item() + 0.8 * with_fdp.told["fdp"], rel=1e-5
    )
    assert full.loss.item() == pytest.approx(
        with_fdp.loss.item() + 0.5 * full.told["gpdp"], rel=1e-5
    )
    expected = []
    for bits in (32, 8):
        logits = net.train().select(bits)(plain.shown)
        clean = functional.cross_entropy(logits[:6], batch().labels[:6])
        expected.append(clean + functional.cross_entropy(logits[6:], batch().labels[6:]))
    assert plain.loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


@pytest.mark.parametrize("source", ["float_pool", "online"])
def test_half_of_the_images_carry_a_patch_and_the_rest_none(source: str) -> None:
    net = fresh()
    defence = made(*OFF, f"patches.source={source}")
    shown = defence.step(net, batch()).shown
    differs = (shown != batch().images).any(dim=1).flatten(1).sum(1)
    assert (differs[:6] == 0).all()
    assert ((differs[6:] > 4) & (differs[6:] <= 36)).all()
    assert torch.equal(shown, shown.round())


def test_the_float_pool_is_made_once_and_the_online_one_moves() -> None:
    found = {}
    for source in ("float_pool", "online"):
        settings = (f"patches.source={source}", "patches.patch_px=3,4", "patches.placement=plain")
        net, defence = fresh(), made(*OFF, *settings)
        is_wide = set()
        for step in range(6):
            shown = defence.step(net, batch(step)).shown
            differs = (shown != batch(step).images).any(dim=1).flatten(1).sum(1)
            is_wide.add(int(differs.max()) > 9)
            pools = {side: pool.state() for side, pool in defence.patches.pools.items()}
            if step == 0:
                first = copy.deepcopy(pools)
        assert is_wide == {False, True}, "both sides have their turn"
        found[source] = first, pools
    first, last = found["float_pool"]
    assert first[3].keys() == first[4].keys() == {"pool", "targets", "gains"}
    assert all(equal(first[side], last[side]) for side in (3, 4))
    first, last = found["online"]
    assert any(first[side].keys() and not equal(first[side], last[side]) for side in (3, 4))


def test_the_float_pool_wins_more_than_noise() -> None:
    net = fresh()
    gains = []
    for ascents in (0, 40):
        defence = made(*OFF, f"patches.ascents={ascents}", "patches.targeted=0")
        loss = []
        for step in range(12):
            shown = defence.step(net, batch(step)).shown
            with torch.no_grad():
                logits = net.eval().select(32)(shown)
            loss.append(functional.cross_entropy(logits[6:], batch(step).labels[6:]))
        gains.append(torch.stack(loss).mean().item())
    assert gains[1] > gains[0] + 0.1


def test_the_float_pool_needs_the_float_width_and_online_does_not() -> None:
    net = fresh((8, 2))
    with pytest.raises(BadInput, match="width 32"):
        made().step(net, batch())
    assert torch.isfinite(made("patches.source=online").step(net, batch()).loss)


@pytest.mark.parametrize(
    "settings", [("share=0",), ("share=1",), ("fdp.dice=0", "gpdp.orientation=0"), OFF]
)
def test_every_part_can_be_left_out(settings: tuple[str, ...]) -> None:
    net = fresh((32, 2))
    found = made(*settings).step(net, batch())
    found.loss.backward()
    assert torch.isfinite(found.loss)
    assert net.layers["conv1"].weight.grad.abs().sum() > 0
    assert "fdp" not in found.told or "share=0" not in settings


def test_one_width_has_no_pairs() -> None:
    assert made().step(fresh((32,)), batch()).told == {"active_widths": 1.0}


def test_training_lowers_the_loss_and_the_penalties() -> None:
    net = fresh((32, 8, 2))
    defence = made("add_at=0")
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    losses, penalties = [], []
    for _ in range(12):
        found = defence.step(net, batch())
        optimiser.zero_grad()
        found.loss.backward()
        defence.perturb(net, batch())
        optimiser.step()
        losses.append(found.loss.item())
        penalties.append(0.8 * found.told["fdp"] + 0.5 * found.told["gpdp"])
        assert net.training
    assert losses[-1] < 0.8 * losses[0]
    assert penalties[-1] < penalties[0]


@pytest.mark.parametrize("source", ["float_pool", "online"])
def test_a_restored_defence_takes_the_same_next_step(source: str) -> None:
    """Between the first and the second width that joins, so that images are waiting."""
    net, defence = fresh(), made(f"patches.source={source}", "patches.patch_px=3,4")
    for step in range(5, 8):
        defence.step(net, batch(step))
    twin, again = copy.deepcopy(net), made(f"patches.source={source}", "patches.patch_px=3,4")
    again.restore({name: value.clone() for name, value in defence.state().items()})
    for step in (8, 9):  # at step 9 the next width joins
        one, other = defence.step(net, batch(step)), again.step(twin, batch(step))
        assert torch.equal(one.shown, other.shown)
        assert one.told == other.told
        assert torch.equal(one.loss, other.loss)
    assert equal(state_of(net, 4), state_of(twin, 4))
    assert equal(defence.state(), again.state())


def test_it_trains_from_the_front_door(tmp_path: Path) -> None:
    def toy(split: str) -> Dataset:
        chance = np.random.default_rng(len(split))
        labels = chance.integers(0, 6, 48)
        return Dataset(
            name="toy", split=split, images=nets.pixels(48, seed=len(split)).numpy(),
            labels=labels.astype(np.int64), ids=np.arange(48), class_names=tuple("abcdef"),
            flip_allowed=True,
        )  # fmt: skip

    net = fresh((32, 8, 2))
    train(
        net, toy("train"), calibration=toy("calibration"), defence=made(),
        options=TrainOptions(epochs=2, batch=12, lr=0.01), log=tmp_path / "log.jsonl",
    )  # fmt: skip
    log = (tmp_path / "log.jsonl").read_text()
    assert '"fdp"' in log
    assert '"gpdp"' in log
    assert not net.training
