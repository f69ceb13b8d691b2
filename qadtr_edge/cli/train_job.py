"""The work behind ``train``: load, train, measure, keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import console
from ..runs import Run, record
from ..types import FLOAT_BITS, Json
from .train_command import Command

if TYPE_CHECKING:
    from ..data import Dataset
    from ..defences.defence import Defence
    from ..models.quantnet import QuantNet
    from ..train import Trained, TrainOptions
    from ..train_group import Group
    from ..train_state import Spent


@dataclass(frozen=True, eq=False)
class Job:
    """All that a training needs, loaded. ``resolved``: the options as the manifest holds them."""

    command: Command
    net: QuantNet
    images: Dataset
    held: Dataset
    defence: Defence
    options: TrainOptions
    resolved: dict[str, Json]


class Answer(NamedTuple):
    """``accuracies`` on ``images`` test images by width; ``measured``: what the training took."""

    accuracies: dict[int, float]
    images: int
    measured: dict[str, Json]


def prepared(command: Command, group: Group) -> Job:
    """Images, network and defence of ``command``, on the device of ``group``."""
    import torch

    from ..data import load
    from ..defences import recipes
    from ..defences.options import as_json as options_json
    from ..models import checkpoint
    from ..models.prepare import prepare
    from ..models.weights import load_weights, public_pixels
    from ..train import TrainOptions
    from ..train_log import require_tensorboard
    from ..train_phases import phases_of

    if command.tensorboard:
        require_tensorboard()
    init = Path(command.init) if command.init else None
    defence, recipe = recipes.build(command.recipe, settings=command.settings, seed=command.seed)
    images = load(command.data, "train", root=command.data_root, limit=command.limit)
    held = load(command.data, "calibration", root=command.data_root)
    classes, size_px = len(images.class_names), images.images.shape[-1]
    torch.manual_seed(command.seed)  # of the first weights
    module = checkpoint.build_model(
        command.model, classes=classes, pixel_input=public_pixels() if init else None
    )
    if init:
        load_weights(module, init)
    net = prepare(module, command.spec, widths=command.widths, classes=classes, image_px=size_px)
    float_epochs, epochs = epochs_of(command, defence, group=group)
    chosen = TrainOptions(
        epochs=epochs, float_epochs=float_epochs, batch=command.batch, lr=command.peak_lr,
        later_lr=command.later_lr, attack_precision=command.precision, seed=command.seed,
    )  # fmt: skip
    phases = phases_of(net, defence, options=chosen, per_epoch=len(images))
    resolved: dict[str, Json] = {
        "recipe": defence.name, "recipe_options": options_json(recipe), "data": command.data,
        "model": command.model, "bits": list(command.widths), "seed": command.seed,
        "epochs": chosen.epochs, "float_epochs": chosen.float_epochs, "limit": command.limit,
        "lr": chosen.lr, "peak_lr": {phase.label: phase.lr for phase in phases if phase.steps},
        "momentum": chosen.momentum, "weight_decay": chosen.weight_decay,
        "batch": chosen.batch, "scales": command.scales,
        "attack_precision": chosen.attack_precision,
        "init": init.name if init else None, "threads": command.threads,
        "device": group.device.type, "processes": group.size,
    }  # fmt: skip
    return Job(command, net.to(group.device), images, held, defence, chosen, resolved)


def epochs_of(command: Command, defence: Defence, *, group: Group) -> tuple[float, float]:
    """The float epochs of ``command``, and those of its recipe.

    At width 32 alone plain training is float epochs and nothing else: ``--epochs`` are those, and
    what both options say of them differently is said.
    """
    from ..defences.plain import Plain

    if command.widths != (FLOAT_BITS,) or not isinstance(defence, Plain):
        return command.first_epochs, command.epochs
    asked = command.epochs if command.float_epochs is None else command.float_epochs
    if asked != command.epochs and group.is_first:
        console.say(
            f"--bits {FLOAT_BITS} has float epochs only: it trains the {asked:g} of "
            f"--float-epochs, and the {command.epochs:g} of --epochs count for nothing"
        )
    return asked, 0


def fit(job: Job, target: Run) -> Trained:
    """Train, or go on with what is unfinished in ``target``."""
    from ..train import train

    return train(
        job.net, job.images, calibration=job.held, defence=job.defence, options=job.options,
        log=target.log, state=target.train_state, command=job.command.as_json(),
        tensorboard=target.tensorboard if job.command.tensorboard else None,
    )  # fmt: skip


def keep(job: Job, target: Run, *, trained: Trained) -> Answer:
    """Measure on the test images, write checkpoint and manifest; the state is then done with."""
    from ..data import load
    from ..models import checkpoint
    from ..train import evaluate

    net, command = job.net, job.command
    test = load(command.data, "test", root=command.data_root)
    accuracies = evaluate(net, test)
    facts = checkpoint.CheckpointFacts(
        model=command.model, data=command.data, classes=net.classes, image_px=net.image_px,
        widths=net.widths, spec=net.spec, class_names=job.images.class_names,
        trained_widths=trained_widths(job, trained), made_by=job.resolved,
    )  # fmt: skip
    measured = measured_of(trained.spent)
    checkpoint.save(net, target.checkpoint, facts=facts)
    record(target, "train", options=job.resolved, inputs=(target.checkpoint,), measured=measured)
    target.train_state.unlink(missing_ok=True)
    return Answer(accuracies, len(test), measured)


def trained_widths(job: Job, trained: Trained) -> tuple[int, ...]:
    """The widths that training came to; of weights that no step changed, 32 if they were given.

    A width that none of the recipe's steps came to is said.
    """
    if not any(each.steps for each in trained.spent):
        return (FLOAT_BITS,) if job.command.init and FLOAT_BITS in job.net.widths else ()
    left = [str(bits) for bits in job.net.widths if bits not in trained.widths]
    if left and job.options.epochs:
        console.say(
            f"No step was made at width {' or '.join(left)}: train longer, or in another order of "
            "the widths."
        )
    return tuple(bits for bits in job.net.widths if bits in trained.widths)


def measured_of(spent: Sequence[Spent]) -> dict[str, Json]:
    """What the phases took, one by one and together; those without a step are left out."""
    taken = [each for each in spent if each.steps]
    return {
        "phases": [{**asdict(each), "seconds": round(each.seconds, 1)} for each in taken],
        "images": sum(each.images for each in taken),
        "passes": sum(each.passes for each in taken),
        "seconds": round(sum(each.seconds for each in taken), 1),
    }
