"""How far each layer of a network is from its own float self, and how far a patch excites it.

Activations are those a layer hands on: after batch norm, ReLU and rounding. Both measures are this
project's; the thesis that patches keep more energy than images after quantization is that of
arXiv 2411.15246.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..attacks.victim import as_pixels
from ..models.quantnet import QuantNet
from ..models.steps import MOVES, Step
from ..resampling import Estimate, estimate, means, resampled_sums
from ..types import FLOAT_BITS, Pixels
from .scene import BATCH, Flags

Floats = NDArray[np.float64]

LOOKS = ("clean", "patched")


@dataclass(frozen=True)
class LayerShift:
    """One layer at one width.

    - ``clean``, ``patched``: ``|phi_b - phi_32| / |phi_32|``, L2 over the layer, mean over images.
    - ``added``: the clean distance less the largest of the layers it reads: what it adds itself.
    - ``energy``: mean |phi| under the patch over mean |phi| elsewhere, divided by the same ratio
      without the patch (each mean over all images first); NaN where a layer has no places.
    """

    layer: str
    bits: int
    clean: Estimate
    patched: Estimate
    added: float
    energy: Estimate


@dataclass(frozen=True, eq=False)
class Observed:
    """Per image, L layers: distances ``(N, L)`` at a width, clean and patched, and mean |phi|.

    ``inside``, ``outside``: ``(N, L)`` of each look, over cells whose centre lies under the patch
    and over all others; NaN where an image has none of either.
    """

    distance: dict[str, Floats]
    inside: dict[str, Floats]
    outside: dict[str, Floats]


def named(net: QuantNet) -> tuple[Step, ...]:
    """The layers that compute something, the logits last; moves of codes are left out."""
    return tuple(step for step in net.steps if step.op != "input" and step.op not in MOVES)


def observe(
    net: QuantNet,
    looks: dict[str, Pixels],
    *,
    region: Flags,
    widths: Sequence[int],
    advance: Callable[[int], None],
) -> dict[int, Observed]:
    """What every layer does at each width, on ``looks`` of the same N images (``LOOKS``).

    ``region``: ``(N, H, W) bool``, where the patch is. Raises ``BadInput`` when width 32 or one of
    ``widths`` is not held.
    """
    steps, n = named(net), len(region)

    def empty() -> dict[str, Floats]:
        return {look: np.full((n, len(steps)), np.nan) for look in looks}

    found = {bits: Observed(empty(), empty(), empty()) for bits in widths}
    for look, images in looks.items():
        for start in range(0, n, BATCH):
            part = slice(start, start + BATCH)
            pixels = as_pixels(images[part])
            exact = _activations(net, pixels, bits=FLOAT_BITS, steps=steps)
            for bits in widths:
                own = exact
                if bits != FLOAT_BITS:
                    own = _activations(net, pixels, bits=bits, steps=steps)
                for at, (phi, ideal) in enumerate(zip(own, exact, strict=True)):
                    found[bits].distance[look][part, at] = distance(phi, ideal)
                    if phi.ndim == 4 and phi.shape[2] * phi.shape[3] > 1:
                        inside, outside = energy(phi, region[part])
                        found[bits].inside[look][part, at] = inside
                        found[bits].outside[look][part, at] = outside
            advance(len(pixels))
    return found


def summed_up(net: QuantNet, found: dict[int, Observed], *, seed: int) -> list[LayerShift]:
    """Every layer at every width, in execution order, with bootstrap intervals over images."""
    steps = named(net)
    rows = []
    for bits, seen in found.items():
        both = np.concatenate([seen.distance[look] for look in LOOKS], axis=1)
        distances = means(both, seed=seed)
        clean, patched = distances[: len(steps)], distances[len(steps) :]
        ratios = _energy_ratios(seen, seed=seed)
        reached = _distance_read(net, {s.name: e.value for s, e in zip(steps, clean, strict=True)})
        rows += [
            LayerShift(step.name, bits, clean[at], patched[at],
                       added=clean[at].value - reached[step.name], energy=ratios[at])
            for at, step in enumerate(steps)
        ]  # fmt: skip
    return rows


def distance(phi: Floats, ideal: Floats) -> Floats:
    """Relative L2 distance of each image's activations, ``(N,)``; NaN where ``ideal`` is all 0."""
    n = len(phi)
    off = np.linalg.norm((phi - ideal).reshape(n, -1), axis=1)
    size = np.linalg.norm(ideal.reshape(n, -1), axis=1)
    ratio: Floats = np.divide(off, size, out=np.full(n, np.nan), where=size > 0)
    return ratio


def energy(phi: Floats, region: Flags) -> tuple[Floats, Floats]:
    """Mean |phi| ``(N,)`` over cells whose centre lies under the patch, and over all others.

    ``phi`` is ``(N, C, h, w)``, ``region`` ``(N, H, W) bool``. NaN where there is no such cell.
    """
    rows, columns = (
        (2 * np.arange(cells) + 1) * pixels // (2 * cells)
        for cells, pixels in zip(phi.shape[2:], region.shape[1:], strict=True)
    )
    under = region[:, rows][:, :, columns]
    strength = np.abs(phi).mean(axis=1)
    sides = []
    for cells in (under, ~under):
        count = cells.sum(axis=(1, 2))
        total = (strength * cells).sum(axis=(1, 2))
        sides.append(np.divide(total, count, out=np.full(len(phi), np.nan), where=count > 0))
    return sides[0], sides[1]


def _energy_ratios(seen: Observed, *, seed: int) -> list[Estimate]:
    """The energy ratio of every layer; images where it is not defined are left out."""
    sums = [side[look] for look in LOOKS for side in (seen.inside, seen.outside)]
    known = np.logical_and.reduce([np.isfinite(each) for each in sums])
    columns = np.concatenate([np.where(known, each, 0.0) for each in sums], axis=1)
    width = known.shape[1]

    def ratio(totals: Floats) -> Floats:
        clean_in, clean_out, in_, out = (
            totals[:, at * width : (at + 1) * width] for at in range(4)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = (in_ / out) / (clean_in / clean_out)
        return found

    value = ratio(columns.sum(axis=0, keepdims=True))[0]
    samples = ratio(resampled_sums(columns, seed=seed))
    return [estimate(value[at], samples[:, at]) for at in range(width)]


def _distance_read(net: QuantNet, by_layer: dict[str, float]) -> dict[str, float]:
    """The largest distance among the layers each step reads, past moves; 0 for pixels."""
    carried: dict[str, float] = {}
    read: dict[str, float] = {}
    for step in net.steps:
        read[step.name] = max((carried[name] for name in step.inputs), default=0.0)
        carried[step.name] = by_layer.get(step.name, read[step.name])
    return read


@torch.no_grad()
def _activations(
    net: QuantNet, pixels: torch.Tensor, *, bits: int, steps: Sequence[Step]
) -> list[Floats]:
    tensors = net.select(bits).run(pixels)
    return [tensors[step.name].contiguous().numpy().astype(np.float64) for step in steps]
