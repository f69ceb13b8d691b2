"""TriQDef: a step adds up its parts, each can be left out, and a run can be taken up again."""
# ruff: noqa: E402

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

import nets
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput
from qadtr_edge.train import TrainOptions, train
from widths_apart import OFF, batch, equal, fresh, made, state_of


def test_the_loss_is_the_formula_of_its_parts() -> None:
    net = fresh((32, 8))
    plain, with_fdp, full = (
        made(*settings).step(copy.deepcopy(net), batch())
        for settings in (OFF, ("gpdp.weight=0",), ())
    )
    accuracies = {f"{part}_w{bits}" for part in ("clean", "patched") for bits in (32, 8)}
    assert plain.told.keys() == {"active_widths", *accuracies}
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


@pytest.mark.parametrize("bits", [32, 8])
def test_one_width_has_nothing_to_disagree_with(bits: int) -> None:
    with pytest.raises(BadInput, match=f"makes widths disagree, and --bits {bits} is one alone"):
        made("patches.source=online").step(fresh((bits,)), batch())
    found = made(*OFF, "patches.source=online").step(fresh((bits,)), batch())
    assert found.told["active_widths"] == 1.0
    assert f"patched_w{bits}" in found.told


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
