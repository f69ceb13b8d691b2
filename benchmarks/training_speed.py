"""Claim: a step of QADT-R takes at most 5 times a plain quantization-aware step, at most 7 times
with GIR-A and at most 2.5 times in its cheap setting; and plain 8-bit training shows at least 1.5
times as many images per second as Brevitas on the same network.

ResNet-20 on 32-pixel images, no augmentation, one optimiser for all. Every subject has a network of
its own and trains it for real. A window is one step at each of the widths 32, 8, 4 and 2, in a
shuffled cycle (also for recipes that draw widths at random, so that all windows hold the same
widths); its yardstick is `plain-cycle`, which does the same without an attack. Windows of all
subjects are interleaved, ratios are taken round by round, and medians of them are printed.

Brevitas (per-channel 8-bit weights, per-tensor 8-bit activations, batch norm) is compared when it
can be imported; install it where torch is not touched and point PYTHONPATH there:

    pip install --no-deps --target FOLDER brevitas dependencies==2.0.1 unfoldNd
    PYTHONPATH=FOLDER python benchmarks/training_speed.py

Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import records
import torch
from torch import Tensor, nn
from torch.nn import functional

from qadtr_edge import console, data
from qadtr_edge.defences.defence import Batch
from qadtr_edge.defences.recipes import build
from qadtr_edge.models import checkpoint
from qadtr_edge.models.calibrate import calibrate
from qadtr_edge.models.prepare import prepare
from qadtr_edge.types import QuantSpec

WIDTHS = (32, 8, 4, 2)
PLAIN, PLAIN_8, BREVITAS = "plain-cycle", "plain, 8 bits", "Brevitas, 8 bits"
CHEAP = ("a_qapa.places=4", "a_qapa.bits=current", "gir.variant=off")
SUBJECTS: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    PLAIN: ("plain-cycle", (), WIDTHS),
    PLAIN_8: ("plain", (), (8,)),
    "plain, 4 bits": ("plain", (), (4,)),
    "plain, 2 bits": ("plain", (), (2,)),
    "qadtr without GIR": ("qadtr", ("gir.variant=off",), WIDTHS),
    "qadtr with GIR-A": ("qadtr", ("gir.variant=A",), WIDTHS),
    "qadtr, cheap": ("qadtr", CHEAP, WIDTHS),
    "pbat, 25 steps": ("pbat", ("attack.steps=25",), WIDTHS),
    "dwq-pixel": ("dwq-pixel", ("dbwt.order=cycle",), WIDTHS),
    "dwq-patch": ("dwq-patch", ("dbwt.order=cycle",), WIDTHS),
}
MOST = {"qadtr without GIR": 5.0, "qadtr with GIR-A": 7.0, "qadtr, cheap": 2.5}
LEAST_BREVITAS = 1.5
HOLDS, FAILED = "holds", "DOES NOT HOLD"

Step = Callable[[int], None]


@dataclass(frozen=True)
class Row:
    """``ratio``: median time of a window over that of ``against`` in the same round."""

    subject: str
    images_per_s: float
    against: str
    ratio: float
    verdict: str
    seconds: list[float]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    images, labels = batch_of(options.batch)
    subjects: dict[str, Step] = {
        name: ours(recipe, settings, widths, images, labels)
        for name, (recipe, settings, widths) in SUBJECTS.items()
        if not options.only or name in {PLAIN, PLAIN_8, *options.only}
    }
    versions: dict[str, object] = {"torch": torch.__version__, "brevitas": None}
    if not options.only or BREVITAS in options.only:
        try:
            import brevitas

            subjects[BREVITAS] = theirs(images, labels)
            versions["brevitas"] = brevitas.__version__
        except ImportError as error:
            console.say(f"Brevitas: not run ({error}).")
    taken = _measured(subjects, rounds=options.rounds)
    rows = _rows(taken, batch=options.batch)
    path = records.append(
        "training_speed", options={**vars(options), **versions}, rows=[vars(row) for row in rows]
    )
    print(_table(rows))
    console.say(f"Samples: {path}")
    sys.exit(0 if all(row.verdict != FAILED for row in rows) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="beside the yardsticks")
    return parser.parse_args()


def batch_of(size: int) -> tuple[Tensor, Tensor]:
    """Real images of 32 pixels, ``(size, 3, 32, 32) uint8`` channels last, and their labels."""
    held = data.load("signs", "train", limit=size)
    images = torch.from_numpy(held.images).contiguous(memory_format=torch.channels_last)
    return images, torch.from_numpy(held.labels)


def ours(
    recipe: str, settings: tuple[str, ...], widths: tuple[int, ...], images: Tensor, labels: Tensor
) -> Step:
    """A training step of a recipe on a calibrated ResNet-20 of its own."""
    torch.manual_seed(0)
    module = checkpoint.build_model("resnet20", classes=43)
    module.train()(images)  # batch-norm statistics of these images
    net = prepare(module, QuantSpec(), widths=widths, classes=43, image_px=32)
    calibrate(net, images)
    _to_channels_last(net)
    defence, _ = build(recipe, settings=settings)
    descent = _optimiser(net)

    def step(number: int) -> None:
        batch = Batch(images, labels, 1000 + number, 4000, epoch=5)  # past the ramp of GIR
        torch.manual_seed(number)
        loss = defence.step(net, batch).loss
        descent.zero_grad(set_to_none=True)
        loss.backward()
        defence.perturb(net, batch)
        descent.step()

    return step


def theirs(images: Tensor, labels: Tensor) -> Step:
    """A step of plain 8-bit training of the same network in Brevitas."""
    net = _brevitas_resnet20()
    _to_channels_last(net)
    descent = _optimiser(net)
    inputs = (images.float() - 128.0) / 64.0

    def step(number: int) -> None:
        loss = functional.cross_entropy(net.train()(inputs), labels)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()

    return step


def _brevitas_resnet20() -> nn.Module:
    """Option A shortcuts, an 8-bit tensor wherever ours has one, sums on one scale."""
    import brevitas.nn as qnn
    from brevitas.quant import (
        Int8ActPerTensorFloat,
        Int8WeightPerChannelFloat,
        Uint8ActPerTensorFloat,
    )

    class Signed(Int8ActPerTensorFloat):
        collect_stats_steps = 1  # then the scale is learned; collecting takes longer

    class Unsigned(Uint8ActPerTensorFloat):
        collect_stats_steps = 1

    def conv(inside: int, outside: int, stride: int) -> nn.Module:
        return qnn.QuantConv2d(
            inside, outside, 3, stride=stride, padding=1, bias=False,
            weight_quant=Int8WeightPerChannelFloat,
        )  # fmt: skip

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(inside, outside, stride), nn.BatchNorm2d(outside)
            self.conv2, self.bn2 = conv(outside, outside, 1), nn.BatchNorm2d(outside)
            self.relu1 = qnn.QuantReLU(act_quant=Unsigned)
            self.branch = qnn.QuantIdentity(act_quant=Signed)
            self.relu2 = qnn.QuantReLU(act_quant=Unsigned)
            self.stride, self.pad = stride, (outside - inside) // 2

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu1(self.bn1(self.conv1(x)))
            y = self.branch(self.bn2(self.conv2(y)))
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.pad, self.pad)) if self.pad else x
            return self.relu2(x + y)

    shapes = (
        [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    )
    torch.manual_seed(0)
    return nn.Sequential(
        conv(3, 16, 1), nn.BatchNorm2d(16), qnn.QuantReLU(act_quant=Unsigned),
        *(Block(*shape) for shape in shapes),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), qnn.QuantIdentity(act_quant=Unsigned),
        qnn.QuantLinear(64, 43, bias=True, weight_quant=Int8WeightPerChannelFloat),
    )  # fmt: skip


def _to_channels_last(net: nn.Module) -> None:
    """The layout in which convolutions train faster on CPUs, for both."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _optimiser(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)


