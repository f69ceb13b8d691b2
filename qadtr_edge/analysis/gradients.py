"""Gradient alignment: do two widths of one network pull the pixels the same way?

Input gradients of the cross-entropy at every pair of widths, straight through the rounding, on the
images that are right at every width. **Each measure stands beside its chance level**: the same
between *different* images, which shows what a number is worth (TriQDef, arXiv 2508.12132, reports
HOG cosines of 0.81 as alignment; unrelated noise has 0.84).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from .. import console, streams
from ..attacks.victim import Victim, as_pixels, frozen
from ..craft import AtWidth
from ..errors import BadInput
from ..resampling import Estimate, means, number
from ..types import Json, Labels, Pixels, Result
from . import alignment, figure, patches, transfer
from .alignment import MEASURES, Flags, Float32, Floats, Traits
from .finding import Finding, Table
from .intervals import shown
from .scene import BATCH, ENOUGH, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHUFFLES = 4
"""Different partners each image is compared with for the chance level."""

TITLES = ("cosine", "cosine in the patch", "Edge IoU", "HOG cosine", "centred HOG")


@dataclass(frozen=True)
class Pair:
    """Two widths, on ``images`` ``clean`` or ``patched``: each measure and its chance level."""

    bits: tuple[int, int]
    images: str
    found: tuple[Estimate, ...]
    chance: tuple[Estimate, ...]

    def as_json(self) -> dict[str, Json]:
        row: dict[str, Json] = {"bits": list(self.bits), "images": self.images}
        for name, found, chance in zip(MEASURES, self.found, self.chance, strict=True):
            row[name] = {**found.as_json(), "chance": chance.as_json()}
        return row


def analyse(scene: Scene, chosen: patches.Chosen, *, rows: Iterable[Result] = ()) -> Finding:
    """The alignment of every pair of widths, clean and with the patch, each beside chance.

    ``rows``: results of the run; where they hold patches replayed at other widths than they were
    crafted at, the transfer heuristic is compared with them.

    Raises ``BadInput`` for a single width.
    """
    if len(scene.widths) < 2:
        raise BadInput(
            f"Gradients are compared between widths, and only {scene.widths[0]} was chosen.",
            "Give two or more: --bits 32,8,4.",
        )
    data = scene.correct
    places = patches.placed(scene, data, patch_px=chosen.patch.mask.shape)
    height, width = data.images.shape[2:]
    region = patches.covered(places, mask=chosen.patch.mask, image_px=(height, width))
    looks = {
        "clean": data.images,
        "patched": patches.shown_all(chosen.patch, data, places=places),
    }
    pairs: list[Pair] = []
    vanished: list[Json] = []
    total = len(looks) * len(scene.widths)
    with console.Progress("Gradients", total, unit="passes") as bar:
        for name, images in looks.items():
            at_width: dict[int, Traits] = {}
            for bits in scene.widths:
                found = input_gradients(AtWidth(scene.net, bits), images, labels=data.labels)
                at_width[bits] = alignment.traits(found)
                vanished.append(_vanished(bits, name, at_width[bits].alive))
                bar.advance()
            pairs += compared(at_width, name, region=region, seed=scene.seed)
    carried = transfer.compared(_heuristic(pairs), rows)
    return Finding(
        {
            "patch": chosen.as_json(),
            "shuffles": SHUFFLES,
            "pairs": [pair.as_json() for pair in pairs],
            "vanished": vanished,
            "transfer": carried,
        },
        tables=(
            _table(pairs, n=len(data), chosen=chosen),
            _vanished_table(vanished, n=len(data)),
            *([_transfer_table(carried)] if carried else []),
        ),
        draw=lambda drawn: _draw(pairs, drawn),
        size_in=(11.0, 3.2),
        notes=_notes(len(data)),
    )


def input_gradients(victim: Victim, images: Pixels, *, labels: Labels) -> Float32:
    """d cross-entropy / d pixel of each image, ``(N, 3, H, W)``, pixels counted from 0 to 1."""
    parts = []
    with frozen(victim):
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            pixels = as_pixels(images[part]).requires_grad_(True)
            loss = functional.cross_entropy(
                victim(pixels), torch.from_numpy(labels[part]), reduction="sum"
            )
            (gradient,) = torch.autograd.grad(loss, pixels)
            parts.append((255.0 * gradient).contiguous().numpy())
    return np.concatenate(parts)


def compared(at_width: dict[int, Traits], images: str, *, region: Flags, seed: int) -> list[Pair]:
    """Every pair of widths: means over images, and over images paired with others."""
    n = len(region)
    partners = list(strangers(n, seed=seed))
    found = []
    for first, second in combinations(at_width, 2):
        a, b = at_width[first], at_width[second]
        own = alignment.measures(a, b, region=region)
        apart = np.full_like(own, np.nan)
        if partners:
            each = [alignment.measures(a, b, region=region, pairs=other) for other in partners]
            apart = _known_mean(np.stack(each))
        estimates = means(np.concatenate([own, apart], axis=1), seed=seed)
        width = len(MEASURES)
        found.append(
            Pair((first, second), images, tuple(estimates[:width]), tuple(estimates[width:]))
        )
    return found


def strangers(n: int, *, seed: int) -> Iterator[Labels]:
    """``SHUFFLES`` times another image for each of ``n``: never itself, each other one once."""
    order = streams.generator(seed, "gradients", "strangers").permutation(n)
    for step in range(1, min(SHUFFLES, n - 1) + 1):
        other = np.empty(n, np.int64)
        other[order] = np.roll(order, step)
        yield other


def _known_mean(values: Floats) -> Floats:
    """Mean over the first axis of what is not NaN."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def _vanished(bits: int, images: str, alive: Flags) -> dict[str, Json]:
    count = int((~alive).sum())
    share = number(count / len(alive))
    return {"bits": bits, "images": images, "count": count, "share": share}


