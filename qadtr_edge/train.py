"""Training, top to bottom: float start, calibration, then quantization-aware steps.

One network, several widths; the defence decides which of them a step runs at and what it is shown.
The widths share weights; batch norm and scales are each width's own. SGD with momentum, one warm-up
and a cosine to zero; weight decay on weights only. Every random draw is a function of (seed, step):
so it goes on where it was interrupted (``train_state.py``), and several processes draw alike
(``train_group.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from . import console, streams
from .data.dataset import Dataset
from .defences.defence import Batch, Defence, Step
from .defences.plain import accuracy
from .models.calibrate import calibrate, reestimate_norms
from .models.quantnet import QuantNet
from .train_checks import check_gradients, check_weights, rehearse
from .train_feed import Feed
from .train_group import current
from .train_identity import identity
from .train_log import Journal
from .train_phases import Phase, phases_of
from .train_state import Course, Spent, StateFile, give_momentum
from .train_widths import Watched
from .types import FLOAT_BITS, Json

SHOWN_IMAGES, SHOWN_BYTES = 4000, 64 << 20
"""How many of the last images batch norm is re-estimated on, as the network was shown them."""

SAVE_EVERY_S = 300.0
"""The state is written after each epoch, and this often within a longer one."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train. ``lr`` is the peak rate; ``float_epochs`` precede calibration at width 32.

    ``later_lr``: the peak rate of the epochs after ``float_epochs``; ``None``: a fifth of ``lr``.
    ``batch``: images of a step, over all processes together. ``attack_precision``: of the passes
    that make patches; what the network is shown and learns from is float32 in any case.
    """

    epochs: float = 10
    float_epochs: float = 0
    batch: int = 128
    lr: float = 0.1
    later_lr: float | None = None
    weight_decay: float = 5e-4
    momentum: float = 0.9
    crop_px: int = 4
    attack_precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0


class Trained(NamedTuple):
    """``spent``: what each phase took; ``widths``: those that steps trained, widest first."""

    spent: tuple[Spent, ...]
    widths: tuple[int, ...]


def train(
    net: QuantNet,
    data: Dataset,
    *,
    calibration: Dataset,
    defence: Defence,
    options: TrainOptions,
    log: Path,
    state: Path | None = None,
    command: Mapping[str, Json] | None = None,
    tensorboard: Path | None = None,
) -> Trained:
    """Train ``net`` in place on ``data`` (the ``train`` split); one line an epoch goes to ``log``.

    With ``float_epochs`` the float network is trained first (a fresh network needs it), then every
    width is calibrated on ``calibration`` and trained together. Width 32 alone is trained by the
    defence as it is. Deterministic given options, data and thread count; on the CPU to the last
    bit.

    ``state``: a file it writes, and goes on from when it is there; it stays until the caller has
    saved the network. ``command`` is kept in it. ``tensorboard``: a folder for event files.

    Raises ``BadInput`` when the loss, a gradient or a weight stops being a number (the state is
    then one from before), and when the state is of another training.
    """
    group = current(next(net.parameters()).device)
    feed = Feed(data, batch=options.batch, crop_px=options.crop_px, seed=options.seed, group=group)
    held, held_labels = _tensors(calibration, group.device)
    watched = Watched(defence)
    phases = phases_of(net, watched, options=options, per_epoch=feed.per_epoch)
    same = identity(net, data, calibration=calibration, defence=defence, options=options)
    keeper = StateFile(state, identity=same, command=command or {}, group=group)
    _to_channels_last(net)
    net.attack_precision = options.attack_precision
    for kind in dict.fromkeys(phase.kind for phase in phases[1:] if phase.steps):
        rehearse(net, defence, images=feed.images, labels=feed.labels, kind=kind)
    saved = keeper.restore(net, watched)
    course, shown = saved.course, [] if saved.shown is None else [saved.shown]
    if course.steps and group.is_first:
        console.say(f"Going on where it was interrupted, after {course.steps} steps")
    journal = Journal(
        log, lines=course.lines, told=course.told, step=course.steps, tensorboard=tensorboard,
        is_silent=not group.is_first,
    )  # fmt: skip
    with closing(journal), group.shared_norms(net), _counting(net) as passes:
        for number, phase in enumerate(phases):
            if number < course.phase:
                continue
            course = course.entered(number, phase.label)
            if phase.kind == "quantized" and net.plans and not course.step:
                _start_widths(net, held)
            group.follow_first(list(net.state_dict().values()))
            optimiser = _optimiser(net, options, lr=phase.lr)
            if course.step:
                give_momentum(net, optimiser, momentum=saved.momentum)
            to_come = sum(each.steps for each in phases[number:])
            begun_s = time.monotonic()
            with journal.bar(_title(phase, course, defence), phase.steps - course.step) as advance:
                for step in range(course.step, phase.steps):
                    batch = feed.batch(phase.label, step, steps=phase.steps, kind=phase.kind)
                    passes.clear()
                    made = _update(net, optimiser, batch, phase=phase, seed=options.seed)
                    if to_come - step <= _shown_batches(feed):
                        shown.append(group.rows_of_all(made.shown.to(torch.uint8)))
                    begun_s, took_s = time.monotonic(), time.monotonic() - begun_s
                    course = course.further(
                        images=feed.size, passes=sum(passes) * group.size, seconds=took_s
                    )
                    journal.hear(made.told, images=feed.size, seconds=took_s)
                    advance()
                    ends_epoch = (step + 1) % feed.per_epoch == 0 or step + 1 == phase.steps
                    if ends_epoch and group.is_first:
                        found = _by_width(net, held, labels=held_labels, kind=phase.kind)
                        journal.write(_line(course, phase, accuracy=found), step=course.steps)
                    if ends_epoch or keeper.is_due(SAVE_EVERY_S):
                        check_weights(net, step=step)
                        course = replace(course, lines=journal.lines, told=journal.told)
                        keeper.write(net, optimiser, defence=watched, course=course, shown=shown)
                        begun_s = time.monotonic()  # measuring and saving are no step's time
    seen = torch.cat(shown) if shown else feed.images[:SHOWN_IMAGES]
    # shared weights moved under width 32 as well, unless no step was made
    reestimate_norms(net, seen, widths=net.widths if course.steps else tuple(net.plans))
    group.follow_first(list(net.state_dict().values()))
    net.eval()
    widths = watched.widths | ({FLOAT_BITS} if phases[0].steps else set())
    return Trained(course.spent, tuple(sorted(widths, reverse=True)))


def _update(
    net: QuantNet, optimiser: torch.optim.Optimizer, batch: Batch, *, phase: Phase, seed: int
) -> Step:
    """One step: the defence's loss, its gradient averaged over the processes, the update.

    ``told`` of what it returns holds the loss too, which is that of all processes.
    """
    group = current(batch.images.device)
    for each in optimiser.param_groups:
        each["lr"] = phase.rate(batch.step)
    _seed(seed, "step", phase.label, batch.step, *([group.rank] if group.rank else []))
    made = phase.defence.step(net, batch)
    optimiser.zero_grad(set_to_none=True)
    made.loss.backward()
    loss = group.average_gradients(net, made.loss)
    check_gradients(net, loss, step=batch.step)
    _seed(seed, "perturb", phase.label, batch.step)  # alike in every process
    phase.defence.perturb(net, batch)
    optimiser.step()
    group.align(net, phase.defence)
    return made._replace(told={"loss": loss.item(), **made.told})


def evaluate(net: QuantNet, data: Dataset) -> dict[int, float]:
    """Simulated accuracy on ``data`` at every width of ``net``, 0 to 1."""
    images, labels = _tensors(data, next(net.parameters()).device)
    selected = net.bits
    found = {bits: accuracy(net.select(bits), images, labels=labels) for bits in net.widths}
    net.select(selected)
    return found


@contextmanager
def _counting(net: QuantNet) -> Iterator[list[int]]:
    """The number of images of each pass through the network, as they are made."""
    counts: list[int] = []
    assert net.pixel_input is not None
    handle = net.pixel_input.register_forward_pre_hook(
        lambda _, inputs: counts.append(len(inputs[0]))
    )
    try:
        yield counts
    finally:
        handle.remove()


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


def _seed(seed: int, *names: str | int) -> None:
    torch.manual_seed(streams.key(seed, *names) >> 1)


def _shown_batches(feed: Feed) -> int:
    """How many of the last batches batch norm is re-estimated on."""
    image_bytes = feed.images[0].numel()
    return max(1, min(SHOWN_IMAGES, SHOWN_BYTES // image_bytes) // feed.size)


def _title(phase: Phase, course: Course, defence: Defence) -> str:
    after = f", from step {course.step}" if course.step else ""
    return f"train {defence.name} ({phase.label}, peak rate {phase.lr:g}{after})"


def _line(course: Course, phase: Phase, *, accuracy: dict[str, Json]) -> dict[str, Json]:
    """An epoch's line of the log; the journal adds speed and means."""
    spent = course.spent[-1]
    return {
        "phase": phase.label, "peak_lr": phase.lr, "step": course.step, "images": spent.images,
        "passes": spent.passes,
        "seconds": round(spent.seconds, 1), "calibration_accuracy": accuracy,
    }  # fmt: skip


def _by_width(net: QuantNet, images: Tensor, *, labels: Tensor, kind: str) -> dict[str, Json]:
    widths = (FLOAT_BITS,) if kind == "float" else net.widths
    return {
        str(bits): round(accuracy(net.select(bits), images, labels=labels), 4) for bits in widths
    }


def _tensors(data: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images and labels, on ``device``."""
    return torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device)