def _measured(subjects: dict[str, Step], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each subject's windows; the first round warms up and is dropped."""
    names = list(subjects)
    taken: dict[str, list[float]] = {name: [] for name in names}
    with console.Progress("Training", (rounds + 1) * len(names), unit="windows") as progress:
        for number in range(-1, rounds):
            for offset in range(len(names)):
                name = names[(number + offset) % len(names)]
                first = len(WIDTHS) * (number + 1)
                begun = time.perf_counter()
                for step in range(first, first + len(WIDTHS)):
                    subjects[name](step)
                if number >= 0:
                    taken[name].append(time.perf_counter() - begun)
                progress.advance(note=name)
    return taken


def _rows(taken: dict[str, list[float]], *, batch: int) -> list[Row]:
    found = []
    for name, seconds in taken.items():
        against = PLAIN_8 if name == BREVITAS or name.startswith("plain, ") else PLAIN
        ratio = float(np.median(np.array(seconds) / np.array(taken[against])))
        verdict = "-"
        if name in MOST:
            verdict = HOLDS if ratio <= MOST[name] else FAILED
        elif name == BREVITAS:
            verdict = HOLDS if ratio >= LEAST_BREVITAS else FAILED
        rate = len(WIDTHS) * batch / float(np.median(seconds))
        found.append(Row(name, rate, against, ratio, verdict, [round(s, 4) for s in seconds]))
    return found


def _table(rows: list[Row]) -> str:
    columns = ["training", "images/s", "time", "against", "bar", "claim"]
    bars = {**{name: f"at most {most}" for name, most in MOST.items()},
            BREVITAS: f"at least {LEAST_BREVITAS}"}  # fmt: skip
    return records.table(
        columns,
        [
            [
                row.subject,
                f"{row.images_per_s:.0f}",
                f"{row.ratio:.2f}x",
                row.against,
                bars.get(row.subject, "-"),
                row.verdict,
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
