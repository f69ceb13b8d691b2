"""Patch visibility: how much of a patch must be seen for it to win, on what really runs.

Three ways to hide it, each from bytes to bytes: smaller (the patch is *rescaled*, not crafted anew,
so the curve belongs to this one patch), more transparent, flatter. A grey square, hidden alike,
stands on the same axes: what it does is occlusion. Success is any wrong label, on the images the
model labels rightly itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import console, metrics
from ..attacks import controls
from ..attacks.universal import only
from ..errors import BadInput
from ..patch import bank
from ..patch.fade import blend, contrast, resized
from ..patch.placement import LARGE_IMAGE_PX
from ..resampling import number
from ..types import Json, Patch
from . import figure, patches
from .finding import Finding, Table
from .scene import BATCH, ENOUGH, SIMULATION, Flags, Scene, Viewer, able

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = (0.25, 0.5, 0.75, 1.0)
SIZES_PX = tuple(range(3, 13))
ATTACK, GREY = "patch", "grey"
AXES = ("size", "opacity", "contrast")


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to show a patch: ``value`` on ``axis``; ``shown`` names the patch or the control."""

    axis: str
    value: float
    shown: str
    patch: Patch
    opacity: float = 1.0

    @property
    def key(self) -> tuple[str, float]:
        """Equal for settings that show equal bytes."""
        return bank.digest(self.patch), self.opacity


@dataclass(frozen=True)
class Seen:
    """How visible a setting is: share of the image it covers, mean absolute change in its mask.

    ``area``: a fraction; ``change``: in steps of a byte, over the three channels.
    """

    area: float
    change: float


@dataclass(frozen=True)
class Point:
    """What one model made of one setting."""

    viewer: Viewer
    setting: Setting
    seen: Seen
    eligible: int
    fooled: int

    @property
    def asr(self) -> float:
        return metrics.rate(self.fooled, self.eligible)

    def as_json(self) -> dict[str, Json]:
        interval = metrics.wilson(self.fooled, self.eligible)
        return {
            "model": self.viewer.name,
            "bits": self.viewer.bits,
            "precision": self.viewer.precision,
            "digest": self.viewer.subject.digest,
            "axis": self.setting.axis,
            "value": self.setting.value,
            "shown": self.setting.shown,
            "area_fraction": number(self.seen.area),
            "mean_change": number(self.seen.change),
            "eligible": self.eligible,
            "fooled": self.fooled,
            "asr": number(self.asr),
            "asr_low": number(interval.low),
            "asr_high": number(interval.high),
        }


def settings(patch: Patch, *, sizes_px: Sequence[int]) -> list[Setting]:
    """Every setting of the patch and, hidden alike, of a grey square of its shape."""
    grey = controls.grey(patch)
    found = []
    for name, made in ((ATTACK, patch), (GREY, grey)):
        found += [Setting("size", size, name, resized(made, size)) for size in sizes_px]
        found += [Setting("opacity", share, name, made, share) for share in SHARES]
        found += [Setting("contrast", share, name, contrast(made, share)) for share in SHARES]
    return found


