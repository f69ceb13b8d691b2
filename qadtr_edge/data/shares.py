"""Which split an image of the user's own data belongs to.

Data without splits is cut by a hash of the file name (or of the position in an ``.npz``): 5 %
calibration, 15 % crafting patches, 40 % training, 40 % test. Adding or removing images moves no
other. Data that names its own parts keeps them:

- ``train`` is cut into 5 % calibration, 15 % craft and 80 % train, unless a part of the name
  ``calibration`` or ``craft`` is given, which then takes that role alone;
- ``test`` is the test split; without it ``val`` is; beside it ``val`` is not used;
- ``test`` or ``val`` with no ``train`` beside it gives up 5 % for calibration and 15 % for craft
  (unless those parts are given) and has no train split: who calls images held out means it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .dataset import SPLITS

PARTS = {**{split: split for split in SPLITS}, "val": "val", "valid": "val", "validation": "val"}
"""Every accepted name of a part, and what it stands for."""

WHOLE = ""
"""The part of data that names none."""

UNUSED = "unused"
"""What ``assign`` calls images that are in no split."""

_CALIBRATION, _CRAFT, _TRAIN = 0.05, 0.20, 0.60


def assign(parts: Iterable[str], draws: NDArray[np.float64]) -> NDArray[np.str_]:
    """The split of each image, ``(N,)``, or ``UNUSED``.

    ``parts`` names the part of each image, ``draws`` is its hash in [0, 1).
    """
    given = np.array([PARTS.get(part, WHOLE) for part in parts], dtype="<U16")
    there = set(given.tolist())
    if "test" not in there:
        given[given == "val"] = "test"
    given[given == "val"] = UNUSED

    carved = np.where(draws < _CALIBRATION, "calibration", np.where(draws < _CRAFT, "craft", ""))
    carved[np.isin(carved, [split for split in ("calibration", "craft") if split in there])] = ""

    result = given.copy()
    for part in ("train", WHOLE) if there & {"train", WHOLE} else ("test",):
        rest = np.where(draws < _TRAIN, "train", "test") if part == WHOLE else np.array(part)
        result = np.where(given == part, np.where(carved == "", rest, carved), result)
    return result
