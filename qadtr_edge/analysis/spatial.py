"""Spatial sensitivity: how often one patch wins at each place, on every model that is shown it.

The patch stands upright at every corner of a grid, on every image; a noise square of its shape
stands beside it, because an occluded object is missed where it is, attack or not. Each model is
judged on the images it labels rightly itself; success is any wrong label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import console, metrics
from ..attacks import controls
from ..attacks.universal import only
from ..data.dataset import Dataset
from ..patch.placement import LARGE_IMAGE_PX, check_fit, policy
from ..resampling import Estimate, estimate, number, resampled_sums
from ..types import Json, Labels, Patch, PatchPerImage, Placements
from . import patches
from .finding import Finding, Table
from .intervals import percent
from .scene import BATCH, ENOUGH, SIMULATION, Flags, Scene, Viewer, able

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTACK, NOISE = "patch", "noise"


@dataclass(frozen=True, eq=False)
class Grid:
    """Top-left corners: every one of ``tops`` (rows) with every one of ``lefts`` (columns)."""

    tops: Labels
    lefts: Labels

    @property
    def corners(self) -> list[tuple[int, int]]:
        """P places, row by row."""
        return [(int(top), int(left)) for top in self.tops for left in self.lefts]

    @property
    def central(self) -> Labels:
        """Indices of the four places nearest the middle of the grid; ties in reading order."""
        middle = [(side[0] + side[-1]) / 2 for side in (self.tops, self.lefts)]
        far = [(top - middle[0]) ** 2 + (left - middle[1]) ** 2 for top, left in self.corners]
        return np.argsort(far, kind="stable")[:4]

    @property
    def outermost(self) -> Labels:
        """Indices of the (up to four) corner places."""
        wide, high = len(self.lefts), len(self.tops)
        return np.unique([0, wide - 1, (high - 1) * wide, high * wide - 1])


@dataclass(frozen=True, eq=False)
class Map:
    """One model under one patch: ``fooled (P, N) bool`` by place, ``able (N,) bool`` images."""

    viewer: Viewer
    shown: str
    fooled: Flags
    able: Flags

    @property
    def rates(self) -> NDArray[np.float64]:
        """Success at each place, ``(P,)``."""
        found: NDArray[np.float64] = self.fooled.sum(axis=1) / int(self.able.sum())
        return found


@dataclass(frozen=True)
class Summary:
    """What a map comes to; intervals resample images, all places of an image together."""

    mean: Estimate
    minimum: Estimate
    maximum: Estimate
    centre_minus_corner: Estimate


def grid(
    image_px: tuple[int, int], patch_px: tuple[int, int], *, stride: int | None = None
) -> Grid:
    """Every ``stride`` pixels from the corner on: 2, or 29 from 96-pixel images on.

    Raises ``BadInput`` when the patch does not fit.
    """
    check_fit(policy("plain", image_px=min(image_px)), patch_px, image_px=image_px)
    step = stride or (2 if min(image_px) < LARGE_IMAGE_PX else 29)
    tops, lefts = (
        np.arange(0, outer - inner + 1, step)
        for outer, inner in zip(image_px, patch_px, strict=True)
    )
    return Grid(tops, lefts)


def analyse(
    scene: Scene, viewers: Sequence[Viewer], *, chosen: patches.Chosen, stride: int | None = None
) -> Finding:
    """The maps of every viewer, of the patch and of a noise square beside it."""
    patch = chosen.patch
    assert isinstance(patch, Patch)
    height, width = scene.test.images.shape[2:]
    where = grid((height, width), patch.mask.shape, stride=stride)
    clean = {viewer: able(viewer) for viewer in viewers}
    noise = controls.noise(patches.untargeted(patch), seed=scene.seed)
    maps: list[Map] = []
    with console.Progress("Places", 2 * len(where.corners), unit="places") as bar:
        for name, made in ((ATTACK, patches.untargeted(patch)), (NOISE, noise)):
            found = fooled_at(viewers, scene.test, patch=made, places=where.corners, clean=clean,
                              advance=bar.advance)  # fmt: skip
            maps += [Map(viewer, name, found[viewer], clean[viewer]) for viewer in viewers]
    summaries = [summary(each, where, seed=scene.seed) for each in maps]
    return Finding(
        {
            "patch": chosen.as_json(),
            "stride_px": int(where.tops[1] - where.tops[0]) if len(where.tops) > 1 else None,
            "tops": where.tops.tolist(),
            "lefts": where.lefts.tolist(),
            "results": [
                _as_json(each, found, maps=maps, where=where)
                for each, found in zip(maps, summaries, strict=True)
            ],
        },
        tables=(_table(maps, summaries, where=where, chosen=chosen),),
        draw=lambda drawn: _draw(maps, where, drawn=drawn),
        size_in=(1.2 + 1.9 * len({m.viewer.bits for m in maps}), 1.9 * len(_rows(maps))),
        notes=_notes(maps),
    )


def fooled_at(
    viewers: Sequence[Viewer],
    data: Dataset,
    *,
    patch: Patch | PatchPerImage,
    places: Sequence[tuple[int, int]],
    clean: dict[Viewer, Flags],
    advance: Callable[[], None],
) -> dict[Viewer, Flags]:
    """For each viewer ``(P, N) bool``: images of its own ``clean`` ones it then labels wrongly.

    All viewers are shown the same bytes, and only images that one of them labels rightly clean.
    """
    asked = np.flatnonzero(np.logical_or.reduce(list(clean.values())))
    shown = only(data, asked)
    wrong = {viewer: np.zeros((len(places), len(data)), bool) for viewer in viewers}
    zeros, ones = np.zeros(len(shown)), np.ones(len(shown))
    for number_, (top, left) in enumerate(places):
        at = Placements(top=zeros + top, left=zeros + left, degrees=zeros, scale=ones)
        for start in range(0, len(shown), BATCH):
            part = slice(start, start + BATCH)
            images = patches.shown(patch, shown, places=at, part=part)
            for viewer in viewers:
                labels = metrics.predicted(viewer.subject.model(images))
                wrong[viewer][number_, asked[part]] = labels != shown.labels[part]
        advance()
    return {viewer: wrong[viewer] & clean[viewer] for viewer in viewers}


def summary(found: Map, where: Grid, *, seed: int) -> Summary:
    """Mean, extremes and centre minus corner of a map, with bootstrap intervals over images."""
    columns = np.concatenate([found.fooled, found.able[None]]).T.astype(np.float64)
    drawn = resampled_sums(columns, seed=seed)
    rates, samples = found.rates, drawn[:, :-1] / drawn[:, -1:]
    middle, rim = where.central, where.outermost
    return Summary(
        mean=estimate(rates.mean(), samples.mean(axis=1)),
        minimum=estimate(rates.min(), samples.min(axis=1)),
        maximum=estimate(rates.max(), samples.max(axis=1)),
        centre_minus_corner=estimate(
            rates[middle].mean() - rates[rim].mean(),
            samples[:, middle].mean(axis=1) - samples[:, rim].mean(axis=1),
        ),
    )


def _differs(each: Map, maps: list[Map]) -> int | None:
    """Outcomes unlike the simulation's at that width, over places and images; ``None`` for it."""
    for other in maps:
        beside = (other.viewer.name, other.viewer.bits, other.shown)
        if beside == (SIMULATION, each.viewer.bits, each.shown) and other is not each:
            return int((other.fooled != each.fooled).sum())
    return None


