"""Shapes of patches: what ``--patch-size`` says, and attacks that paste nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qadtr_edge import metrics, registry
from qadtr_edge.attacks import upright
from qadtr_edge.attacks.adaptive import Adaptive
from qadtr_edge.attacks.differential import Both, Differential
from qadtr_edge.attacks.dpr import Dpr
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.label_search import LabelSearch, _Board
from qadtr_edge.attacks.lavan import Lavan
from qadtr_edge.attacks.loap import Loap
from qadtr_edge.attacks.mpa import Mpa
from qadtr_edge.attacks.patch_rs import PatchRs
from qadtr_edge.attacks.patch_rs_universal import PatchRsUniversal
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.cli import attack_names, patch_form
from qadtr_edge.errors import BadInput
from qadtr_edge.patch import region
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.shape import mask_of
from qadtr_edge.types import PlacedPatches
from toy import Quadrants, pictures

HOLED = np.ones((5, 5), bool)
HOLED[1:3, 1:4] = HOLED[4, 0] = False
SHAPES = {"circle": ("circle", (5, 5)), "holed": (f"mask:{region.text_of(HOLED)}", (5, 5))}
CRAFT, TEST = pictures(120, split="craft"), pictures(24, split="test")


class Darkness(torch.nn.Module):
    """Names the brightest quadrant, with gradients: what ``Quadrants`` computes."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        half = pixels.shape[2] // 2
        return pixels.unflatten(3, (2, half)).unflatten(2, (2, half)).mean(dim=(1, 3, 5)).flatten(1)


def test_shapes_are_what_they_are_called() -> None:
    assert mask_of("rectangle", (2, 3)).all()
    assert mask_of("frame:2", (7, 6)).astype(int).tolist() == [
        [1] * 6, [1] * 6, *[[1, 1, 0, 0, 1, 1]] * 3, [1] * 6, [1] * 6,
    ]  # fmt: skip
    assert mask_of("circle", (4, 4)).astype(int).tolist() == [
        [0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0],
    ]  # fmt: skip
    assert np.array_equal(mask_of(*SHAPES["holed"]), HOLED)
    with pytest.raises(AssertionError, match="no shape"):
        mask_of("star", (3, 3))


def test_patch_size_says_the_form(tmp_path: Path) -> None:
    picture = tmp_path / "mask.png"
    Image.fromarray((HOLED * 255).astype(np.uint8)).save(picture)

    def read(text: str | None) -> tuple[object, ...]:
        found = patch_form.form(text, image_px=32)
        return found.patch_px, found.shape, found.covers

    assert read("8") == ((8, 8), "rectangle", False)
    assert read("4x12") == ((4, 12), "rectangle", False)
    assert read("circle:8") == ((8, 8), "circle", False)
    assert read("circle:4x6") == ((4, 6), "circle", False)
    assert read("frame:3") == ((32, 32), "frame:3", True)
    assert read(f"mask:{picture}") == ((5, 5), SHAPES["holed"][0], False)
    assert read(None) == ((6, 6), "rectangle", False)


@pytest.mark.parametrize(
    "text", ["circle:", "circle:0", "star:5", "frame:0", "frame:16", "frame:x", "mask:none.png"]
)
def test_what_is_no_form_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(BadInput) as error:
        patch_form.form(text, image_px=32)
    assert error.value.remedy


def test_what_cannot_hold_a_shape_is_named() -> None:
    every = {name for kind in attack_names.KINDS for name in registry.names(kind)}
    with pytest.raises(BadInput, match="dpr makes patches of its own"):
        patch_form.check(attack_names.named("dpr"), "circle:8", suite=None)
    able = attack_names.named(",".join(every - {"dpr"}))
    patch_form.check(able, "circle:8", suite=None)
    patch_form.check(attack_names.named("dpr"), "4x12", suite=None)
    with pytest.raises(BadInput, match="suite"):
        patch_form.check(able, "circle:8", suite="quick")


