"""Which data sets there are, where each is found on this machine, and under what terms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import cifar10, imagenet, signs
from .cifar10_files import ABSENT, SHEET_LABELS, sheet_labels
from .dataset import SPLITS, cache_root, data_root
from .folders import placed


@dataclass(frozen=True)
class Holding:
    """A data set as it is on this machine.

    - ``layout``: the form in which it was found, ``None`` when it was not.
    - ``path``: where it is; ``searched``: where it was looked for.
    - ``sizes``: images per split, empty when it was not found.
    """

    name: str
    layout: str | None
    path: Path | None
    searched: Path | None
    sizes: dict[str, int]
    licence: str
    note: str


def holdings(root: str | Path | None) -> tuple[Holding, ...]:
    """Every data set that has a name, found or not."""
    return (_signs(), cifar10_holding(root), _imagenet(root))


def _signs() -> Holding:
    return Holding(
        signs.NAME, "generated", None, None, dict(signs.SIZES),
        "Apache-2.0, part of this package", "made in memory, nothing to download",
    )  # fmt: skip


def cifar10_holding(root: str | Path | None) -> Holding:
    """CIFAR-10 on this machine."""
    base, found = data_root(root) or cache_root(), cifar10.locate(root)
    licence = "no formal licence; cite Krizhevsky 2009"
    if found is None:
        note = "get it: qadtr-edge data cifar10"
        return Holding(cifar10.NAME, None, None, base, {}, licence, note)
    sizes = {split: len(cifar10.split_positions(split)) for split in SPLITS}
    layout, note = found.path.name, "complete"
    if found.official is None:
        labels = sheet_labels(found.path)
        for split in SPLITS:
            present = np.flatnonzero(labels["test" if split == "test" else "train"] != ABSENT)
            sizes[split] = int(np.isin(cifar10.split_positions(split), present).sum())
        layout = f"sheets ({SHEET_LABELS})"
        note = f"{60_000 - sum(sizes.values()):,} of the 60,000 official images are absent"
    return Holding(cifar10.NAME, layout, found.path, base, sizes, licence, note)


def _imagenet(root: str | Path | None) -> Holding:
    base, folder = data_root(root) or cache_root(), imagenet.locate(root)
    licence = "ImageNet terms: non-commercial research, not redistributable"
    if folder is None:
        note = "name its folder with --data-root"
        return Holding(imagenet.NAME, None, None, base, {}, licence, note)
    _, splits = placed(imagenet.entries(folder))
    counts = Counter(splits.tolist())
    sizes = {split: counts[split] for split in SPLITS}
    return Holding(imagenet.NAME, "folder", folder, base, sizes, licence, "read picture by picture")
