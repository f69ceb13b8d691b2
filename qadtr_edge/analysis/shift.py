"""Quantization shift: what rounding changes layer by layer, and what deployment changes after it.

Layers are compared with the same network at width 32, on images right at every width, without and
with the patch. *Engine shift*, this project's: on all images, the share whose logits, margin sign
or label differ between the simulation, the judge and the engines at one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import console, metrics
from ..errors import BadInput
from ..resampling import number
from ..types import FLOAT_BITS, Json, Labels, Patch
from . import figure, layers, patches
from .finding import Finding, Table
from .intervals import shown
from .layers import LOOKS, LayerShift
from .scene import BATCH, ENOUGH, Scene, Viewer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float32 = NDArray[np.float32]

ROUNDING = 1e-4


@dataclass(frozen=True)
class EngineShift:
    """Two models at one width on N images, ``images`` clean or patched: how many differ.

    ``logits``: images with any logit not bit for bit equal; ``beyond``: by more than 1e-4 of the
    image's largest logit, which the order of a float sum does not explain; ``max_abs_diff``: over
    all logits;
    ``signs``: images whose margin (best wrong class minus true class) has another sign.
    """

    bits: int
    models: tuple[str, str]
    images: str
    n: int
    logits: int
    beyond: int
    max_abs_diff: float
    signs: int
    labels: int

    def as_json(self) -> dict[str, Json]:
        counts = {"logits": self.logits, "beyond_rounding": self.beyond,
                  "margin_sign": self.signs, "label": self.labels}  # fmt: skip
        row: dict[str, Json] = {
            "bits": self.bits,
            "models": list(self.models),
            "images": self.images,
            "n": self.n,
            "max_abs_diff": float(self.max_abs_diff),
        }
        for name, count in counts.items():
            interval = metrics.wilson(count, self.n)
            row[name] = {
                "count": count,
                "share": number(count / self.n),
                "low": number(interval.low),
                "high": number(interval.high),
            }
        return row


def analyse(scene: Scene, viewers: Sequence[Viewer], *, chosen: patches.Chosen) -> Finding:
    """Shift of every layer at every width, and of every pair of ``viewers`` at one width.

    At width 32 the distances are 0; its energy ratios are what those of the others compare with.

    Raises ``BadInput`` when the network does not hold width 32, which the others are compared with.
    """
    assert isinstance(chosen.patch, Patch)
    widths = [bits for bits in scene.widths if bits != FLOAT_BITS]
    if not widths:
        raise BadInput(
            "Shift is against width 32, and no other width was chosen.",
            "Give an integer width: --bits 8,4.",
        )
    scene.net.select(FLOAT_BITS)
    data = scene.correct
    places = patches.placed(scene, data, patch_px=chosen.patch.mask.shape)
    height, width = data.images.shape[2:]
    looks = {"clean": data.images,
             "patched": patches.shown_all(chosen.patch, data, places=places)}  # fmt: skip
    region = patches.covered(places, mask=chosen.patch.mask, image_px=(height, width))
    with console.Progress("Layers", 2 * len(data), unit="images") as bar:
        seen = layers.observe(
            scene.net, looks, region=region, widths=scene.widths, advance=bar.advance
        )
    rows = layers.summed_up(scene.net, seen, seed=scene.seed)
    apart = engine_shifts(scene, viewers, patch=chosen.patch)
    return Finding(
        {
            "patch": chosen.as_json(),
            "placement": patches.PLACEMENT,
            "layers": [_layer_json(row) for row in rows],
            "largest": [_largest(rows, bits) for bits in widths],
            "engine_shift": [row.as_json() for row in apart],
        },
        tables=(
            _layer_table(rows, n=len(data), chosen=chosen),
            _largest_table(rows, widths),
            _engine_table(apart),
        ),
        draw=lambda drawn: _draw(rows, drawn),
        size_in=(10.0, 4.2),
        notes=_notes(len(data), apart),
    )


def engine_shifts(scene: Scene, viewers: Sequence[Viewer], *, patch: Patch) -> list[EngineShift]:
    """Every pair of viewers at one width, on all images, clean and with the patch; same bytes."""
    data = scene.test
    places = patches.placed(scene, data, patch_px=patch.mask.shape)
    logits: dict[tuple[Viewer, str], Float32] = {}
    starts = range(0, len(data), BATCH)
    with console.Progress("Models", len(viewers), unit="models") as bar:
        for viewer in viewers:
            logits[viewer, "clean"] = viewer.subject.clean
            logits[viewer, "patched"] = np.concatenate(
                [
                    viewer.subject.model(
                        patches.shown(patch, data, places=places, part=slice(at, at + BATCH))
                    )
                    for at in starts
                ]
            )
            bar.advance()
    return [
        differing(logits[a, look], logits[b, look], labels=data.labels, bits=a.bits,
                  models=(a.name, b.name), images=look)
        for a, b in combinations(viewers, 2)
        if a.bits == b.bits
        for look in LOOKS
    ]  # fmt: skip


def differing(
    a: Float32, b: Float32, *, labels: Labels, bits: int, models: tuple[str, str], images: str
) -> EngineShift:
    """How two models' logits ``(N, K)`` differ on the same images."""
    signs = [np.sign(metrics.margins(logits, labels)) for logits in (a, b)]
    said = [metrics.predicted(logits) for logits in (a, b)]
    return EngineShift(
        bits,
        models,
        images,
        n=len(labels),
        logits=int((a != b).any(axis=1).sum()),
        beyond=int((np.abs(a - b) > ROUNDING * np.abs(a).max(axis=1, keepdims=True)).any(1).sum()),
        max_abs_diff=float(np.abs(a - b).max(initial=0.0)),
        signs=int((signs[0] != signs[1]).sum()),
        labels=int((said[0] != said[1]).sum()),
    )