def test_a_given_patch_has_its_own_shape() -> None:
    given_ = Gap(shape="circle"), np.zeros((3, 5, 5), np.uint8)
    patch = PlacedPatches(TEST.ids, given_[1], HOLED, None, None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="has its own"):
        patch_form.form("circle:5", (patch,), image_px=16)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("attack", [Gap, Lavan])
def test_a_patch_for_all_images_is_pasted_in_its_shape(kind: str, attack: type[Gap]) -> None:
    shape, px = SHAPES[kind]
    made = attack(patch_px=px, shape=shape, steps=2, batch=16).craft(
        Darkness(), CRAFT, seed=0, told=lambda count, note: None
    )
    assert np.array_equal(made.mask, mask_of(shape, px))


@pytest.mark.parametrize("kind", [*SHAPES, "frame"])
@pytest.mark.parametrize("attack", [Pgd, Loap, Adaptive, Differential])
def test_an_ascent_on_single_images_counts_on_its_shape_alone(
    kind: str, attack: type[Pgd] | type[Loap] | type[Adaptive] | type[Differential]
) -> None:
    """What it kept was scored as it is pasted: the margin of the exact paste is the one ascended.

    On this victim the step is towards or away from black, so a pixel outside the mask that had
    counted would have been worth painting.
    """
    shape, px = {**SHAPES, "frame": ("frame:2", (16, 16))}[kind]
    victim = Both(Darkness(), Darkness()) if attack is Differential else Darkness()
    found = attack(patch_px=px, shape=shape, steps=4).search(
        victim, TEST, seed=0, told=lambda count, note: None
    ).best  # fmt: skip
    assert np.array_equal(found.mask, mask_of(shape, px))
    shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
    changed = (shown != TEST.images).any(axis=1).sum(axis=(1, 2))
    assert (changed <= found.mask.sum()).all()
    corners = np.stack([found.placements.top, found.placements.left], axis=1).astype(np.int64)
    soft = upright.paste(
        torch.from_numpy(TEST.images).float(), torch.from_numpy(found.pixels).float(),
        corners=torch.from_numpy(corners), mask=torch.from_numpy(found.mask),
    )  # fmt: skip
    assert np.array_equal(soft.numpy(), shown.astype(np.float32))


@given(seed=st.integers(0, 1000))
def test_no_gradient_reaches_what_is_not_pasted(seed: int) -> None:
    chance = np.random.default_rng(seed)
    mask = torch.from_numpy(chance.random((4, 4)) < 0.5)
    pixels = torch.rand(2, 3, 4, 4, requires_grad=True)
    corners = torch.from_numpy(chance.integers(0, 5, (2, 2)))
    upright.paste(torch.zeros(2, 3, 8, 8), pixels, corners=corners, mask=mask).sum().backward()
    assert pixels.grad is not None
    assert torch.equal(pixels.grad, mask.float().expand(2, 3, 4, 4))


@pytest.mark.parametrize("kind", [*SHAPES, "frame"])
@pytest.mark.parametrize("attack", [PatchRs, Mpa, LabelSearch])
def test_a_search_counts_on_its_shape_alone(kind: str, attack: type[PatchRs]) -> None:
    """What it called won is won by the exact paste, which changes nothing outside the mask."""
    shape, px = {**SHAPES, "frame": ("frame:5", (16, 16))}[kind]
    model = Quadrants()
    found = attack(patch_px=px, shape=shape, queries=60).search(
        model, TEST, clean=model(TEST.images), seed=0, batch=64, told=lambda count, note: None
    )
    assert np.array_equal(found.mask, mask_of(shape, px))
    shown = paste(TEST.images, found.pixels, mask=found.mask, placements=found.placements)
    won = metrics.predicted(model(shown)) != TEST.labels
    assert found.queries is not None
    assert won[found.queries < 60].all()
    assert (found.queries[~won] == 60).all()
    assert (found.queries < 60).any()


