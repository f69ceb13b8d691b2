"""Both halves of a batch count the same; what is told of them; how a narrow width is taught."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

import nets
from qadtr_edge.attacks.victim import state_digest
from qadtr_edge.defences.distill import DistillOptions, taught
from qadtr_edge.defences.mixed import mixed_loss, told_accuracy

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
LABELS = torch.tensor([0, 0, 0, 1])


@pytest.mark.parametrize("patched", [1, 2, 3])
def test_both_parts_count_half_whatever_their_sizes(patched: int) -> None:
    each = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    wanted = 0.5 * each[:-patched].mean() + 0.5 * each[-patched:].mean()
    assert torch.allclose(mixed_loss(LOGITS, LABELS, patched=patched), wanted)


@pytest.mark.parametrize("patched", [0, 4])
def test_one_part_alone_is_its_mean(patched: int) -> None:
    wanted = functional.cross_entropy(LOGITS, LABELS)
    assert torch.equal(mixed_loss(LOGITS, LABELS, patched=patched), wanted)


def test_accuracy_is_told_of_each_part_by_its_width() -> None:
    assert told_accuracy(LOGITS, LABELS, patched=2, bits=8) == {"clean_w8": 0.5, "patched_w8": 0.5}
    assert told_accuracy(LOGITS, LABELS, patched=1, bits=32) == {
        "clean_w32": pytest.approx(2 / 3),
        "patched_w32": 0.0,
    }
    assert told_accuracy(LOGITS, LABELS, patched=0, bits=2) == {"clean_w2": 0.5}
    assert told_accuracy(LOGITS, LABELS, patched=4, bits=2, kind="perturbed") == {
        "perturbed_w2": 0.5
    }


def test_a_narrow_width_is_taught_by_the_next_wider_one() -> None:
    net = nets.ready(nets.small_resnet(), widths=(32, 8, 4, 2)).train()
    images = nets.pixels(6).float()
    options = DistillOptions(weight=2.0, below=4)
    with torch.no_grad():
        teacher = net.eval().select(8)(images)
        student = net.select(4)(images)
    before = state_digest(net)
    logits = student.clone().requires_grad_(True)
    loss = taught(net.train().select(4), options, shown=images, bits=4, logits=logits)
    assert net.training
    assert net.bits == 4
    assert state_digest(net) == before  # the teacher's batch norm did not move
    shares = teacher.softmax(dim=1)
    wanted = 2.0 * -(shares * student.log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.allclose(loss, wanted, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(gradient, 2.0 * (student.softmax(dim=1) - shares) / 6, atol=1e-5)


@pytest.mark.parametrize(("bits", "weight"), [(8, 1.0), (32, 1.0), (4, 0.0)])
def test_nothing_is_taught_where_nothing_is_to_be(bits: int, weight: float) -> None:
    net = nets.ready(nets.small_resnet(), widths=(32, 8, 4))
    logits = torch.zeros(2, 6)
    options = DistillOptions(weight=weight, below=4)
    assert taught(net, options, shown=nets.pixels(2).float(), bits=bits, logits=logits) == 0


def test_the_widest_width_has_no_teacher() -> None:
    net = nets.ready(nets.small_resnet(), widths=(4, 2))
    options = DistillOptions(weight=1.0, below=8)
    images, logits = nets.pixels(2).float(), torch.zeros(2, 6)
    assert taught(net, options, shown=images, bits=4, logits=logits) == 0
    assert taught(net, options, shown=images, bits=2, logits=logits) > 0