def sizes(image_px: int) -> tuple[int, ...]:
    """3 to 12 pixels; on images of 96 pixels and more, as many times larger as 50 is than 6."""
    if image_px < LARGE_IMAGE_PX:
        return SIZES_PX
    return tuple((50 * size + 3) // 6 for size in SIZES_PX)


def analyse(scene: Scene, viewers: Sequence[Viewer], *, chosen: patches.Chosen) -> Finding:
    """Success of every viewer against every setting; sizes that do not fit are left out."""
    assert isinstance(chosen.patch, Patch)
    patch = patches.untargeted(chosen.patch)
    patches.how(scene, patch.mask.shape)
    wanted = sizes(min(scene.test.images.shape[2:]))
    fitting = [size for size in wanted if _fits(scene, resized(patch, size))]
    every = settings(patch, sizes_px=fitting)
    seen: dict[tuple[str, float], Seen] = {}
    won: dict[tuple[str, float], list[int]] = {}
    clean = [able(viewer) for viewer in viewers]
    with console.Progress("Settings", len(every), unit="settings") as bar:
        for setting in every:
            if setting.key not in seen:
                seen[setting.key], won[setting.key] = tried(scene, setting, viewers=viewers,
                                                            clean=clean)  # fmt: skip
            bar.advance()
    points = [
        Point(viewer, setting, seen[setting.key], int(flags.sum()), won[setting.key][at])
        for at, (viewer, flags) in enumerate(zip(viewers, clean, strict=True))
        for setting in every
    ]
    return Finding(
        {
            "patch": chosen.as_json(),
            "sizes": "rescaled from the one patch, nearest neighbour",
            "placement": patches.PLACEMENT,
            "results": [point.as_json() for point in points],
        },
        tables=tuple(_table(points, axis, chosen=chosen) for axis in AXES),
        draw=lambda drawn: _draw(points, drawn),
        size_in=(10.0, 3.4),
        notes=_notes(points, left_out=[size for size in wanted if size not in fitting]),
    )


def tried(
    scene: Scene, setting: Setting, *, viewers: Sequence[Viewer], clean: Sequence[Flags]
) -> tuple[Seen, list[int]]:
    """How visible the setting is, and how many of its own ``clean`` images each viewer then loses.

    All viewers are shown the same bytes.
    """
    asked = np.logical_or.reduce(list(clean))
    data, own = only(scene.test, asked), [flags[asked] for flags in clean]
    places = patches.placed(scene, data, patch_px=setting.patch.mask.shape)
    height, width = data.images.shape[2:]
    region = patches.covered(places, mask=setting.patch.mask, image_px=(height, width))
    lost, change = [0] * len(viewers), 0
    for start in range(0, len(data), BATCH):
        part = slice(start, start + BATCH)
        images = data.images[part]
        pasted = patches.shown(setting.patch, data, places=places, part=part)
        faded = blend(images, pasted, opacity=setting.opacity)
        change += int(np.abs(faded.astype(np.int32) - images).sum())
        for at, viewer in enumerate(viewers):
            labels = metrics.predicted(viewer.subject.model(faded))
            lost[at] += int(((labels != data.labels[part]) & own[at][part]).sum())
    pixels = int(region.sum())
    return Seen(pixels / region.size, change / (3 * pixels)), lost


def _fits(scene: Scene, patch: Patch) -> bool:
    if not patch.mask.any():
        return False
    try:
        patches.how(scene, patch.mask.shape)
    except BadInput:
        return False
    return True


def _notes(points: list[Point], *, left_out: list[int]) -> tuple[str, ...]:
    notes = ["Sizes are the one patch rescaled: a patch crafted for a size may win more there"]
    if left_out:
        spoken = ", ".join(map(str, left_out))
        notes.append(f"Sizes that do not fit the image are left out: {spoken} px")
    simulated = sorted({p.viewer.bits for p in points if p.viewer.name == SIMULATION})
    if simulated:
        spoken = ", ".join(map(str, simulated))
        notes.append(f"Without an exported engine, so on the simulation: {spoken} bits")
    fewest = min(point.eligible for point in points)
    if fewest < ENOUGH:
        notes.append(f"Only {fewest} eligible images on some model; at least {ENOUGH} are wanted")
    return tuple(notes)


def _table(points: list[Point], axis: str, *, chosen: patches.Chosen) -> Table:
    own = [point for point in points if point.setting.axis == axis]
    titles = list(dict.fromkeys(point.viewer.title for point in own))
    rows = []
    for value in dict.fromkeys(point.setting.value for point in own):
        at = [point for point in own if point.setting.value == value]
        first = next(point for point in at if point.setting.shown == ATTACK)
        cells = []
        for title in titles:
            asr = {p.setting.shown: p.asr for p in at if p.viewer.title == title}
            cells.append(f"{100 * asr[ATTACK]:.1f} ({100 * asr[GREY]:.1f})")
        spoken = f"{value:.0f} px" if axis == "size" else f"{value:g}"
        area, change = f"{100 * first.seen.area:.2f} %", f"{first.seen.change:.1f}"
        rows.append((spoken, area, change, *cells))
    title = f"Success in %, grey square in brackets, by {axis}; patch: {chosen.spoken}"
    return Table(title, (axis, "area", "mean change", *titles), tuple(rows))


def _draw(points: list[Point], drawn: Figure) -> None:
    panels = (("size", "area, % of the image"), ("opacity", "mean |P - x| in the mask, bytes"),
              ("contrast", "mean |P - x| in the mask, bytes"))  # fmt: skip
    axes = drawn.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    titles = list(dict.fromkeys(point.viewer.title for point in points))
    for axis, (name, label) in zip(axes, panels, strict=True):
        for at, title in enumerate(titles):
            for shown, style in ((ATTACK, "o-"), (GREY, "x:")):
                own = [
                    p for p in points
                    if (p.setting.axis, p.setting.shown, p.viewer.title) == (name, shown, title)
                ]  # fmt: skip
                _line(axis, own, style, colour=figure.COLOURS[at % len(figure.COLOURS)],
                      by_area=name == "size")  # fmt: skip
        axis.set_title(name)
        axis.set_xlabel(label)
    axes[0].set_ylabel("success, % (dotted: grey square)")
    axes[0].legend(fontsize=7)


def _line(axis: Axes, points: list[Point], style: str, *, colour: str, by_area: bool) -> None:
    x = [100 * p.seen.area if by_area else p.seen.change for p in points]
    label = points[0].viewer.title if points[0].setting.shown == ATTACK else None
    axis.plot(x, [100 * p.asr for p in points], style, color=colour, markersize=3, label=label)
