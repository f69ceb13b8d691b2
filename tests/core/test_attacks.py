"""Attacks: the differentiable paste, what they must leave alone, and that they beat noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from qadtr_edge import registry  # noqa: E402
from qadtr_edge.attacks import controls, eot  # noqa: E402
from qadtr_edge.attacks.dpr import Dpr  # noqa: E402
from qadtr_edge.attacks.gap import Gap  # noqa: E402
from qadtr_edge.attacks.lavan import Lavan  # noqa: E402
from qadtr_edge.attacks.universal import Jury, split  # noqa: E402
from qadtr_edge.attacks.victim import Attack, frozen, logits_of, state_digest  # noqa: E402
from qadtr_edge.errors import BadInput  # noqa: E402
from qadtr_edge.patch.paste import paste  # noqa: E402
from qadtr_edge.patch.placement import place, policy  # noqa: E402
from qadtr_edge.types import Patch, Placements  # noqa: E402
from toy import pictures  # noqa: E402

CRAFT = pictures(400, split="craft")
TEST = pictures(300, split="test")
MAKERS = (Gap, Lavan, Dpr)


class Pixels(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels / 128.0 - 1.0


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    """A net with batch norm and dropout that is right on the pictures; trained in a second."""
    torch.manual_seed(0)
    net = nn.Sequential(
        Pixels(), nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(24 * 16, 4),
    )  # fmt: skip
    data = pictures(1200, split="craft", seed=9)
    images, labels = torch.from_numpy(data.images).float(), torch.from_numpy(data.labels)
    descent = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(100):
        part = torch.arange(step * 64, step * 64 + 64) % len(images)
        loss = nn.functional.cross_entropy(net(images[part]), labels[part])
        descent.zero_grad()
        loss.backward()
        descent.step()
    net.zero_grad(set_to_none=True)
    net.eval()
    assert (logits_of(net, TEST.images).argmax(1) == TEST.labels).mean() > 0.9
    return net.train()  # attacks must put it into evaluation mode themselves


def made(victim: Callable[[Tensor], Tensor], maker: type[Gap | Lavan], **options: object) -> Patch:
    attack = maker(**{"patch_px": (5, 5), "batch": 32, **options})  # type: ignore[arg-type]
    return attack.craft(victim, CRAFT, seed=0, told=lambda count, note: None)


def success(victim: nn.Module, patch: Patch, name: str) -> float:
    with frozen(victim):
        _, held = split(victim, TEST, target=patch.target)
        return Jury(victim, held, policy(name, image_px=16), seed=5).score(patch)[0]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("target", [None, 2])
def test_beats_noise_on_images_it_never_saw(
    victim: nn.Module, maker: type[Gap | Lavan], target: int | None
) -> None:
    patch = made(victim, maker, target=target, patch_px=(7, 7), steps=100)
    noise = controls.noise(patch, seed=0).pixels_of(np.arange(3))
    rivals = [Patch(pixels, patch.mask, patch.target) for pixels in noise]
    name = maker(target=target).placement
    best = max(success(victim, rival, name) for rival in rivals)
    assert success(victim, patch, name) > best + 0.15
    assert patch.target == target


@pytest.mark.parametrize("maker", MAKERS)
def test_the_same_seed_gives_the_same_bytes(victim: nn.Module, maker: type[Gap | Lavan]) -> None:
    first, again = (made(victim, maker, steps=8, judged_every=4) for _ in range(2))
    assert np.array_equal(first.pixels, again.pixels)
    other = maker(patch_px=(5, 5), steps=8, batch=32).craft(
        victim, CRAFT, seed=1, told=lambda count, note: None
    )
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("maker", MAKERS)
def test_the_victim_is_left_exactly_as_it_was(victim: nn.Module, maker: type[Gap | Lavan]) -> None:
    victim[1].weight.requires_grad_(False)  # type: ignore[union-attr, index]
    modes = [module.training for module in victim.modules()]
    wanted = [weight.requires_grad for weight in victim.parameters()]
    before = state_digest(victim)
    seen: list[bool] = []
    handle = victim.register_forward_pre_hook(lambda net, _: seen.append(net.training))
    made(victim, maker, steps=4)
    handle.remove()
    assert seen
    assert not any(seen)
    assert state_digest(victim) == before
    assert [module.training for module in victim.modules()] == modes
    assert [weight.requires_grad for weight in victim.parameters()] == wanted
    assert all(weight.grad is None for weight in victim.parameters())


def test_a_victim_that_changes_stops_the_run(victim: nn.Module) -> None:
    with pytest.raises(AssertionError, match="changed"), frozen(victim):
        victim[2].running_mean += 0.25  # type: ignore[union-attr, index, operator]
    victim[2].running_mean -= 0.25  # type: ignore[union-attr, index, operator]


def test_any_callable_can_be_the_victim(victim: nn.Module) -> None:
    victim.eval()
    called = made(lambda pixels: victim(pixels), Gap, steps=4)
    assert np.array_equal(called.pixels, made(victim, Gap, steps=4).pixels)


@pytest.mark.parametrize("maker", MAKERS)
def test_every_step_is_told_and_the_best_patch_is_kept(
    victim: nn.Module, maker: type[Gap | Lavan], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores: list[tuple[float, float]] = []
    patches: list[Patch] = []
    genuine = Jury.score

    def score(jury: Jury, patch: Patch) -> tuple[float, float]:
        patches.append(patch)
        scores.append(genuine(jury, patch))
        return scores[-1]

    monkeypatch.setattr(Jury, "score", score)
    told: list[int] = []
    attack = maker(patch_px=(5, 5), steps=11, batch=16, judged_every=3)
    kept = attack.craft(victim, CRAFT, seed=0, told=lambda count, note: told.append(count))
    assert sum(told) == attack.steps == 11
    assert len(scores) == 4
    assert kept is patches[scores.index(max(scores))]


def test_only_images_that_can_be_won_are_used_and_none_twice(victim: nn.Module) -> None:
    with frozen(victim):
        fit, held = split(victim, CRAFT, target=1)
        used = np.concatenate([fit.ids, held.ids])
        assert len(set(used)) == len(used)
        for part in (fit, held):
            assert (logits_of(victim, part.images).argmax(1) == part.labels).all()
            assert not (part.labels == 1).any()
        with pytest.raises(BadInput, match="crafting images"):
            split(victim, pictures(30, split="craft"), target=None)


PLACES = st.builds(
    lambda values: Placements(*np.array(values, float).T),
    st.lists(
        st.tuples(st.floats(-3, 12), st.floats(-3, 12), st.floats(-90, 90), st.floats(0.6, 1.6)),
        min_size=2,
        max_size=2,
    ),
)


@settings(max_examples=40)
@given(at=PLACES, seed=st.integers(0, 99))
def test_the_soft_paste_shows_what_the_exact_one_shows(at: Placements, seed: int) -> None:
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 256, (2, 3, 14, 15), dtype=np.uint8)
    mask = chance.random((4, 6)) < 0.8
    mask[1, 2] = True
    pixels = chance.integers(0, 256, (3, 4, 6), dtype=np.uint8)
    soft = eot.paste(
        torch.from_numpy(images).float(), torch.from_numpy(pixels).float(), mask=mask,
        placements=at,
    )  # fmt: skip
    assert np.array_equal(soft.numpy(), paste(images, pixels, mask=mask, placements=at))


def test_each_image_shows_the_patch_it_is_told_to() -> None:
    data = pictures(5, split="craft")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 4), dtype=np.uint8)
    mask, which = np.ones((5, 4), bool), np.array([2, 0, 1, 1, 2])
    at = place(policy("random", image_px=16), data.ids, seed=0, patch_px=(5, 4), image_px=(16, 16))
    soft = eot.paste(
        torch.from_numpy(data.images).float(), torch.from_numpy(pixels).float(), mask=mask,
        placements=at, which=which,
    )  # fmt: skip
    exact = paste(data.images, pixels[which], mask=mask, placements=at)
    assert np.array_equal(soft.numpy(), exact)


def test_the_gradient_of_the_soft_paste_is_numerical() -> None:
    at = Placements(*np.array([[1.3, 2.2, 20.0, 1.2], [4.0, 0.5, -60.0, 0.8]]).T)
    images = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    pixels = torch.rand(3, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = np.ones((3, 4), bool)
    weights = torch.rand(2, 3, 9, 9, dtype=torch.float64)

    def total(values: Tensor) -> Tensor:
        return (eot.paste(images, values, mask=mask, placements=at) * weights).sum()

    torch.autograd.gradcheck(total, pixels)


def test_rounding_passes_the_gradient_straight_through() -> None:
    values = torch.tensor([0.2, 254.6, 300.0, -3.0], requires_grad=True)
    rounded = eot.to_bytes(values)
    rounded.sum().backward()
    assert rounded.tolist() == [0.0, 255.0, 255.0, 0.0]
    assert values.grad is not None
    assert values.grad.tolist() == [1.0] * 4


def test_a_round_patch_is_pasted_round(victim: nn.Module) -> None:
    patch = made(victim, Gap, shape="circle", steps=2)
    assert patch.mask.tolist() == [
        [False, True, True, True, False],
        [True] * 5, [True] * 5, [True] * 5,
        [False, True, True, True, False],
    ]  # fmt: skip


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "hinge"])
@pytest.mark.parametrize("ascent", ["sign", "adam"])
def test_every_loss_and_ascent_beats_where_it_started(
    victim: nn.Module, loss: str, ascent: str
) -> None:
    start = made(victim, Gap, steps=1, learning_rate=1e-6, patch_px=(7, 7))
    rate = 0.1 if ascent == "sign" else 0.05
    found = made(
        victim, Gap, steps=60, learning_rate=rate, patch_px=(7, 7), loss=loss, ascent=ascent
    )
    assert success(victim, found, "random") > success(victim, start, "random") + 0.1


@pytest.mark.parametrize("name", sorted(registry.TABLES["attack"]))
def test_every_registered_attack_fits_its_role(name: str) -> None:
    maker = registry.resolve("attack", name)
    if name == "controls":
        assert maker is controls.controls
        return
    attack: Attack = maker(patch_px=(4, 4), target=1, placement="plain")  # type: ignore[operator]
    assert attack.name == name
    assert attack.target == 1
    assert attack.placement == "plain"
    assert attack.tier.startswith("T")
    assert {"patch_px", "target", "placement"} <= set(attack.parameters)
