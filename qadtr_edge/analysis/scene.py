"""What every analysis looks at: a network at several widths, test images, and who is shown them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import metrics, replay
from ..attacks.universal import only
from ..attacks.victim import logits_of
from ..craft import AtWidth
from ..data.dataset import Dataset
from ..errors import BadInput
from ..integer import graph_file
from ..integer.graph import IntegerGraph
from ..integer.judge import Judge
from ..models.quantnet import QuantNet
from ..types import Engine

BATCH = replay.BATCH
ENOUGH = 500
"""Images, right at every width, below which the method calls an analysis too small."""

SIMULATION, JUDGE = "simulation", "judge"

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Viewer:
    """A model that is shown the bytes: the simulation, the judge, or an engine by its name.

    ``precision``: what it computes in, as observed of an engine. ``subject.digest`` stands for
    everything that can change its answers.
    """

    name: str
    bits: int
    precision: str
    subject: replay.Subject

    @property
    def title(self) -> str:
        return f"{self.name} {self.bits}-bit"


@dataclass(frozen=True, eq=False)
class Scene:
    """A network, the widths it is looked at, and the images it is shown.

    - ``digest``: SHA-256 of the checkpoint ``net`` was read from.
    - ``test``: N test images; ``right``: ``(N,) bool``, those the simulation labels rightly at
      every one of ``widths``, so that all widths can be compared on the same images.
    - ``seed``: of places, noise and resampling.
    """

    net: QuantNet
    digest: str
    widths: tuple[int, ...]
    test: Dataset
    right: Flags
    seed: int

    @property
    def correct(self) -> Dataset:
        """The images that are right at every width."""
        return only(self.test, self.right)


def look(
    net: QuantNet,
    load: Callable[[int], Dataset],
    *,
    widths: Sequence[int],
    wanted: int,
    seed: int,
    digest: str,
) -> Scene:
    """The scene with ``wanted`` images right at every width, and no more images than that takes.

    ``load`` gives the first n images of the test split, or all it has. Images are taken in its
    order, so a larger ``wanted`` extends a smaller one. Raises ``BadInput`` for a width that the
    network does not hold, and when no image is right at every width.
    """
    for bits in widths:
        net.select(bits)
    limit = wanted + wanted // 4 + 8
    while True:
        test = load(limit)
        right = np.ones(len(test), bool)
        for bits in widths:
            right &= metrics.predicted(logits_of(AtWidth(net, bits), test.images)) == test.labels
        if int(right.sum()) >= wanted or len(test) < limit:
            break
        limit *= 2
    if not right.any():
        raise BadInput(
            f"None of the {len(test)} test images is classified rightly at every width.",
            "Check that --data is what the model was trained on, or leave a width out of --bits.",
        )
    last = int(np.flatnonzero(right)[:wanted][-1]) + 1
    end = last if int(right.sum()) >= wanted else len(test)
    chosen = np.arange(end)
    return Scene(net, digest, tuple(widths), only(test, chosen), right[:end], seed)


def simulation(scene: Scene, bits: int) -> Viewer:
    """The fake-quantized network at a width."""
    net = AtWidth(scene.net, bits).eval()
    subject = replay.Subject(
        lambda images: logits_of(net, images), f"{scene.digest}@{bits}", scene.test, BATCH
    )
    return Viewer(SIMULATION, bits, "float", subject)


def judge(scene: Scene, graph: IntegerGraph, *, bits: int) -> Viewer:
    """The exact execution of the integer graph of a width."""
    subject = replay.Subject(Judge(graph), graph_file.digest(graph), scene.test, BATCH)
    return Viewer(JUDGE, bits, "integer", subject)


def engine(scene: Scene, running: Engine, *, bits: int) -> Viewer:
    """An engine that was opened; whoever opened it closes it."""
    facts = running.facts
    subject = replay.Subject(running, replay.engine_digest(facts), scene.test, BATCH)
    return Viewer(facts.engine, bits, facts.precision, subject)


def able(viewer: Viewer) -> Flags:
    """The images this very model labels rightly without a patch, ``(N,) bool``.

    Raises ``BadInput`` when there is none.
    """
    data = viewer.subject.data
    found = metrics.eligible(metrics.predicted(viewer.subject.clean), data.labels)
    if not found.any():
        raise BadInput(
            f"{viewer.title} is right on none of the {len(data)} images.",
            "Check that --data is what the model was trained on, or give more --images.",
        )
    return found
