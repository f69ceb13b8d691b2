"""Does a model compute the same integers on another CPU, and if not, where and what cures it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qadtr_edge.integer import judge
from qadtr_edge.integer.graph import IntegerGraph
from qadtr_edge.types import Json, Pixels

from . import facts as facts_file
from . import isa
from .emulation import prepare
from .session import X64_QUANT_PRECISION


@dataclass(frozen=True)
class OnOtherCpu:
    """A model's logits on an emulated CPU against the exact integer graph.

    - ``changed_labels``: images whose class differs.
    - ``overflows``: by layer, pairs of products beyond int16 on the images, out of all pairs; only
      layers whose bound allows one.
    - ``cured_mismatches``: logits that still differ with onnxruntime's ``x64quantprecision``;
      ``None`` when nothing had to be cured.
    """

    isa: str
    stands_for: str
    images: int
    logits_compared: int
    logit_mismatches: int
    max_abs_diff: float
    changed_labels: int
    overflows: dict[str, tuple[int, int]]
    cured_mismatches: int | None

    @property
    def holds(self) -> bool:
        return self.logit_mismatches == 0

    @property
    def first_layer(self) -> str | None:
        """The first layer that saturates on these images."""
        return next((name for name, (over, _) in self.overflows.items() if over), None)

    def as_json(self) -> dict[str, Json]:
        return {
            "isa": self.isa,
            "stands_for": self.stands_for,
            "images": self.images,
            "logits_compared": self.logits_compared,
            "logit_mismatches": self.logit_mismatches,
            "max_abs_diff": self.max_abs_diff,
            "argmax_mismatches": self.changed_labels,
            "overflows": {name: list(counts) for name, counts in self.overflows.items()},
            "first_divergent_layer": self.first_layer,
            "mismatches_with_x64quantprecision": self.cured_mismatches,
        }


def compare(graph: IntegerGraph, model: Path, *, images: Pixels, name: str) -> OnOtherCpu:
    """``model`` on the emulated CPU called ``name``, on ``images (N, 3, H, W) uint8``.

    The reference is the exact graph with the rounding of sums of x86, on Arm too: a difference
    there is one that a user would see between the two. Raises ``Unsupported`` where the emulation
    cannot be set up.
    """
    emulated = prepare(name)
    expected = judge.run(graph, images)
    found = emulated.logits(model, images, options={})
    differs = int((found != expected).sum())
    saturates = name == "avx2"
    cured = None
    if differs and saturates:
        again = emulated.logits(model, images, options={X64_QUANT_PRECISION: "1"})
        cured = int((again != expected).sum())
    return OnOtherCpu(
        isa=name,
        stands_for=emulated.machine.stands_for,
        images=len(images),
        logits_compared=expected.size,
        logit_mismatches=differs,
        max_abs_diff=float(np.abs(found - expected).max(initial=0)),
        changed_labels=int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        overflows=isa.overflows(graph, images) if saturates else {},
        cured_mismatches=cured,
    )


def cure(folder: Path) -> None:
    """Marks the engine in ``folder`` to be opened exact on x86 CPUs without VNNI."""
    recorded = facts_file.read(folder)
    assert recorded is not None, "export writes the facts beside the model"
    more = {**recorded.more, facts_file.EXACT_WITHOUT_VNNI: True}
    facts_file.write(folder, replace(recorded, more=more))
