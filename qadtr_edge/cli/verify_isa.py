"""``verify --isa``: the same model on other CPUs, emulated, and the cure where it differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from .. import console, registry, streams
from ..engines import artefact_of
from ..errors import BadInput, UnknownName
from ..integer import graph_file
from ..runs import Run, width_name
from ..types import Json, Pixels
from . import options

IMAGES = 20
"""Emulation is slow: these many clean images, and as many with a patch, unless told otherwise."""


@dataclass(frozen=True)
class Row:
    """One engine file on one emulated CPU. ``document``: what was counted, by its JSON names."""

    bits: int
    document: dict[str, Json]
    fixed: bool

    @property
    def holds(self) -> bool:
        return self.document["logit_mismatches"] == 0 or self.fixed


def names(text: str) -> tuple[str, ...]:
    """The CPUs of a comma-separated option."""
    known = registry.names("isa")
    chosen = options.split(text)
    for name in chosen:
        if name not in known:
            raise UnknownName("instruction set", name, known)
    if not chosen:
        raise BadInput("No instruction set was named.", f"Known: {', '.join(known)}.")
    return chosen


def check(
    run: Run, bits: int, *, isas: Sequence[str], images: Pixels, patched: Pixels | None, seed: int,
    fix: bool,
) -> list[Row]:  # fmt: skip
    """The onnxruntime model of ``run`` at this width on each CPU, on clean and patched images.

    ``patched``: without them, the same images with squares of bytes at the rails.
    With ``fix``, a model that a session option cures is marked to be opened with it.
    """
    hard = with_squares(images, seed=seed) if patched is None else patched
    shown = np.concatenate([images, hard])
    graph = graph_file.load(run.graph(bits))
    model = artefact_of(run, "ort", bits=bits)
    rows = []
    for name in isas:
        console.say(f"Emulating {name}: ort {width_name(bits)} on {len(shown)} images …")
        compare = cast("Callable[..., _Found]", registry.resolve("isa", name))
        found = compare(graph, model, images=shown, name=name)
        cured = found.cured_mismatches == 0
        if fix and cured:
            cast("Callable[[Path], None]", registry.resolve("cure", name))(model.parent)
        rows.append(Row(bits, found.as_json(), fixed=fix and cured))
    return rows


class _Found(Protocol):
    """What a comparison tells: ``export.other_cpu.OnOtherCpu``."""

    @property
    def cured_mismatches(self) -> int | None: ...

    def as_json(self) -> dict[str, Json]: ...


def with_squares(images: Pixels, *, seed: int) -> Pixels:
    """``images (N, 3, H, W)`` with a square of bytes 0 and 255 on a quarter of each side.

    The strongest input a patch can be for saturation: every byte at a rail.
    """
    patched = images.copy()
    side_px = max(1, images.shape[2] // 4)
    noise = streams.generator(seed, "isa").integers(0, 2, (len(images), 3, side_px, side_px))
    top = (images.shape[2] - side_px) // 2
    left = (images.shape[3] - side_px) // 2
    patched[:, :, top : top + side_px, left : left + side_px] = 255 * noise.astype(np.uint8)
    return patched


def show(rows: Sequence[Row]) -> None:
    """The rows as a table on stdout, and for each that differs the layer and the cure."""
    console.print_table(
        ["values", "CPU", "images", "logits that differ", "largest difference",
         "classes that differ", "saturates in"],
        [
            [
                width_name(row.bits),
                f"{row.document['isa']} ({row.document['stands_for']})",
                str(row.document["images"]),
                f"{row.document['logit_mismatches']:,} of {row.document['logits_compared']:,}",
                f"{row.document['max_abs_diff']:g}",
                str(row.document["argmax_mismatches"]),
                str(row.document["first_divergent_layer"] or "-"),
            ]
            for row in rows
        ],
        title="The same model on other CPUs, emulated",
    )  # fmt: skip
    for row in rows:
        if row.document["logit_mismatches"]:
            console.say(f"ort {width_name(row.bits)} on {row.document['isa']}: {_cure(row)}")


def _cure(row: Row) -> str:
    left = row.document["mismatches_with_x64quantprecision"]
    if row.fixed:
        return "cured: it is now opened with session.x64quantprecision on CPUs without VNNI."
    if left == 0:
        return (
            "session.x64quantprecision cures it at half the speed: add --fix; or export from a "
            "checkpoint quantized with avx2_safe, whose weights read images within [-64, 64]."
        )
    return "no session option cures it; quantize again with tied scales and avx2_safe."