def _as_json(each: Map, found: Summary, *, maps: list[Map], where: Grid) -> Json:
    fooled = each.fooled.sum(axis=1).reshape(len(where.tops), len(where.lefts))
    worst = int(each.rates.argmax())
    return {
        "model": each.viewer.name,
        "bits": each.viewer.bits,
        "precision": each.viewer.precision,
        "digest": each.viewer.subject.digest,
        "shown": each.shown,
        "eligible": int(each.able.sum()),
        "fooled": fooled.tolist(),
        "asr_mean": found.mean.as_json(),
        "asr_min": found.minimum.as_json(),
        "asr_max": found.maximum.as_json(),
        "worst_place": list(where.corners[worst]),
        "centre_minus_corner": found.centre_minus_corner.as_json(),
        "outcomes_unlike_simulation": _differs(each, maps),
        "places": len(where.corners),
        "asr_all_places": number(float(each.fooled.all(axis=0).sum() / each.able.sum())),
        "asr_any_place": number(float(each.fooled.any(axis=0).sum() / each.able.sum())),
    }


def _notes(maps: list[Map]) -> tuple[str, ...]:
    fewest = min(int(each.able.sum()) for each in maps)
    notes = ["The interval of a minimum or maximum is of the extreme itself, which is biased"]
    if fewest < ENOUGH:
        notes.append(f"Only {fewest} eligible images on some model; at least {ENOUGH} are wanted")
    return tuple(notes)


def _table(
    maps: list[Map], summaries: list[Summary], *, where: Grid, chosen: patches.Chosen
) -> Table:
    rows = []
    for each, found in zip(maps, summaries, strict=True):
        difference = found.centre_minus_corner
        unlike = _differs(each, maps)
        rows.append(
            (
                each.viewer.title,
                each.shown,
                str(int(each.able.sum())),
                percent(found.mean),
                f"{100 * found.minimum.value:.1f} %",
                f"{100 * found.maximum.value:.1f} %",
                "{}, {}".format(*where.corners[int(each.rates.argmax())]),
                f"{100 * difference.value:+.1f} "
                f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]",
                "-" if unlike is None else f"{unlike:,}",
            )
        )
    columns = ("model", "shown", "eligible", "mean ASR", "min", "max", "worst top, left",
               "centre - corner", "unlike simulation")  # fmt: skip
    title = f"Success at {len(where.corners)} places; patch: {chosen.spoken}"
    return Table(title, columns, tuple(rows))


def _rows(maps: list[Map]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((each.viewer.name, each.shown) for each in maps))


def _draw(maps: list[Map], where: Grid, *, drawn: Figure) -> None:
    rows = _rows(maps)
    widths = list(dict.fromkeys(each.viewer.bits for each in maps))
    axes = drawn.subplots(len(rows), len(widths), squeeze=False)
    most = max(0.01, *(float(each.rates.max()) for each in maps))
    picture = None
    for axis in axes.flat:
        axis.set_axis_off()
    for each in maps:
        axis = axes[rows.index((each.viewer.name, each.shown)), widths.index(each.viewer.bits)]
        axis.set_axis_on()
        picture = axis.imshow(
            100 * each.rates.reshape(len(where.tops), len(where.lefts)),
            vmin=0.0, vmax=100 * most, cmap="viridis", interpolation="none",
        )  # fmt: skip
        axis.set_title(f"{each.viewer.title}, {each.shown}")
        axis.set_xticks([0, len(where.lefts) - 1], [str(where.lefts[0]), str(where.lefts[-1])])
        axis.set_yticks([0, len(where.tops) - 1], [str(where.tops[0]), str(where.tops[-1])])
    if picture is not None:
        drawn.colorbar(picture, ax=list(axes.flat), label="success, %", shrink=0.8)
