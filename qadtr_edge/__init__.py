"""What an adversarial patch does to a quantized classifier on the engine that really runs it.

import qadtr_edge as qe
with qe.open_engine("runs/latest", "ort", bits=8) as engine:
    logits = engine(images)          # (N, 3, H, W) uint8 -> (N, K) float32
net, facts = qe.load_checkpoint("zoo:qadtr-resnet20")     # a torch module; needs torch
patch = qe.load_patch("patch.png")
shown = qe.paste(images, patch.pixels, mask=patch.mask, placements=where)
row, outcomes = qe.replay.replay(unit, facts, subject=subject)   # a qe.replay.Unit and .Subject
found = qe.run_suite("runs/latest", "ort", bits=8)        # as attack --suite quick: found.verdict
table = pandas.DataFrame(qe.read_results("runs/latest"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import replay as replay
    from .cli.attack_run import run_suite as run_suite
    from .engines import open_engine as open_engine
    from .models.checkpoint import load_checkpoint as load_checkpoint
    from .patch.bank import load as load_patch
    from .patch.paste import paste as paste
    from .report.flat import read_results as read_results

_HOMES = {
    "load_checkpoint": "models.checkpoint:load_checkpoint",
    "load_patch": "patch.bank:load",
    "open_engine": "engines:open_engine",
    "paste": "patch.paste:paste",
    "read_results": "report.flat:read_results",
    "replay": "replay:",
    "run_suite": "cli.attack_run:run_suite",
}
"""Public name -> module and name in it; without one the module itself."""

__all__ = [
    "load_checkpoint", "load_patch", "open_engine", "paste", "read_results", "replay", "run_suite",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, inside = _HOMES[name].partition(":")
    module = import_module(f"{__name__}.{home}")
    return getattr(module, inside) if inside else module
