"""What an adversarial patch does to a quantized classifier on the engine that really runs it.

import qadtr_edge as qe
with qe.open_engine("runs/latest", "ort", bits=8) as engine:
    logits = engine(images)          # (N, 3, H, W) uint8 -> (N, K) float32
net, facts = qe.load_checkpoint("zoo:qadtr-resnet20")     # a torch module; needs torch
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engines import open_engine as open_engine
    from .models.checkpoint import load_checkpoint as load_checkpoint

_HOMES = {"open_engine": "engines", "load_checkpoint": "models.checkpoint"}

__all__ = ["load_checkpoint", "open_engine"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
