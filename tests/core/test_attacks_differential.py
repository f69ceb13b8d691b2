"""Differential patches: they part two networks that agree, and stay where only both would fall."""
# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from qadtr_edge import metrics, results
from qadtr_edge.attacks.differential import Both, Differential
from qadtr_edge.attacks.pgd import Pgd
from qadtr_edge.attacks.victim import logits_of
from qadtr_edge.patch.paste import paste
from qadtr_edge.results import Answers, Outcomes
from qadtr_edge.types import PlacedPatches
from toy import pictures, reordered

TEST = pictures(48, split="test")
SMALL = {"patch_px": (5, 5), "steps": 12, "restarts": 2}


class Bright(nn.Module):
    """Compares the brightness of the quadrants; ``red`` of the red channel counts twice or so."""

    def __init__(self, red: float = 1.0) -> None:
        super().__init__()
        weight = torch.tensor([red, 1.0, 1.0])
        self.register_buffer("weight", weight / weight.sum())

    def forward(self, pixels: Tensor) -> Tensor:
        half = pixels.shape[2] // 2
        blocks = pixels.reshape(len(pixels), 3, 2, half, 2, half).mean(dim=(3, 5))
        return (blocks * self.weight[:, None, None]).sum(dim=1).reshape(-1, 4) / 4.0


ENGINE, SERVER = Bright(red=3.0), Bright()


def found(attack: Differential | Pgd, victim: nn.Module, *, data: object = TEST) -> PlacedPatches:
    return attack.search(victim, data, seed=0, told=lambda count, note: None).best  # type: ignore[arg-type]


def parted(patches: PlacedPatches) -> np.ndarray:
    """Images the first network loses and the second keeps, of those that both get right."""
    shown = paste(TEST.images, patches.pixels, mask=patches.mask, placements=patches.placements)
    right = [metrics.predicted(logits_of(one, TEST.images)) == TEST.labels
             for one in (ENGINE, SERVER)]  # fmt: skip
    lost, kept = (metrics.predicted(logits_of(one, shown)) for one in (ENGINE, SERVER))
    wanted = TEST.labels if patches.target is None else np.full(len(lost), patches.target)
    won = lost != wanted if patches.target is None else lost == wanted
    return right[0] & right[1] & won & (kept == TEST.labels)


@pytest.mark.parametrize("target", [None, 2])
def test_it_parts_networks_where_an_ordinary_patch_takes_both(target: int | None) -> None:
    own = parted(found(Differential(target=target, **SMALL), Both(ENGINE, SERVER)))
    ordinary = parted(found(Pgd(target=target, **SMALL), ENGINE))
    assert own.mean() > ordinary.mean() + 0.3


def test_two_networks_that_are_one_cannot_be_parted() -> None:
    patches = found(Differential(**SMALL), Both(SERVER, SERVER))
    shown = paste(TEST.images, patches.pixels, mask=patches.mask, placements=patches.placements)
    labels = metrics.predicted(logits_of(SERVER, shown))
    lead = metrics.margins(logits_of(SERVER, shown), TEST.labels)
    assert ((labels != TEST.labels) == (lead > 0)).all()
    assert np.median(np.abs(lead)) < 1.0  # it ends where the two would part, at the boundary


def test_without_the_hinge_it_is_an_ordinary_patch() -> None:
    with_it, without = (
        parted(found(Differential(weight=weight, **SMALL), Both(ENGINE, SERVER))).mean()
        for weight in (1.0, 0.0)
    )
    assert with_it > without + 0.1


def test_what_is_kept_scores_above_0_exactly_where_it_parts_them() -> None:
    """Ties included: the lowest index among the maxima is the label."""
    score = Differential().score(torch.tensor([1, 1, 0, 0, 1]))
    lost_kept = [[2.0, 2.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0],
                 [1.0, 2.0, 2.0, 2.0], [2.0, 1.0, 2.0, 1.0]]  # fmt: skip
    given = score(torch.tensor(lost_kept))
    pairs = [(row[:2], row[2:]) for row in lost_kept]
    labels = [1, 1, 0, 0, 1]
    expected = [
        int(np.argmax(lost)) != label and int(np.argmax(kept)) == label
        for (lost, kept), label in zip(pairs, labels, strict=True)
    ]
    assert (given > 0).tolist() == expected
    assert any(expected)


def test_no_image_sways_another() -> None:
    whole = found(Differential(**SMALL), Both(ENGINE, SERVER))
    order = np.arange(len(TEST))[::-3]
    part = found(Differential(**SMALL), Both(ENGINE, SERVER), data=reordered(TEST, order))
    assert np.array_equal(part.pixels, whole.pixels[order])


def test_it_is_counted_on_images_both_get_right() -> None:
    def said(*labels: int) -> Answers:
        return Answers(np.array(labels), np.zeros(len(labels), np.float32))

    truth = np.zeros(6, np.int64)
    outcomes = Outcomes(
        ids=np.arange(6), truth=truth, clean=said(0, 0, 0, 0, 0, 1), patched=said(1, 1, 0, 1, 1, 1),
        float_clean=said(0, 0, 0, 1, 0, 0), float_patched=said(0, 1, 0, 0, 0, 0),
    )  # fmt: skip
    counts = results.count(outcomes, target=None)
    assert (counts.eligible, counts.fooled) == (5, 4)
    assert (counts.differential_eligible, counts.differential_fooled) == (4, 2)
    assert counts.sim_fooled is None