def seen_by(attack: PatchRs | Mpa | LabelSearch) -> list[np.ndarray]:
    """Which pixels ``(H, W)`` of grey images were not grey, query by query.

    The engine names another class wherever a pixel has the value 7, which no search makes by itself
    and the pool of a label search is full of.
    """
    shown: list[np.ndarray] = []

    def engine(images: np.ndarray) -> np.ndarray:
        shown.extend((images != 128).any(axis=1))
        return np.stack(
            [np.ones(len(images)), 2.0 * (images == 7).any(axis=(1, 2, 3)),
             images[:, 0].mean(axis=(1, 2)) / 1000],
            axis=1,
        ).astype(np.float32)  # fmt: skip

    grey = replace(
        TEST, images=np.full_like(TEST.images, 128), labels=np.zeros(len(TEST), np.int64)
    )
    clean = np.array([[1.0, 0.0, 0.1 * row] for row in range(len(TEST))], np.float32)
    attack.search(engine, grey, clean=clean, seed=0, batch=64, told=lambda count, note: None)
    return shown


def stretched(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return mask[np.arange(rows) * mask.shape[0] // rows][
        :, np.arange(columns) * mask.shape[1] // columns
    ]


def boxed(changed: np.ndarray) -> np.ndarray:
    """What of the rectangle around it is changed."""
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("attack", [PatchRs, Mpa])
def test_no_query_shows_more_than_the_shape(kind: str, attack: type[PatchRs]) -> None:
    shape, px = SHAPES[kind]
    shown = seen_by(attack(patch_px=px, shape=shape, queries=12))
    assert len(shown) == 12 * len(TEST)
    assert all(np.array_equal(boxed(changed), mask_of(shape, px)) for changed in shown)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_what_covers_an_image_keeps_its_shape_while_it_shrinks(kind: str) -> None:
    shape, px = SHAPES[kind]
    mask, queries = mask_of(shape, px), 120
    pool = np.full_like(TEST.images, 7)
    shown = [boxed(each) for each in seen_by(
        LabelSearch(patch_px=px, shape=shape, queries=queries, pool=pool)
    )]  # fmt: skip
    thrown, covered = shown[: 60 * len(TEST)], shown[60 * len(TEST) :]
    assert all(np.array_equal(each, mask) for each in thrown)
    assert all(np.array_equal(each, stretched(mask, *each.shape)) for each in covered)
    assert covered[0].shape == (16, 16)
    assert covered[-1].shape == px
    assert len({each.shape for each in covered}) > 10


@given(seed=st.integers(0, 1000))
def test_what_is_recoloured_is_seen(seed: int) -> None:
    chance = np.random.default_rng(seed)
    mask = chance.random((3, 4)) < 0.3
    mask[tuple(chance.integers(0, mask.shape))] = True
    board = _Board(TEST, mask=mask)
    corner = chance.integers(0, (14, 13), (len(TEST), 2))
    size = chance.integers(mask.shape, 17 - corner)
    box = np.concatenate([corner, corner + size], axis=1)
    squares = board._squares(box, chance.random((len(TEST), 2)))
    for covered, (row, column) in zip(board._covered(box), squares, strict=True):
        assert covered[row : row + 2, column : column + 2].any()
        assert covered[row : row + 2, column : column + 2].shape == (2, 2)


def test_made_for_all_images_a_search_holds_its_shape() -> None:
    for shape, px in SHAPES.values():
        made = PatchRsUniversal(patch_px=px, shape=shape, queries=20).craft(
            Quadrants(), CRAFT, seed=0, batch=64
        )
        assert np.array_equal(made.mask, mask_of(shape, px))


@pytest.mark.parametrize("attack", [PatchRs, PatchRsUniversal])
def test_a_search_by_squares_refuses_what_is_mostly_hole(attack: type[PatchRs]) -> None:
    with pytest.raises(BadInput, match="change nothing"):
        attack(patch_px=(16, 16), shape="frame:1")


def test_a_shape_is_part_of_the_key_and_the_rectangle_is_not() -> None:
    for attack in (Lavan, Pgd, Loap, Adaptive, PatchRs, PatchRsUniversal, Mpa, LabelSearch):
        assert "shape" not in attack().parameters
        assert attack(shape="circle").parameters["shape"] == "circle"
    assert Gap().parameters["shape"] == "rectangle"
    assert "shape" not in Dpr().parameters
