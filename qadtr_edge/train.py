"""Training, top to bottom: float start, calibration, then quantization-aware steps.

One network, several widths; the defence decides which of them a step runs at and what it is shown.
The widths share weights; batch norm and scales are each width's own. SGD with momentum, one warm-up
and a cosine to zero; weight decay on weights only. Every random draw is a function of (seed, step).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import streams
from .console import Progress
from .data.augment import augment
from .data.dataset import Dataset
from .defences.defence import Batch, Defence
from .defences.plain import FloatOnly, accuracy
from .errors import BadInput
from .files import explained
from .models.calibrate import calibrate, reestimate_norms
from .models.quantnet import QuantNet
from .types import FLOAT_BITS

SHOWN_IMAGES = 4000
"""How many of the last images batch norm is re-estimated on, as the network was shown them."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train. ``lr`` is the peak rate; ``float_epochs`` precede calibration at width 32."""

    epochs: float = 10
    float_epochs: float = 0
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    crop_px: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of training with one cosine: ``float`` before the widths exist, or ``quantized``.

    ``label`` names it in the log and in the random streams.
    """

    label: str
    kind: str
    epochs: float
    lr: float
    defence: Defence


def train(
    net: QuantNet,
    data: Dataset,
    *,
    calibration: Dataset,
    defence: Defence,
    options: TrainOptions,
    log: Path,
) -> None:
    """Train ``net`` in place on ``data`` (the ``train`` split); one line an epoch goes to ``log``.

    With ``float_epochs`` the float network is trained first (a fresh network needs it), then every
    width is calibrated on ``calibration`` and trained together. Deterministic given options, data
    and thread count. Raises ``BadInput`` when the loss stops being a number.
    """
    _to_channels_last(net)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    held = torch.from_numpy(calibration.images)
    held_labels = torch.from_numpy(calibration.labels)
    size = min(options.batch, len(labels))
    per_epoch = len(labels) // size
    shown: deque[Tensor] = deque(maxlen=max(1, SHOWN_IMAGES // size))
    with explained(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
    is_started = False
    for phase in _phases(net, defence, options):
        if phase.kind == "quantized" and net.plans and not is_started:
            _start_widths(net, held)
            is_started = True
        if not phase.epochs:
            continue
        steps = max(1, round(phase.epochs * per_epoch))
        optimiser = _optimiser(net, options, lr=phase.lr)
        begun_s, seen = time.monotonic(), 0
        running: dict[str, list[float]] = defaultdict(list)
        with Progress(f"train {defence.name} ({phase.label})", steps, unit="steps") as progress:
            for step, (x, y) in enumerate(_batches(images, labels, data, options, phase.label)):
                if step == steps:
                    break
                batch = Batch(x, y, step, steps, epoch=step // per_epoch, kind=phase.kind)
                torch.manual_seed(streams.key(options.seed, "step", phase.label, step) >> 1)
                for group in optimiser.param_groups:
                    group["lr"] = _rate(step, steps, peak=phase.lr)
                made = phase.defence.step(net, batch)
                _check(made.loss, step=step, bits=net.bits)
                optimiser.zero_grad(set_to_none=True)
                made.loss.backward()
                phase.defence.perturb(net, batch)
                optimiser.step()
                seen += len(y)
                shown.append(made.shown.to(torch.uint8))
                for name, value in {"loss": made.loss.item(), **made.told}.items():
                    running[name].append(value)
                progress.advance(note=f"loss {made.loss.item():.3f}")
                if (step + 1) % per_epoch == 0 or step + 1 == steps:
                    line: dict[str, object] = {"phase": phase.label, "step": step + 1}
                    line |= {"images": seen, "seconds": round(time.monotonic() - begun_s, 1)}
                    line |= {name: _mean(values) for name, values in running.items()}
                    line["calibration_accuracy"] = _by_width(net, held, held_labels, phase.kind)
                    _append(log, line)
                    running.clear()
    if net.plans:
        reestimate_norms(net, torch.cat(list(shown)) if shown else images[:SHOWN_IMAGES])
    net.eval()


def evaluate(net: QuantNet, data: Dataset) -> dict[int, float]:
    """Simulated accuracy on ``data`` at every width of ``net``, 0 to 1."""
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    selected = net.bits
    found = {bits: accuracy(net.select(bits), images, labels=labels) for bits in net.widths}
    net.select(selected)
    return found


def _phases(net: QuantNet, defence: Defence, options: TrainOptions) -> tuple[Phase, ...]:
    """Plain float epochs, the float part of the defence where it has one, the quantized rest.

    The quantized rate is a fifth of the float one when float epochs came first. Strict scales train
    with batch norm folded and frozen, where nothing renormalises a step that is too long: ResNet-20
    diverges at 0.02 and trains at 0.003, so a tenth of the others' rate.
    """
    lr = options.lr / 5 if options.float_epochs else options.lr
    quantized_lr = lr / 10 if net.spec.scales == "strict" else lr
    share = defence.float_share
    return (
        Phase("float", "float", options.float_epochs, options.lr, FloatOnly()),
        Phase("defended float", "float", share * options.epochs, lr, defence),
        Phase("quantized", "quantized", (1 - share) * options.epochs, quantized_lr, defence),
    )


def _to_channels_last(net: QuantNet) -> None:
    """The memory layout in which convolutions train a quarter faster on CPUs."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _start_widths(net: QuantNet, held: Tensor) -> None:
    """Give every width the float batch norm, then scales from the calibration images."""
    for layer in net.layers.values():
        norms = layer.norms
        assert isinstance(norms, nn.ModuleDict)
        if f"w{FLOAT_BITS}" in norms:
            state = norms[f"w{FLOAT_BITS}"].state_dict()
            for norm in norms.values():
                norm.load_state_dict(state)
    calibrate(net, held)


def _optimiser(net: QuantNet, options: TrainOptions, *, lr: float) -> torch.optim.Optimizer:
    decayed = [p for name, p in net.named_parameters() if name.endswith("weight") and p.dim() > 1]
    chosen = {id(p) for p in decayed}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": rest},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=options.momentum, nesterov=True)


def _rate(step: int, steps: int, *, peak: float) -> float:
    """Linear warm-up over the first 5 %, then a cosine to zero."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batches(
    images: Tensor, labels: Tensor, data: Dataset, options: TrainOptions, phase: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, augmented batches, epoch after epoch, without end; from named streams."""
    epoch = 0
    size = min(options.batch, len(labels))
    while True:
        order = streams.generator(options.seed, "order", phase, epoch).permutation(len(labels))
        crops = torch.Generator().manual_seed(streams.key(options.seed, "crop", phase, epoch) >> 1)
        for start in range(0, len(order) - size + 1, size):
            rows = torch.from_numpy(order[start : start + size])
            batch = augment(images[rows], crops, flip=data.flip_allowed, crop_px=options.crop_px)
            yield batch.contiguous(memory_format=torch.channels_last), labels[rows]
        epoch += 1


def _check(loss: Tensor, *, step: int, bits: int) -> None:
    if not torch.isfinite(loss):
        raise BadInput(
            f"The loss stopped being a number at step {step} (width {bits}).",
            "Lower --lr, or start from a trained float model with --init.",
        )


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 5)


def _by_width(net: QuantNet, images: Tensor, labels: Tensor, kind: str) -> dict[str, float]:
    widths = [FLOAT_BITS] if kind == "float" else net.widths
    return {
        str(bits): round(accuracy(net.select(bits), images, labels=labels), 4) for bits in widths
    }


def _append(log: Path, line: dict[str, object]) -> None:
    with explained(log), log.open("a") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