def _layer_json(row: LayerShift) -> Json:
    return {
        "layer": row.layer,
        "bits": row.bits,
        "clean": row.clean.as_json(),
        "patched": row.patched.as_json(),
        "added": number(row.added),
        "energy_ratio": row.energy.as_json(),
    }


def _at(rows: list[LayerShift], bits: int) -> list[LayerShift]:
    """The layers at one width; the last is the logits."""
    return [row for row in rows if row.bits == bits]


def _named(rows: list[LayerShift], bits: int) -> tuple[str, str]:
    """The layer that is farthest from its float self, and the one that adds most."""
    own = _at(rows, bits)
    farthest = int(np.nanargmax([row.clean.value for row in own]))
    adding = int(np.nanargmax([row.added for row in own]))
    return own[farthest].layer, own[adding].layer


def _largest(rows: list[LayerShift], bits: int) -> Json:
    farthest, adding = _named(rows, bits)
    return {"bits": bits, "farthest_layer": farthest, "adds_most": adding}


def _notes(n: int, apart: list[EngineShift]) -> tuple[str, ...]:
    notes = []
    if not apart:
        notes.append("Nothing is exported at these widths, so there is no engine shift to measure")
    if n < ENOUGH:
        notes.append(f"Only {n} images are right at every width; at least {ENOUGH} are wanted")
    return tuple(notes)


def _layer_table(rows: list[LayerShift], *, n: int, chosen: patches.Chosen) -> Table:
    widths = list(dict.fromkeys(row.bits for row in rows))
    columns = zip(*(_at(rows, bits) for bits in widths), strict=True)
    body = []
    for across in columns:
        cells = [
            f"{shown(row.clean.value)} / {shown(row.patched.value)} / {shown(row.energy.value)}"
            for row in across
        ]
        body.append((across[0].layer, *cells))
    return Table(
        f"Distance from width 32 clean / patched, energy ratio of the patch; {n} images; "
        f"patch: {chosen.spoken}",
        ("layer", *(f"{bits}-bit" for bits in widths)),
        tuple(body),
    )


def _largest_table(rows: list[LayerShift], widths: Sequence[int]) -> Table:
    body = [(str(bits), *_named(rows, bits), shown(_at(rows, bits)[-1].clean.value),
             shown(_at(rows, bits)[-1].patched.value)) for bits in widths]  # fmt: skip
    columns = ("bits", "farthest layer", "layer that adds most", "logits, clean", "patched")
    return Table("Largest shifts", columns, tuple(body))


def _engine_table(apart: list[EngineShift]) -> Table:
    body = [
        (
            str(row.bits),
            f"{row.models[0]} - {row.models[1]}",
            row.images,
            str(row.n),
            *(
                f"{100 * count / row.n:.1f} %"
                for count in (row.logits, row.beyond, row.signs, row.labels)
            ),
            f"{row.max_abs_diff:.2g}",
        )
        for row in apart
    ]
    columns = ("bits", "models", "shown", "images", "logits differ",
               "beyond rounding", "margin sign", "label",
               "largest difference")  # fmt: skip
    return Table("Engine shift: images that two models see differently", columns, tuple(body))


def _draw(rows: list[LayerShift], drawn: Figure) -> None:
    widths = list(dict.fromkeys(row.bits for row in rows))
    left, right = drawn.subplots(1, 2, squeeze=False)[0]
    names = [row.layer for row in _at(rows, widths[0])]
    x = np.arange(len(names))
    for at, bits in enumerate(widths):
        own, colour = _at(rows, bits), figure.COLOURS[at % len(figure.COLOURS)]
        for look, style in (("clean", "o-"), ("patched", "x:")):
            found = [row.clean if look == "clean" else row.patched for row in own]
            left.plot(x, [e.value for e in found], style, color=colour, markersize=3,
                      label=f"{bits}-bit" if look == "clean" else None)  # fmt: skip
        ends = np.array([(row.energy.low, row.energy.high) for row in own]).T
        right.vlines(x, ends[0], ends[1], color=colour, linewidth=0.8)
        right.plot(x, [row.energy.value for row in own], "o", color=colour, markersize=3)
    right.axhline(1.0, color=figure.GREY, linewidth=0.8)
    left.set_title("distance from width 32 (dotted: patched)")
    right.set_title("energy ratio: under the patch against elsewhere")
    left.legend(fontsize=7)
    for axis in (left, right):
        axis.set_xticks(x, names, rotation=90, fontsize=6)
        axis.set_ylim(bottom=0.0)