def _notes(n: int) -> tuple[str, ...]:
    notes = [
        "Images whose gradient vanishes (norm below 1e-8, pixels from 0 to 1) have no direction "
        "and are left out of the means",
        "Plain HOG and Edge IoU are well above 0 for unrelated gradients: read each number beside "
        "its chance level",
    ]
    if n < ENOUGH:
        notes.append(f"Only {n} images; at least {ENOUGH} are wanted")
    return tuple(notes)


def _table(pairs: list[Pair], *, n: int, chosen: patches.Chosen) -> Table:
    rows = [
        (
            f"{pair.bits[0]}-{pair.bits[1]}",
            pair.images,
            *(
                f"{shown(found.value)} ({shown(chance.value)})"
                for found, chance in zip(pair.found, pair.chance, strict=True)
            ),
        )
        for pair in pairs
    ]
    return Table(
        f"Input gradients on {n} images, chance level in brackets; patch: {chosen.spoken}",
        ("bits", "images", *TITLES),
        tuple(rows),
    )


def _vanished_table(vanished: list[Json], *, n: int) -> Table:
    counts: dict[str, list[str]] = {}
    for row in vanished:
        assert isinstance(row, dict)
        counts.setdefault(str(row["bits"]), []).append(f"{row['count']} of {n}")
    return Table(
        "Images whose gradient vanishes (norm below 1e-8)",
        ("bits", "clean", "patched"),
        tuple((bits, *found) for bits, found in counts.items()),
    )


def _heuristic(pairs: list[Pair]) -> dict[tuple[int, int], float]:
    """Cosine + Edge IoU + HOG cosine with the patch on the images, by pair of widths."""
    used = [MEASURES.index(name) for name in ("cosine", "edge_iou", "hog_cosine")]
    return {
        pair.bits: sum(pair.found[at].value for at in used)
        for pair in pairs
        if pair.images == "patched"
    }


def _transfer_table(carried: dict[str, Json]) -> Table:
    rows = []
    assert isinstance(carried["pairs"], list)
    for pair in carried["pairs"]:
        assert isinstance(pair, dict)
        names = ("crafted_at", "replayed_at", "heuristic", "asr")
        rows.append(tuple(str(pair[name]) for name in names))
    rank = carried["spearman"]
    spoken = (
        "no rank correlation: fewer than three pairs of widths, or no difference between them"
        if rank is None
        else f"Spearman {rank} over {carried['pairs_ranked']} pairs of widths (p {carried['p']})"
    )
    return Table(
        f"Transfer heuristic against measured transfer on {carried['engine']}: {spoken}",
        ("crafted at", "replayed at", "heuristic", "ASR"),
        tuple(rows),
    )


def _draw(pairs: list[Pair], drawn: Figure) -> None:
    axes = drawn.subplots(1, len(MEASURES), squeeze=False)[0]
    labels = list(dict.fromkeys(f"{pair.bits[0]}-{pair.bits[1]}" for pair in pairs))
    for at, (axis, title) in enumerate(zip(axes, TITLES, strict=True)):
        for shift, name in ((-0.15, "clean"), (0.15, "patched")):
            own = [pair for pair in pairs if pair.images == name]
            x = np.arange(len(own)) + shift
            middle = np.array([pair.found[at].value for pair in own])
            ends = np.array([(pair.found[at].low, pair.found[at].high) for pair in own]).T
            colour = figure.COLOURS[0 if name == "clean" else 3]
            axis.vlines(x, ends[0], ends[1], color=colour)
            axis.plot(x, middle, "o", color=colour, markersize=4, label=name)
            chance = [pair.chance[at].value for pair in own]
            axis.plot(
                x, chance, "_", color=figure.GREY, markersize=9,
                label="chance" if name == "patched" else None,
            )  # fmt: skip
        axis.set_title(title)
        axis.set_xticks(range(len(labels)), labels, rotation=90)
        axis.set_ylim(min(-0.1, *axis.get_ylim()), 1.02)
    axes[0].set_xlabel("widths, bits")
    axes[-1].legend(fontsize=7)
