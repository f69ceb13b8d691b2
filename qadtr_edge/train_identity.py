"""What makes two trainings the same: everything that decides the weights they end with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from .data.dataset import Dataset
from .defences.defence import Defence
from .defences.options import as_json
from .errors import BadInput
from .models.quantnet import QuantNet
from .types import Json


def identity(
    net: QuantNet, data: Dataset, *, calibration: Dataset, defence: Defence, options: object
) -> dict[str, Json]:
    """All that decides the trained weights, but thread count, device and number of processes.

    These three change the order of float sums, so going on with others is allowed, though not to
    the same last bit. ``net`` as it was before the first step.
    """
    made = getattr(defence, "options", None)
    quantization = {**asdict(net.spec), "widths": list(net.widths)}
    return {
        **as_json(options), "recipe": defence.name, "recipe_options": as_json(made) if made else {},
        "quantization": cast("dict[str, Json]", quantization), "first_weights": _digest(net),
        "train_images": data.digest, "calibration_images": calibration.digest,
    }  # fmt: skip


def check_same(found: Mapping[str, Json], wanted: Mapping[str, Json], *, path: Path) -> None:
    """Raises ``BadInput``, naming what differs, when ``path`` is of another training."""
    there, here = _flat(found), _flat(wanted)
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not names:
        return
    told = [
        f"other {name.replace('_', ' ')}" if len(str(here.get(name))) > 40
        else f"{name} {_spoken(there.get(name))}, not {_spoken(here.get(name))}"
        for name in names[:3]
    ]  # fmt: skip
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise BadInput(
        f"{path.parent} holds an unfinished training with {'; '.join(told)}{more}.",
        "Go on with its own options (--resume takes them from the run), name another --run, or "
        f"delete {path} to begin anew.",
    )


def _flat(value: Mapping[str, Json], *, under: str = "") -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, each in value.items():
        inside = _flat(each, under=f"{under}{name}.") if isinstance(each, dict) else None
        found |= inside if inside is not None else {f"{under}{name}": each}
    return found


def _spoken(value: Json) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _digest(net: QuantNet) -> str:
    """SHA-256 over names and values of the network's tensors."""
    sha = hashlib.sha256()
    for name, value in net.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
