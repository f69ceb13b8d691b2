"""QADT-R: its parts together, each left out, and what the log is told."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import nets
from qadtr_edge.defences import gir
from qadtr_edge.defences.aqapa import Aqapa
from qadtr_edge.defences.defence import Batch, Step
from qadtr_edge.defences.mixed import mixed_loss
from qadtr_edge.defences.qadtr import Qadtr
from qadtr_edge.defences.recipes import build
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet

SMALL = ("a_qapa.steps=2", "a_qapa.patch_px=4", "a_qapa.pool=4", "gir.images=4")
IMAGES, LABELS = nets.pixels(12), torch.arange(12) % 6


@pytest.fixture
def net() -> QuantNet:
    return nets.ready(nets.small_resnet(), widths=(32, 8, 4))


def defence(*settings: str) -> Qadtr:
    found, _ = build("qadtr", settings=(*SMALL, *settings))
    assert isinstance(found, Qadtr)
    return found


def stepped(net: QuantNet, *settings: str, step: int = 5, steps: int = 10) -> Step:
    torch.manual_seed(0)
    return defence(*settings).step(net, Batch(IMAGES, LABELS, step, steps, epoch=0))


def test_half_of_a_batch_is_patched_and_the_log_tells_of_both(net: QuantNet) -> None:
    made = stepped(net)
    changed = (made.shown != IMAGES).flatten(1).any(dim=1)
    assert changed.tolist() == [False] * 6 + [True] * 6
    (bits,) = (int(name.removeprefix("clean_w")) for name in made.told if "clean" in name)
    assert set(made.told) >= {f"clean_w{bits}", f"patched_w{bits}", f"gain_w{bits}"}
    assert "gradient_cosine" in made.told
    assert made.told["gradient_skipped"] == 0
    assert net.training


def test_the_loss_without_regularization_is_the_mixed_loss(net: QuantNet) -> None:
    made = stepped(net, "gir.variant=off")
    (bits,) = (int(name.removeprefix("clean_w")) for name in made.told if "clean" in name)
    logits = net.select(bits)(made.shown)
    assert torch.allclose(made.loss, mixed_loss(logits, LABELS, patched=6))
    assert "gradient_cosine" not in made.told


def test_parts_can_be_left_out(net: QuantNet) -> None:
    made = stepped(net, "patches=off", "gir.variant=off")
    assert torch.equal(made.shown, IMAGES.float())
    assert {name.split("_")[0] for name in made.told} == {"clean"}
    assert (stepped(net, "share=1.0").shown != IMAGES).flatten(1).any(dim=1).all()


def test_the_penalty_grows_along_its_ramp(net: QuantNet) -> None:
    def added(step: int, *settings: str) -> float:
        state = {name: value.clone() for name, value in net.state_dict().items()}
        with_it = stepped(net, *settings, step=step, steps=100)
        net.load_state_dict(state)
        without = stepped(net, *settings, "gir.weight=0", step=step, steps=100)
        net.load_state_dict(state)
        return (with_it.loss - without.loss).item()

    full = [added(step, "gir.ramp=0") for step in (0, 5, 50)]
    assert all(each > 0.01 for each in full)
    assert added(0) == 0
    assert added(5) == pytest.approx(full[1] / 2, rel=1e-3)
    assert added(50) == pytest.approx(full[2], rel=1e-3)


def test_backward_noise_lasts_for_the_passes_of_the_step_alone(net: QuantNet) -> None:
    seen: list[tuple[bool, float]] = []
    net.register_forward_pre_hook(
        lambda module, inputs: seen.append((module.training, module.backward_noise))
    )
    stepped(net, "gir.variant=C", "gir.backward_noise=0.2")
    assert (True, 0.2) in seen
    assert all(noise == 0 for is_training, noise in seen if not is_training)
    assert net.backward_noise == 0


def test_gradient_noise_is_added_between_backward_and_update(net: QuantNet) -> None:
    for variant, moves in (("B", True), ("A", False), ("off", False)):
        recipe = defence(f"gir.variant={variant}")
        batch = Batch(IMAGES, LABELS, 0, 10, epoch=0)
        net.zero_grad()
        recipe.step(net, batch).loss.backward()
        weight = net.layer(net.steps[1]).weight
        before = weight.grad.clone()
        recipe.perturb(net, batch)
        assert torch.equal(weight.grad, before) != moves


def test_all_widths_together_average_their_losses(net: QuantNet) -> None:
    made = stepped(net, "dbwt.order=joint", "gir.variant=off")
    losses = [mixed_loss(net.select(b)(made.shown), LABELS, patched=6) for b in (32, 8, 4)]
    assert torch.allclose(made.loss, torch.stack(losses).mean())
    assert {f"patched_w{bits}" for bits in (32, 8, 4)} <= set(made.told)


def test_the_patch_region_is_where_the_patches_are(
    net: QuantNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def watching(net: QuantNet, images: torch.Tensor, **options: object) -> object:
        seen.update(options, images=images)
        return gir.Inconsistency(images.new_zeros(()), None, 1.0)

    monkeypatch.setattr("qadtr_edge.defences.gir.inconsistency", watching)
    made = stepped(net, "gir.region=patch", "gir.pair=same_bit", "gir.sigma=0.25")
    assert torch.equal(seen["images"], made.shown[-4:])
    assert seen["bits"][0] == seen["bits"][1]
    assert seen["sigma"] == 0.25
    inside = (made.shown[-4:] != IMAGES[-4:]).any(dim=1, keepdim=True)
    assert torch.equal(seen["region"], inside.float())
    assert made.told["gradient_skipped"] == 1
    assert "gradient_cosine" not in made.told  # none was measured
    stepped(net)
    assert seen["bits"][0] != seen["bits"][1]
    assert seen["region"] is None


@pytest.mark.parametrize("nowhere", ["patches=off", "share=0"])
def test_a_region_of_patches_that_are_not_there_is_refused(nowhere: str) -> None:
    with pytest.raises(BadInput, match="no image has one") as caught:
        defence("gir.region=patch", nowhere)
    assert "gir.region=image" in caught.value.remedy
    defence("gir.region=patch", nowhere, "gir.variant=B")
    defence("gir.region=patch", "share=0.1")


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (("share=0.25",), 3),  # no clean image beside the patched ones
        (("share=0.25", "gir.images=2"), 2),
        (("share=0",), 8),
        (("patches=off",), 8),
    ],
)
def test_gradients_are_those_of_patched_images_where_there_are_any(
    net: QuantNet, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], count: int
) -> None:
    seen = []

    def watching(net: QuantNet, images: torch.Tensor, **options: object) -> object:
        seen.append(images)
        return gir.Inconsistency(images.new_zeros(()), None, 1.0)

    monkeypatch.setattr("qadtr_edge.defences.gir.inconsistency", watching)
    made = stepped(net, "gir.images=8", *settings)
    assert torch.equal(seen[0], made.shown[-count:])


def test_with_all_widths_in_a_step_patches_start_at_each_in_turn(
    net: QuantNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors: list[tuple[int, int]] = []
    patch, inconsistency = Aqapa.patch, gir.inconsistency

    def patching(self: Aqapa, net: QuantNet, images: torch.Tensor, **given: int) -> object:
        anchors.append((given["bits"], 0))
        return patch(self, net, images, **given)

    def comparing(net: QuantNet, images: torch.Tensor, **given: object) -> object:
        anchors[-1] = (anchors[-1][0], given["bits"][0])
        return inconsistency(net, images, **given)

    monkeypatch.setattr(Aqapa, "patch", patching)
    monkeypatch.setattr("qadtr_edge.defences.gir.inconsistency", comparing)
    quick = ("a_qapa.steps=1", "a_qapa.places=1", "a_qapa.bits=current", "gir.images=1")
    for step in range(10):
        made = stepped(net, "dbwt.order=joint", *quick, step=step)
        assert f"gain_w{anchors[-1][0]}" in made.told
    assert {one for one, _ in anchors} == {32, 8, 4}
    assert all(one == other for one, other in anchors)
    first = list(anchors)
    for step in range(10):
        stepped(net, "dbwt.order=joint", *quick, step=step)
    assert anchors[10:] == first
    made = stepped(net, *quick)
    assert f"clean_w{anchors[-1][0]}" in made.told  # one width: that one
