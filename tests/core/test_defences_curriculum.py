"""TriQDef's widths join one after another, calibrated, with the norms of the next wider."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

import nets
from qadtr_edge.defences.bact import active_at, copy_norms
from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.quantnet import QuantNet
from widths_apart import WIDTHS, batch, equal, fresh, made, state_of


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
